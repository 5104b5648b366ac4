"""vLLM alone, measured by this harness and by vLLM's own `vllm bench serve`, to check each with
the other."""

from __future__ import annotations

import json
from statistics import median
from typing import Any

from bench import chats, client, containers, environment
from bench.client import Endpoint, Sample, ask
from glue.clients.compose import DAY
from glue.clients.site import Site
from glue.core.errors import GlueError
from glue.serving import day

Row = dict[str, Any]
PROMPTS, RESULT = "/tmp/glue-bench-prompts.json", "/tmp/glue-bench-result.json"
WRITE = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"


def run(site: Site, users: tuple[int, ...], count: int, answer_tokens: int, command: str) -> Row:
    """The same prompts at the same concurrency: this harness, vLLM's, and this harness again, to
    show drift."""
    day.start(site)
    prompts = [
        f"Tell me all about part number {number} of the machine in hall {number % 7}."
        for number in range(count)
    ]
    asked = chats.served_name(site)
    endpoint = served(
        site.stacks.address("vllm"), site.settings["MODEL_API_KEY"], asked, answer_tokens
    )
    rows = []
    for at_once in users:
        site.tell(f"vLLM alone, {at_once} at once")
        first = here(endpoint, prompts, at_once)
        theirs = there(site, asked, prompts, at_once, answer_tokens)
        rows.append(row(at_once, first, theirs, here(endpoint, prompts, at_once)))
    about = {
        "kind": "direct",
        "simulated": False,
        "command": command,
        "load_after": environment.load(),
        **chats.serving(site),
    }
    return about | {
        "rows": rows,
        "prompts": count,
        "answer_tokens": answer_tokens,
        **environment.describe(site),
    }


def row(at_once: int, first: Row, theirs: Row, again: Row) -> Row:
    """ratio: the mean of this harness's two runs divided by vLLM's."""
    ours = {key: (first[key] + again[key]) / 2 for key in first}
    ratio = {key: round(ours[key] / theirs[key], 3) if theirs[key] else None for key in ours}
    return {
        "users": at_once,
        "here": ours,
        "here_twice": [first, again],
        "vllm": theirs,
        "ratio": ratio,
    }


def served(address: str, key: str, asked: str, answer_tokens: int) -> Endpoint:
    host, _, port = address.partition(":")
    fields = {"model": asked, "max_tokens": answer_tokens, "ignore_eos": True, "temperature": 0}
    return Endpoint(host, int(port), "/v1/chat/completions", key, fields)


def here(endpoint: Endpoint, prompts: list[str], at_once: int) -> Row:
    def one(user: int, number: int) -> Sample:
        return ask(endpoint, [{"role": "user", "content": prompts[number]}])

    one(0, 0)
    samples = client.always_busy(one, at_once, len(prompts))
    errors = [sample.error for sample in samples if sample.error]
    errors += ["it reports no token usage"] * any(
        not sample.completion_tokens for sample in samples
    )
    if errors:
        raise GlueError("vLLM did not answer the bench", errors[0], "make logs SERVICE=vllm")
    return as_vllm_counts(samples)


def as_vllm_counts(samples: list[Sample]) -> Row:
    """Counts as `vllm bench serve` does: from the first chunk with a choice, also without text,
    to the chunk with usage after the last."""
    return {
        "first_token_seconds": median([sample.first_choice_seconds for sample in samples]),
        "seconds_per_token": median([seconds_per_token(sample) for sample in samples]),
    }


def seconds_per_token(sample: Sample) -> float:
    """0 for an answer of one token, as in vLLM's bench."""
    spent = sample.last_choice_seconds - sample.first_choice_seconds
    return spent / (sample.completion_tokens - 1) if sample.completion_tokens > 1 else 0.0


def there(site: Site, asked: str, prompts: list[str], at_once: int, answer_tokens: int) -> Row:
    """Runs in vLLM's own container. The key stays in the container's environment and is on no
    command line."""
    checked(site, ["python3", "-c", WRITE, PROMPTS, sharegpt(prompts)])
    bench = serve_command(
        "http://127.0.0.1:8000",
        asked,
        site.settings["SERVED_MODEL"],
        len(prompts),
        at_once,
        answer_tokens,
    )
    checked(site, ["sh", "-c", f'OPENAI_API_KEY="$VLLM_API_KEY" exec {bench}'])
    return medians(json.loads(checked(site, ["cat", RESULT])))


def sharegpt(prompts: list[str]) -> str:
    """The only dataset format that needs no package missing from vLLM's image. Its answers are
    not sent."""
    told = [
        [{"from": "human", "value": prompt}, {"from": "gpt", "value": prompt}] for prompt in prompts
    ]
    return json.dumps([{"conversations": turns} for turns in told])


def serve_command(
    url: str, asked: str, tokenizer: str, count: int, at_once: int, answer_tokens: int
) -> str:
    """Reads the dataset at PROMPTS and writes its result to RESULT."""
    return (
        f"vllm bench serve --backend openai-chat --endpoint /v1/chat/completions --base-url {url} "
        f"--model {asked} --tokenizer {tokenizer} --dataset-name sharegpt --dataset-path {PROMPTS} "
        f"--sharegpt-output-len {answer_tokens} --num-prompts {count} --max-concurrency {at_once} "
        "--num-warmups 1 --ignore-eos --temperature 0 --disable-shuffle --disable-tqdm "
        f"--save-result --result-dir /tmp --result-filename {RESULT.rpartition('/')[2]}"
    )


def medians(found: Row) -> Row:
    return {
        "first_token_seconds": found["median_ttft_ms"] / 1000,
        "seconds_per_token": found["median_tpot_ms"] / 1000,
    }


def checked(site: Site, command: list[str]) -> str:
    code, output = containers.run_in(site.stacks, DAY, "vllm", command)
    if code != 0:
        raise GlueError("vllm bench serve failed", output[-1500:], "make logs SERVICE=vllm")
    return output
