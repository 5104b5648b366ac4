"""glue's own account in Open WebUI: no verb needs the password of the people's administrator.

Its password follows from WEBUI_SECRET_KEY, so it cannot be lost apart from the chat's secrets. An
account that is missing, or that people changed, is created again with WEBUI_ADMIN_PASSWORD.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from contextlib import suppress

from glue.clients.open_webui import SERVICE_EMAIL, WebUI, sign_in
from glue.clients.webui_connection import Refused
from glue.core import files
from glue.core.errors import GlueError, PreconditionFailed
from glue.core.services import Service
from glue.core.settings import Settings

NAME = "glue (service)"
TOKEN = "webui-token"  # in the state folder
NO_ACCOUNT = "Open WebUI accepts neither glue's own account nor WEBUI_ADMIN_PASSWORD"
REFUSED = (400, 401, 403)  # a wrong password is 400; others, such as 429, say nothing about it


class NoAccount(PreconditionFailed):
    """glue's account is missing or was changed, and the administrator's password was changed."""


def administrator(settings: Settings) -> WebUI:
    """Signed in as glue's own account, with an earlier run's token while it is valid.

    Open WebUI allows 15 sign-ins in three minutes; a token is valid for four weeks. Raises
    NoAccount.
    """
    kept = settings.state / TOKEN
    person = WebUI(settings.chat_url)
    if kept.exists():
        token = kept.read_text(encoding="ascii", errors="ignore").strip()
        person.session.headers["Authorization"] = f"Bearer {token}"
        found = person.account()
        if (found.get("email"), found.get("role")) == (SERVICE_EMAIL, "admin"):
            return person
    person = signed_in(settings) or made_anew(settings)
    with suppress(OSError):  # on a full disk the next run signs in again
        files.write(kept, person.user["token"], mode=0o600)
    return person


def signed_in(settings: Settings) -> WebUI | None:
    """None where the account is missing, or has another password or role."""
    try:
        person = sign_in(settings.chat_url, SERVICE_EMAIL, password(settings))
    except Refused as error:
        if error.status not in REFUSED:
            raise
        return None
    return person if person.user["role"] == "admin" else None


def made_anew(settings: Settings) -> WebUI:
    email, own = settings["WEBUI_ADMIN_EMAIL"], password(settings)
    try:
        person = sign_in(settings.chat_url, email, settings["WEBUI_ADMIN_PASSWORD"])
        person.ensure_user(NAME, SERVICE_EMAIL, own, role="admin")
    except Refused as error:
        if error.status not in REFUSED:
            raise
        do = (
            f"set WEBUI_ADMIN_PASSWORD in {settings.secrets_file} to {email}'s current password,"
            " then run make day. If it is forgotten: make admin-password"
        )
        raise NoAccount(NO_ACCOUNT, error.saw, do) from error
    return sign_in(settings.chat_url, SERVICE_EMAIL, own)


def password(settings: Settings) -> str:
    """68 characters, of the kinds that ENABLE_PASSWORD_VALIDATION asks for; bcrypt reads 72."""
    key = settings["WEBUI_SECRET_KEY"].encode()
    return "Aa1-" + hmac.digest(key, SERVICE_EMAIL.encode(), "sha256").hex()


def fault(chat: Service | None, sign_in: Callable[[], WebUI]) -> tuple[str, str]:
    """Why glue cannot sign in to a chat that runs, and what to do; empty if it can."""
    try:
        if chat is not None and chat.serves:
            sign_in()
    except NoAccount as error:
        return f"{error.what}: {error.saw}", error.do
    except GlueError:  # why it does not answer is told elsewhere
        pass
    return "", ""
