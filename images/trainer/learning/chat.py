"""What learning reads in Open WebUI: ratings, documents, and what its search finds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ijson
import requests

from glue.clients.open_webui import KNOWLEDGE_NAME, WebUI
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

    def knowledge_texts(self, knowledge: str) -> Iterator[tuple[str, str]]:
        """(name, extracted text) of every document in the collection."""
        page, seen = 1, 0
        while True:
            listing = self.call("GET", f"/api/v1/knowledge/{knowledge}/files?page={page}")
            for item in listing["items"]:
                found = self.call("GET", f"/api/v1/files/{item['id']}/data/content")
                yield item["filename"], str(found["content"] or "")
            seen += len(listing["items"])
            if not listing["items"] or seen >= listing["total"]:
                return
            page += 1

    def look_up(self, knowledge: str, question: str, count: int) -> list[dict[str, Any]]:
        """The sources that a chat gets for this question, in the form in which it stores them."""
        body = {"collection_names": [knowledge], "query": question, "k": count}
        found = self.call("POST", "/api/v1/retrieval/query/collection", json=body)
        if not found.get("documents") or not found["documents"][0]:
            return []
        about = {"type": "collection", "id": knowledge, "name": KNOWLEDGE_NAME}
        return [
            {"source": about, "document": found["documents"][0], "metadata": found["metadatas"][0]}
        ]
