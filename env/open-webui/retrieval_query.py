"""
title: Retrieval query by rule
author: dual-use-spark
version: 2
"""

# Before every answer, Open WebUI asks the model for a search query: a hidden call without a token
# limit. This filter answers that call by a rule: the question itself; for a follow-up, the new
# question three times and then the one before it. So "and who checks it?" finds the right document,
# and a new subject or topic outweighs the old one. It sets request.state.cached_queries, an
# internal of 0.12.4 that routers/tasks.py reads before it calls the model; a test with the real
# Open WebUI fails when a version changes this.

import json

LONGEST_QUERY_CHARACTERS = 800
# of once, twice and three times, before and after, this found the most for 90 labelled follow-ups
# (docs/measurements/bench.md)
TIMES = 3


def text_of(message):
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content if part.get("type") == "text")


class Filter:
    async def inlet(self, body, __request__=None, **_):
        asked = [
            text_of(message)
            for message in body.get("messages", [])
            if message.get("role") == "user"
        ]
        if __request__ is not None and asked:
            query = " ".join([*asked[-1:] * TIMES, asked[-2]] if len(asked) > 1 else asked)[
                :LONGEST_QUERY_CHARACTERS
            ]
            answer = {"message": {"content": json.dumps({"queries": [query]})}}
            __request__.state.cached_queries = {"choices": [answer]}
        return body
