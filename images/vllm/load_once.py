"""Makes vLLM read a replaced adapter from disk once, not at every token.

    vllm serve ... --middleware=load_once.LoadOnce      with this file's folder on PYTHONPATH

`load_inplace: true` in POST /v1/load_lora_adapter stays in the request object that vLLM keeps for
that name, and the
engine reloads such an adapter at every step (vLLM 0.32, entrypoints/openai/models/serving.py,
lora/worker_manager.py;
https://github.com/vllm-project/vllm/issues/33791). The flag is cleared before the answer to the
load goes out.
"""


class LoadOnce:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"] != "/v1/load_lora_adapter":
            await self.app(scope, receive, send)
            return

        async def send_when_cleared(message):
            for adapter in scope["app"].state.openai_serving_models.lora_requests.values():
                adapter.load_inplace = False
            await send(message)

        await self.app(scope, receive, send_when_cleared)
