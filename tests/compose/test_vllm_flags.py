"""The flags of both profiles, joined by the real serve-current.sh and parsed by the real vLLM in
its image."""

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glue.clients.compose import docker_cli
from glue.core import settings
from glue.core.settings import REPOSITORY
from tests.compose.test_compose import configuration

SHIM = REPOSITORY / "tests" / "compose" / "shim"
CHECKPOINT = "/adapters/night-1/checkpoint"
ECHO = REPOSITORY / "tests" / "compose" / "echo"


def as_vllm_reads_it(
    profile: str, *further: str, adapters: Path | None = None, shim: Path = SHIM
) -> subprocess.CompletedProcess[str]:
    """A container of the rehearsal's vLLM with the profile's command, environment and script;
    only `vllm` itself is a shim."""
    service = configuration("day", profile)["services"]["vllm"]
    kinds = ("MODEL_FLAGS", "MACHINE_FLAGS", "ADAPTER_KERNEL_FLAGS", "ADAPTER_FLAGS")
    environment = [f"--env={kind}={service['environment'][kind]}" for kind in kinds]
    script = next(mount for mount in service["volumes"] if mount["target"].startswith("/serve/"))
    mounts = [f"--volume={shim}:/shim:ro", f"--volume={script['source']}:{script['target']}:ro"]
    mounts += [f"--volume={adapters}:/adapters:ro"] if adapters else []
    path = "--env=PATH=/shim:/opt/venv/bin:/usr/bin:/bin"
    run = [
        docker_cli(),
        "run",
        "--rm",
        "--network=none",
        *environment,
        *mounts,
        path,
        f"--entrypoint={service['entrypoint'][0]}",
    ]
    image = settings.load("rehearsal")["REHEARSAL_VLLM_IMAGE"]
    command = [*run, image, *service["entrypoint"][1:], *service["command"], *further]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def understood(profile: str, adapters: Path | None = None) -> dict[str, Any]:
    done = as_vllm_reads_it(profile, adapters=adapters)
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


@pytest.mark.long  # what the others stand on; ten seconds of imports for an error message
def test_an_unknown_flag_is_detected() -> None:
    done = as_vllm_reads_it("spark", "--no-such-flag")
    assert done.returncode == 2 and "--no-such-flag" in done.stderr


def test_both_profiles_serve_with_the_same_options(flags: dict[str, dict[str, Any]]) -> None:
    promised = {
        "default_chat_template_kwargs": {"enable_thinking": False},
        "enable_auto_tool_choice": True,
        "enable_lora": True,
        "max_loras": 2,
        "trust_remote_code": False,
        "shutdown_timeout": 30,
    }
    for profile in settings.PROFILES:
        assert {key: flags[profile][key] for key in promised} == promised, profile


def test_a_model_s_own_form_of_thoughts_and_tool_calls_is_read(
    flags: dict[str, dict[str, Any]],
) -> None:
    parsers = {
        profile: (one["reasoning_parser"], one["tool_call_parser"])
        for profile, one in flags.items()
    }
    nemotron = ("nemotron_v3", "qwen3_coder")
    assert parsers == {"spark": nemotron, "rehearsal": nemotron, "demo": ("", "hermes")}


def test_adapters_may_touch_experts_and_never_the_output_head(
    flags: dict[str, dict[str, Any]],
) -> None:
    for profile in settings.PROFILES:
        touched = flags[profile]["lora_target_modules"]
        assert "experts" in touched and not {"lm_head", "embed_tokens", "gate", "out_proj"} & set(
            touched
        ), profile


def test_gpu_flags_are_on_the_spark_only(flags: dict[str, dict[str, Any]]) -> None:
    spark, rehearsal = flags["spark"], flags["rehearsal"]
    assert (spark["moe_backend"], rehearsal["moe_backend"]) == ("marlin", "auto")
    assert (spark["enable_prefix_caching"], rehearsal["enable_prefix_caching"]) == (True, False)
    assert spark["kv_cache_dtype"] == "fp8"
    assert spark["kv_cache_memory_bytes"] == settings.load("spark").number("KV_CACHE_BYTES")
    assert spark["max_cudagraph_capture_size"] == spark["max_num_seqs"]


