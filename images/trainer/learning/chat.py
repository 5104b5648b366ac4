"""Open WebUI's ratings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ijson
import requests

from glue.clients.open_webui import WebUI
from glue.core.errors import GlueError

EXPORT_SECONDS = 600


def signed_in(url: str, token: str) -> Chat:
    chat = Chat(url)
    chat.session.headers["Authorization"] = f"Bearer {token}"
    return chat


class Chat(WebUI):
    def ratings(self) -> Iterator[Any]:
        """Every rating with its whole conversation, one at a time: all may not fit into memory.

        A rating is consent; nothing else can be read.
        """
        path = "/api/v1/evaluations/feedbacks/all/export"
        try:
            with self.session.get(self.url + path, stream=True, timeout=EXPORT_SECONDS) as response:
                if response.status_code >= 400:
                    seen = f"{response.status_code} {response.text[:400]}"
                    raise GlueError("the ratings cannot be read", seen, "make status")
                response.raw.decode_content = True
                # not as floats: a number over 64 bit would end it
                yield from ijson.items(response.raw, "item")
        except (requests.RequestException, ijson.JSONError, OSError) as error:
            do = "make logs SERVICE=open-webui"
            raise GlueError("the ratings cannot be read to their end", str(error), do) from error
