"""Gives the administrator of a running Open WebUI the password that its container was started with.

Runs inside that container, by make admin-password; it changes one row of the database.
"""

import os
import sqlite3
import sys
from contextlib import closing

DATABASE = "/app/backend/data/webui.db"


def reset(database: str, email: str, password: str) -> str:
    """What was done, in words. Raises LookupError, naming the administrators, for no such one."""
    from bcrypt import gensalt, hashpw  # type: ignore[import-not-found]  # in the image

    with closing(sqlite3.connect(database, timeout=60)) as people, people:
        hashed = hashpw(password.encode(), gensalt()).decode()
        command = "UPDATE auth SET password = ? WHERE email = ?"
        if not people.execute(command, (hashed, email.lower())).rowcount:
            rows = people.execute("SELECT email FROM \"user\" WHERE role = 'admin'")
            others = [row[0] for row in rows if not row[0].startswith("glue@")]
            raise LookupError(
                f"no account {email}; administrators are: {', '.join(others)}."
                " Set WEBUI_ADMIN_EMAIL to one of them in env/site.env, then make day"
            )
    return f"{email} has the password WEBUI_ADMIN_PASSWORD again"


if __name__ == "__main__":
    try:
        print(reset(DATABASE, os.environ["WEBUI_ADMIN_EMAIL"], os.environ["WEBUI_ADMIN_PASSWORD"]))
    except LookupError as error:
        sys.exit(str(error))
