"""Requires vLLM's key on every path. By itself vLLM requires it only under /v1, and other paths
show people's requests.

    vllm serve ... --middleware=require_key.RequireKey      with VLLM_API_KEY set, and this file's
                                                            folder on PYTHONPATH

/health stays open for the door and Docker: it returns only a status.
"""

import hmac
import os

OPEN = ("/health",)


class RequireKey:
    def __init__(self, app):
        self.app = app
        self.expected = f"Bearer {os.environ['VLLM_API_KEY']}".encode()

    async def __call__(self, scope, receive, send):
        given = dict(scope.get("headers") or ()).get(b"authorization", b"")
        # "lifespan" is the server's own start and stop
        if (
            scope["type"] == "lifespan"
            or scope["path"] in OPEN
            or hmac.compare_digest(given, self.expected)
        ):
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await send(
                {
                    "type": "http.response.start",
                    "status": 401,
                    "headers": [(b"content-type", b"application/json")],
                }
            )
            await send({"type": "http.response.body", "body": b'{"error": "Unauthorized"}'})
        else:
            await send({"type": "websocket.close", "code": 1008})