# ---------------------------------------------------------------------- what serves, decided from
# files at every start


@pytest.fixture
def adapters(tmp_path: Path) -> Path:
    """An adapters folder in which one adapter serves and has a checkpoint that does not serve
    yet."""
    (tmp_path / "night-1" / "checkpoint").mkdir(parents=True)
    for name in ("adapter_config.json", "checkpoint/config.json"):
        (tmp_path / "night-1" / name).write_text("{}")
    (tmp_path / "current").symlink_to("night-1")
    return tmp_path


def test_a_merged_release_is_served_without_lora_flags(
    adapters: Path,
) -> None:
    (adapters / "night-1" / "serve-merged").touch()
    flags = understood("spark", adapters)
    assert (flags["model"], flags["model_tag"]) in ((CHECKPOINT, None), (CHECKPOINT, CHECKPOINT))
    assert flags["served_model_name"] == ["team-base", "team-adapter"]
    assert (bool(flags["enable_lora"]), flags["lora_modules"], flags["moe_backend"]) == (
        False,
        None,
        "auto",
    )


@pytest.mark.parametrize("state", ["not asked for", "judging", "no checkpoint"])
def test_an_unmerged_adapter_is_loaded_beside_the_base_model(adapters: Path, state: str) -> None:
    if state != "not asked for":
        (adapters / "night-1" / "serve-merged").touch()
    if state == "judging":
        (adapters / "judging").touch()
    if state == "no checkpoint":
        (adapters / "night-1" / "checkpoint" / "config.json").unlink()
    flags = as_vllm_reads_it("spark", adapters=adapters, shim=ECHO).stdout.splitlines()
    model = f"--model={settings.load('spark')['SERVED_MODEL']}"
    assert {model, "--enable-lora", "--moe-backend=marlin", "team-adapter=/adapters/night-1"} < set(
        flags
    )
    assert not any("checkpoint" in flag for flag in flags)


def test_a_checkpoint_that_a_night_judges_is_served_alone(adapters: Path) -> None:
    (adapters / "judging").write_text("night-1")
    flags = as_vllm_reads_it("spark", adapters=adapters, shim=ECHO).stdout.splitlines()
    assert "--model=/adapters/night-1/checkpoint" in flags and "--enable-lora" not in flags


def test_an_adapter_for_its_checkpoint_only_is_never_loaded_beside_the_base_model(
    adapters: Path,
) -> None:
    text = '{"trained_through_quantiser": true}'
    (adapters / "night-1" / "adapter_config.json").write_text(text)
    flags = as_vllm_reads_it("spark", adapters=adapters, shim=ECHO).stdout.splitlines()
    names = flags.index("--served-model-name")
    assert "--enable-lora" in flags and "--lora-modules" not in flags
    assert flags[names : names + 3] == ["--served-model-name", "team-base", "team-adapter"]


def test_without_a_current_release_no_adapter_is_loaded(adapters: Path) -> None:
    (adapters / "current").unlink()
    flags = as_vllm_reads_it("spark", adapters=adapters, shim=ECHO).stdout.splitlines()
    assert "--enable-lora" in flags and "--lora-modules" not in flags


@pytest.fixture
def new_volume() -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    yield name
    subprocess.run([docker_cli(), "volume", "rm", name], check=True, capture_output=True)


def test_any_user_can_write_to_the_cache_volume_and_nowhere_else(
    new_volume: str,
) -> None:
    service = configuration("day", "rehearsal")["services"]["vllm"]
    cache = next(
        mount["target"] for mount in service["volumes"] if mount["source"] == "serving-cache"
    )
    run = [
        docker_cli(),
        "run",
        "--rm",
        "--network=none",
        "--read-only",
        "--cap-drop=ALL",
        "--user=12345:12345",
    ]
    run += ["--entrypoint=sh", f"--volume={new_volume}:{cache}"]
    run += [f"--tmpfs={folder}" for folder in service["tmpfs"]]
    tried = (
        f"for folder in {cache} /tmp / /opt /serve; do mkdir $folder/tried 2>/dev/null && echo"
        " $folder; done"
    )
    done = subprocess.run(
        [*run, service["image"], "-c", tried], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [cache, "/tmp"], done.stderr
