"""`glue bench direct`: vLLM alone, asked by this harness and by vLLM's own `vllm bench serve`, so that each checks the other."""

from __future__ import annotations

import json
from statistics import median
from typing import Any

from glue import day
from glue.bench import chats, load, machine
from glue.bench.client import Endpoint, Sample, ask
from glue.site import Site
from glue.stacks import DAY
from glue.types import GlueError

Row = dict[str, Any]
PROMPTS, RESULT = "/tmp/glue-bench-prompts.json", "/tmp/glue-bench-result.json"
WRITE = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"


def run(site: Site, users: tuple[int, ...], count: int, answer_tokens: int, command: str) -> Row:
    """The same prompts, the same number at once: here, there, and here again, so that a drift shows."""
    day.ensure(site)
    prompts = [f"Tell me all about part number {number} of the machine in hall {number % 7}." for number in range(count)]
    asked = chats.served_name(site)
    rows = []
    for at_once in users:
        site.tell(f"vLLM alone, {at_once} at once")
        first = here(site, asked, prompts, at_once, answer_tokens)
        theirs = there(site, asked, prompts, at_once, answer_tokens)
        again = here(site, asked, prompts, at_once, answer_tokens)
        ours = {key: (first[key] + again[key]) / 2 for key in first}
        ratio = {key: round(ours[key] / theirs[key], 3) if theirs[key] else None for key in ours}
        rows.append({"users": at_once, "here": ours, "here_twice": [first, again], "vllm": theirs, "ratio": ratio})
    about = {"kind": "direct", "simulated": False, "command": command, "load_after": machine.load(), **chats.serving(site)}
    return about | {"rows": rows, "prompts": count, "answer_tokens": answer_tokens, **machine.describe(site)}


def here(site: Site, asked: str, prompts: list[str], at_once: int, answer_tokens: int) -> Row:
    host, _, port = site.stacks.address("vllm").partition(":")
    fields = {"model": asked, "max_tokens": answer_tokens, "ignore_eos": True, "temperature": 0}
    endpoint = Endpoint(host, int(port), "/v1/chat/completions", site.settings["MODEL_API_KEY"], fields)

    def one(user: int, number: int) -> Sample:
        return ask(endpoint, [{"role": "user", "content": prompts[number]}])

    one(0, 0)
    samples = load.always_busy(one, at_once, len(prompts))
    errors = [sample.error for sample in samples if sample.error]
    errors += ["it reports no usage"] * any(not sample.completion_tokens for sample in samples)
    if errors:
        raise GlueError("vLLM did not answer the bench", errors[0], "make logs SERVICE=vllm")
    return as_vllm_counts(samples)


def as_vllm_counts(samples: list[Sample]) -> Row:
    """By the definitions of `vllm bench serve`: from and to chunks with a choice, those without text too."""
    return {
        "first_token_seconds": median([sample.first_choice_seconds for sample in samples]),
        "seconds_per_token": median([seconds_per_token(sample) for sample in samples]),
    }


def seconds_per_token(sample: Sample) -> float:
    """0 for an answer of one token, as there."""
    spent = sample.last_choice_seconds - sample.first_choice_seconds
    return spent / (sample.completion_tokens - 1) if sample.completion_tokens > 1 else 0.0


def there(site: Site, asked: str, prompts: list[str], at_once: int, answer_tokens: int) -> Row:
    """In vLLM's own container. Its key stays in the container's environment and off every command line."""
    # the one form of dataset that needs no package which vLLM's image may lack; the answers in it are not sent
    told = [[{"from": "human", "value": prompt}, {"from": "gpt", "value": prompt}] for prompt in prompts]
    checked(site, ["python3", "-c", WRITE, PROMPTS, json.dumps([{"conversations": turns} for turns in told])])
    bench = (
        f"vllm bench serve --backend openai-chat --endpoint /v1/chat/completions --base-url http://127.0.0.1:8000 "
        f"--model {asked} --tokenizer {site.settings['SERVED_MODEL']} --dataset-name sharegpt --dataset-path {PROMPTS} "
        f"--sharegpt-output-len {answer_tokens} --num-prompts {len(prompts)} --max-concurrency {at_once} "
        f"--num-warmups 1 --ignore-eos --temperature 0 --disable-shuffle --disable-tqdm "
        f"--save-result --result-dir /tmp --result-filename {RESULT.rpartition('/')[2]}"
    )
    checked(site, ["sh", "-c", f'OPENAI_API_KEY="$VLLM_API_KEY" exec {bench}'])
    found = json.loads(checked(site, ["cat", RESULT]))
    return {"first_token_seconds": found["median_ttft_ms"] / 1000, "seconds_per_token": found["median_tpot_ms"] / 1000}


def checked(site: Site, command: list[str]) -> str:
    code, output = site.stacks.run_in(DAY, "vllm", command)
    if code != 0:
        raise GlueError("vllm bench serve failed", output[-1500:], "make logs SERVICE=vllm")
    return output
