"""The flags of both profiles, joined by the real serve-current.sh and read by the real vLLM's own parser, in its image."""

import json
import subprocess
from typing import Any

import pytest

from glue import settings
from glue.settings import HOME
from glue.stacks import docker_cli
from tests.compose.test_compose import configuration

SHIM = HOME / "tests" / "compose" / "shim"


def as_vllm_reads_it(profile: str, *further: str) -> subprocess.CompletedProcess[str]:
    """A container of the rehearsal's vLLM with the profile's command, environment and script; only `vllm` itself is the shim."""
    service = configuration("day", profile)["services"]["vllm"]
    kinds = ("MACHINE_FLAGS", "ADAPTER_KERNEL_FLAGS", "ADAPTER_FLAGS")
    environment = [f"--env={kind}={service['environment'][kind]}" for kind in kinds]
    script = next(mount for mount in service["volumes"] if mount["target"].startswith("/serve/"))
    mounts = [f"--volume={SHIM}:/shim:ro", f"--volume={script['source']}:{script['target']}:ro"]
    path = "--env=PATH=/shim:/opt/venv/bin:/usr/bin:/bin"
    run = [docker_cli(), "run", "--rm", "--network=none", *environment, *mounts, path, f"--entrypoint={service['entrypoint'][0]}"]
    image = settings.load("rehearsal")["REHEARSAL_VLLM_IMAGE"]
    command = [*run, image, *service["entrypoint"][1:], *service["command"], *further]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def understood(profile: str) -> dict[str, Any]:
    done = as_vllm_reads_it(profile)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def flags() -> dict[str, dict[str, Any]]:
    return {profile: understood(profile) for profile in settings.PROFILES}


def test_vllm_knows_every_flag_of_both_profiles(flags: dict[str, dict[str, Any]]) -> None:
    for profile in settings.PROFILES:
        assert flags[profile]["served_model_name"] == ["team-base"], profile
        assert flags[profile]["model"] == settings.load(profile)["SERVED_MODEL"], profile


def test_a_flag_that_vllm_does_not_know_is_seen() -> None:
    done = as_vllm_reads_it("spark", "--no-such-flag")
    assert done.returncode == 2 and "--no-such-flag" in done.stderr


def test_people_get_the_same_from_both_profiles(flags: dict[str, dict[str, Any]]) -> None:
    promised = {
        "default_chat_template_kwargs": {"enable_thinking": False},
        "reasoning_parser": "nemotron_v3",
        "tool_call_parser": "qwen3_coder",
        "enable_auto_tool_choice": True,
        "enable_lora": True,
        "max_loras": 2,
        "trust_remote_code": False,
        "shutdown_timeout": 30,
    }
    for profile in settings.PROFILES:
        assert {key: flags[profile][key] for key in promised} == promised, profile


def test_adapters_may_touch_experts_and_never_the_output_head(flags: dict[str, dict[str, Any]]) -> None:
    for profile in settings.PROFILES:
        touched = flags[profile]["lora_target_modules"]
        assert "experts" in touched and not {"lm_head", "embed_tokens", "gate", "out_proj"} & set(touched), profile


def test_what_the_gpu_needs_is_on_the_spark_only(flags: dict[str, dict[str, Any]]) -> None:
    spark, rehearsal = flags["spark"], flags["rehearsal"]
    assert (spark["moe_backend"], rehearsal["moe_backend"]) == ("marlin", "auto")
    assert (spark["enable_prefix_caching"], rehearsal["enable_prefix_caching"]) == (True, False)
    assert spark["kv_cache_dtype"] == "fp8"
    assert spark["kv_cache_memory_bytes"] == settings.load("spark").number("KV_CACHE_BYTES")
    assert spark["max_cudagraph_capture_size"] == spark["max_num_seqs"]
