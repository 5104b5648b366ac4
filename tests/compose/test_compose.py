"""Properties of the two stacks, read from `docker compose config`, with and without the
rehearsal's overlay."""

import json
import re
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from glue.clients.docker import Stacks
from glue.core import env_files, settings
from glue.core.settings import REPOSITORY

SECRETS = {key: f"{key.lower()}-0123456789" for key in settings.SECRETS}


def configuration(stack: str, profile: str, **more: str) -> dict[str, Any]:
    loaded = settings.load(profile)
    stacks = object.__new__(Stacks)  # no engine is needed to read a file
    stacks.settings = replace(
        loaded,
        values=loaded.values | SECRETS | {"CHAT_ADDRESS": "127.0.0.1", "CHAT_PORT": "3000"} | more,
    )
    command = stacks.compose_command(stack, "config", "--format", "json")
    done = subprocess.run(
        command, env=stacks.compose_environment(), capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(
    params=[(stack, profile) for stack in ("day", "night") for profile in settings.PROFILES],
    ids="-".join,
)
def any_stack(request: pytest.FixtureRequest) -> dict[str, Any]:
    return configuration(*request.param)


@pytest.fixture(params=settings.PROFILES)
def day(request: pytest.FixtureRequest) -> dict[str, Any]:
    return configuration("day", request.param)


def test_no_image_is_latest_or_pulled_automatically(any_stack: dict[str, Any]) -> None:
    for name, service in any_stack["services"].items():
        assert re.search(r"[:@][\w.\-]+$", service["image"]) and not service["image"].endswith(
            ":latest"
        ), name
        assert service["pull_policy"] == "never", name


def test_every_container_has_init_limits_and_no_privileges(
    any_stack: dict[str, Any],
) -> None:
    for name, service in any_stack["services"].items():
        assert service["init"] is True, name
        assert (
            service["logging"]["options"]["max-size"] and service["logging"]["options"]["max-file"]
        ), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["cap_drop"] == ["ALL"], name
        assert not service.get("privileged"), name


@pytest.mark.parametrize("profile", settings.PROFILES)
@pytest.mark.parametrize("stack", ["day", "night"])
def test_no_container_gets_the_proxies_of_docker_s_config_json(stack: str, profile: str) -> None:
    """A service's own environment overrides config.json's proxies."""
    for name, service in configuration(stack, profile, HTTPS_NAMES="spark.example.org")[
        "services"
    ].items():
        found = {
            key: value for key, value in service["environment"].items() if "proxy" in key.lower()
        }
        assert len(found) == 10 and set(found.values()) == {"", "*"}, name


def test_only_the_chat_is_published_and_only_to_this_machine(day: dict[str, Any]) -> None:
    published = {
        name: service["ports"] for name, service in day["services"].items() if service.get("ports")
    }
    assert set(published) == {"open-webui"}
    assert [
        (port["host_ip"], port["published"], port["target"]) for port in published["open-webui"]
    ] == [("127.0.0.1", "3000", 8080)]


@pytest.mark.parametrize("profile", settings.PROFILES)
def test_with_https_only_the_proxy_is_published_to_the_network(
    profile: str,
) -> None:
    services = configuration(
        "day", profile, HTTPS_NAMES="spark.example.org,10.0.0.5", HTTPS_PORT="443"
    )["services"]
    published = {
        name: [(p["host_ip"], p["published"]) for p in service.get("ports", [])]
        for name, service in services.items()
    }
    assert {name: ports for name, ports in published.items() if ports} == {
        "https-proxy": [("0.0.0.0", "443")],
        "open-webui": [("127.0.0.1", "3000")],
    }
    proxy, chat = services["https-proxy"], services["open-webui"]["environment"]
    assert (
        proxy["image"] == services["door"]["image"]
        and proxy["read_only"]
        and proxy["cap_drop"] == ["ALL"]
        and proxy["init"]
    )
    assert proxy["security_opt"] == ["no-new-privileges:true"] and all(
        mount["read_only"] for mount in proxy["volumes"]
    )
    assert chat["CORS_ALLOW_ORIGIN"] == "https://spark.example.org;https://10.0.0.5"
    assert chat["WEBUI_SESSION_COOKIE_SECURE"] == chat["WEBUI_AUTH_COOKIE_SECURE"] == "true"


def test_the_chat_has_the_team_s_name_and_no_suggestions_of_others() -> None:
    chat = configuration("day", "spark", TEAM_NAME="Tide & Co")["services"]["open-webui"]
    assert chat["environment"]["WEBUI_NAME"] == "Tide & Co"
    assert chat["environment"]["DEFAULT_PROMPT_SUGGESTIONS"] == "[]"


def test_every_service_of_the_day_has_a_health_check_and_restarts(day: dict[str, Any]) -> None:
    assert set(day["services"]) == {"vllm", "open-webui", "door", "night-desk"}
    for name, service in day["services"].items():
        assert service["healthcheck"]["test"], name
        assert service["restart"] == "unless-stopped", name


def test_the_settings_that_retrieval_needs_are_set(day: dict[str, Any]) -> None:
    environment = day["services"]["open-webui"]["environment"]
    assert json.loads(environment["DEFAULT_MODEL_PARAMS"]) == {"function_calling": "legacy"}
    assert environment["UVICORN_WORKERS"] == "1"
    assert environment["OPENAI_API_BASE_URL"] == "http://door:8000/v1"
    assert (
        environment["ENABLE_RETRIEVAL_QUERY_GENERATION"] == "true"
    )  # answered by our rule; off, follow-ups find nothing
    assert environment["ENABLE_RAG_HYBRID_SEARCH"] == "false"
    assert "{{CONTEXT}}" in environment["RAG_TEMPLATE"]


CLOSED = (
    *(
        "ENABLE_SIGNUP",
        "ENABLE_ADMIN_EXPORT",
        "ENABLE_ADMIN_CHAT_ACCESS",
        "ENABLE_COMMUNITY_SHARING",
        "ENABLE_WEB_SEARCH",
    ),
    *(
        "ENABLE_CODE_EXECUTION",
        "ENABLE_CODE_INTERPRETER",
        "ENABLE_IMAGE_GENERATION",
        "ENABLE_OLLAMA_API",
    ),
    *(
        "ENABLE_VERSION_UPDATE_CHECK",
        "ENABLE_FOLLOW_UP_GENERATION",
        "ENABLE_TAGS_GENERATION",
        "ENABLE_PERSISTENT_CONFIG",
    ),
)


def test_the_chat_resolves_the_door_s_address_every_second(day: dict[str, Any]) -> None:
    """A recreated door has another address; tests/e2e/test_upgrade.py has that case."""
    assert day["services"]["open-webui"]["environment"]["AIOHTTP_POOL_DNS_TTL"] == "1"


def test_the_chat_is_closed_private_and_offline(day: dict[str, Any]) -> None:
    environment = day["services"]["open-webui"]["environment"]
    assert {key: environment[key] for key in CLOSED} == dict.fromkeys(CLOSED, "false")
    assert (
        environment["DEFAULT_USER_ROLE"],
        environment["OFFLINE_MODE"],
        environment["HF_HUB_OFFLINE"],
    ) == (
        "pending",
        "true",
        "1",
    )
    assert day["services"]["vllm"]["environment"]["HF_HUB_OFFLINE"] == "1"


def test_data_volumes_survive_a_down_with_volumes(any_stack: dict[str, Any]) -> None:
    assert all(volume["external"] for volume in any_stack["volumes"].values())


def test_adapters_are_mounted_by_their_parent_and_read_only(day: dict[str, Any]) -> None:
    mounts = {mount["target"]: mount for mount in day["services"]["vllm"]["volumes"]}
    assert mounts["/adapters"]["read_only"] and mounts["/adapters"]["source"].endswith("/adapters")


def test_every_image_is_in_images_env(any_stack: dict[str, Any]) -> None:
    loaded = settings.load("rehearsal")
    listed = {loaded[key] for key in env_files.read_env_file(REPOSITORY / "env" / "images.env")}
    assert {service["image"] for service in any_stack["services"].values()} <= listed


def test_the_services_that_people_reach_are_read_only_except_for_data(day: dict[str, Any]) -> None:
    owner = (REPOSITORY / "state" if (REPOSITORY / "state").exists() else REPOSITORY).stat()
    assert day["services"]["vllm"]["user"] == f"{owner.st_uid}:{owner.st_gid}"
    assert all(service["read_only"] for service in day["services"].values())
    for name in ("door", "night-desk"):
        service = day["services"][name]
        assert service["user"] == "65534:65534", name
        assert all(mount["read_only"] for mount in service["volumes"]), name
    assert [mount["source"] for mount in day["services"]["open-webui"]["volumes"]] == ["webui-data"]


def test_the_rehearsal_differs_only_in_hardware() -> None:
    spark, rehearsal = (
        configuration("day", profile)["services"] for profile in ("spark", "rehearsal")
    )
    assert spark.keys() == rehearsal.keys()
    machine = {
        "MODEL_FLAGS",
        "MACHINE_FLAGS",
        "ADAPTER_KERNEL_FLAGS",
        "VLLM_CPU_KVCACHE_SPACE",
        "OMP_NUM_THREADS",
        "TORCHDYNAMO_DISABLE",
    }
    different = {
        key
        for key, value in rehearsal["vllm"]["environment"].items()
        if spark["vllm"]["environment"].get(key) != value
    }
    assert different <= machine | {"ADAPTER_FLAGS"}  # whose highest rank is a setting
    for name, service in rehearsal.items():
        changed = {
            key
            for key in service.keys() | spark[name].keys()
            if service.get(key) != spark[name].get(key)
        }
        assert changed <= {"image", "deploy", "environment", "command", "volumes"}, name
    names = [
        [flag.split("=")[0] for flag in services["vllm"]["command"]]
        for services in (spark, rehearsal)
    ]
    assert names[0] == names[1]


def test_vllm_gets_its_stop_signal_and_enough_time(day: dict[str, Any]) -> None:
    service = day["services"]["vllm"]
    (drain,) = (
        int(flag.split("=")[1])
        for flag in service["command"]
        if flag.startswith("--shutdown-timeout=")
    )
    assert service["stop_signal"] == "SIGINT"
    assert service["stop_grace_period"] == "1m0s" and drain <= 50


def test_a_day_may_take_as_long_as_a_first_load() -> None:
    """Docker's health check waits at least as long as the load and the kernels of a first start,
    and glue waits longer."""
    check = configuration("day", "spark")["services"]["vllm"]["healthcheck"]
    assert check["start_period"] == "20m0s"
    assert settings.load("spark").number("DAY_DEADLINE_SECONDS") > 20 * 60


def test_vllm_s_caches_are_on_its_volume_and_models_are_read_only(day: dict[str, Any]) -> None:
    service = day["services"]["vllm"]
    mounts = {mount["target"]: mount for mount in service["volumes"]}
    assert mounts["/var/tmp"]["source"] == "serving-cache"
    assert mounts["/models"]["source"] == "models" and mounts["/models"]["read_only"]
    assert service["environment"]["HF_HOME"] == "/models"
    caches = (
        "VLLM_CACHE_ROOT",
        "TRITON_CACHE_DIR",
        "FLASHINFER_WORKSPACE_BASE",
        "TORCHINDUCTOR_CACHE_DIR",
        "CUDA_CACHE_PATH",
    )
    assert all(f"{service['environment'][key]}/".startswith("/var/tmp/") for key in caches)


BLOCK_BYTES = (
    6 * 4176 * 512
)  # a page for each of the six attention layers: keys and values in FP8 take 512 bytes a token
BLOCK_TOKENS = 4176
STATE_BLOCKS = 4  # 23 Mamba states in blocks of six pages


def test_a_spark_s_kv_cache_holds_all_running_answers_and_as_many_prefixes() -> None:
    """vLLM 0.32's own grouping of Nemotron-3-Nano's layers; a running answer holds two states
    (mamba-cache-mode=align)."""
    spark = settings.load("spark")
    blocks = spark.number("KV_CACHE_BYTES") // BLOCK_BYTES
    longest = -(-spark.number("MAX_MODEL_LENGTH") // BLOCK_TOKENS) + 2 * STATE_BLOCKS
    running = spark.number("MAX_SEQUENCES") * longest
    assert (BLOCK_BYTES, blocks, longest, running) == (
        12_828_672,
        779,
        16,
        256,
    )  # as env/spark.env says
    assert blocks - running >= running
    assert (blocks - running) // (1 + STATE_BLOCKS) == 104


@pytest.mark.parametrize(("stack", "service"), [("day", "vllm"), ("night", "trainer")])
def test_a_spark_requests_the_gpu_and_the_rehearsal_does_not(stack: str, service: str) -> None:
    spark, rehearsal = (
        configuration(stack, profile)["services"][service] for profile in ("spark", "rehearsal")
    )
    assert spark["deploy"]["resources"]["reservations"]["devices"][0]["driver"] == "nvidia"
    assert "resources" not in (rehearsal.get("deploy") or {})


def test_the_trainer_has_no_network_and_does_not_restart() -> None:
    for profile in settings.PROFILES:
        trainer = configuration("night", profile)["services"]["trainer"]
        assert (trainer["network_mode"], trainer["restart"]) == ("none", "no")


@pytest.mark.parametrize("profile", settings.PROFILES)
def test_a_job_has_no_gpu_and_only_the_network_and_the_keys_that_it_is_given(profile: str) -> None:
    services = configuration("night", profile)["services"]
    job, trainer = services["learning"], services["trainer"]
    assert (job["network_mode"], job["restart"], job["image"]) == ("none", "no", trainer["image"])
    assert job["user"] == trainer["user"] and job["read_only"] and int(job["mem_limit"]) <= 2**31
    assert not job.get("deploy", {}).get("resources", {}).get("reservations")
    assert job["environment"]["HF_HUB_OFFLINE"] == "1"
    assert (job["environment"]["MODEL_API_KEY"], job["environment"]["CHAT_TOKEN"]) == ("", "")
    assert all(volume["read_only"] for volume in job["volumes"])
    more = {"LEARNING_NETWORK": "spark-daynight", "LEARNING_MODEL_API_KEY": "k"}
    asked = configuration("night", profile, **more)["services"]["learning"]
    assert asked["network_mode"] == "spark-daynight" and asked["environment"]["MODEL_API_KEY"] == (
        "k"
    )


@pytest.mark.parametrize(
    ("status", "body", "code", "printed"),
    [(200, "", 0, ""), (503, "vLLM hangs: asked", 1, "vLLM hangs: asked\n"), (503, "", 1, "\n")],
)
def test_vllms_health_check_prints_why_it_fails(
    day: dict[str, Any], status: int, body: str, code: int, printed: str
) -> None:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _, *check = day["services"]["vllm"]["healthcheck"]["test"]
    check[-1] = check[-1].replace(":8000", f":{server.server_address[1]}")
    done = subprocess.run([sys.executable, *check[1:]], capture_output=True, text=True, check=False)
    server.shutdown()
    assert (done.returncode, done.stdout + done.stderr) == (code, printed)


def test_compose_files_contain_no_secret() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split()
    for name in listed:
        text = (REPOSITORY / name).read_text(encoding="utf-8", errors="replace")
        for key in settings.SECRETS:
            assert not re.search(rf"^\s*{key}=\S", text, re.MULTILINE), f"{name} sets {key}"


def test_a_missing_secret_is_an_error_and_not_an_empty_key() -> None:
    loaded = settings.load("rehearsal")
    stacks = object.__new__(Stacks)
    values = {key: value for key, value in loaded.values.items() if key not in settings.SECRETS}
    stacks.settings = replace(loaded, values=values)
    command = stacks.compose_command("day", "config", "--quiet")
    done = subprocess.run(
        command, env=stacks.compose_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "run make setup" in done.stderr


def test_shell_scripts_parse() -> None:
    for script in [
        *REPOSITORY.glob("scripts/*.sh"),
        *REPOSITORY.glob("images/**/*.sh"),
        REPOSITORY / "images/base/install-packages",
        REPOSITORY / ".ci/run",
    ]:
        shell = (
            "bash" if "bash" in Path(script).read_text(encoding="utf-8").splitlines()[0] else "sh"
        )
        subprocess.run([shell, "-n", str(script)], check=True)


def test_the_model_runs_as_the_state_folders_owner_in_group_0(day: dict[str, Any]) -> None:
    owner = Path(
        next(
            mount["source"]
            for mount in day["services"]["vllm"]["volumes"]
            if mount["target"] == "/adapters"
        )
    ).parent
    uid = (owner if owner.exists() else REPOSITORY).stat().st_uid
    assert day["services"]["vllm"]["user"] == f"{uid}:0"


@pytest.mark.parametrize("profile", settings.PROFILES)
def test_a_pinned_image_that_was_loaded_is_run_by_its_id(profile: str, tmp_path: Path) -> None:
    pinned = "registry.example.org/one:1@sha256:" + "a" * 64
    (tmp_path / settings.LOADED).write_text(json.dumps({pinned: "sha256:" + "b" * 64}))
    images = dict.fromkeys((*settings.IMAGES, "REHEARSAL_BASE_IMAGE"), pinned)
    found = configuration("day", profile, STATE_DIR=str(tmp_path), **images)
    assert found["services"]["door"]["image"] == "sha256:" + "b" * 64


CONTROLS = ("CONTROLS", "SYSTEM_PROMPT", "PARAMS", "VALVES")


@pytest.mark.parametrize("value", ["false", "true"])
def test_members_get_controls_memories_and_a_system_prompt_only_if_the_site_says_so(
    value: str,
) -> None:
    environment = configuration("day", "spark", MEMBER_CONTROLS=value)["services"]["open-webui"]
    found = {
        name: environment["environment"][f"USER_PERMISSIONS_{name}"]
        for name in (*(f"CHAT_{one}" for one in CONTROLS), "FEATURES_MEMORIES")
    }
    assert found == dict.fromkeys(found, value)


@pytest.mark.parametrize("profile", settings.PROFILES)
def test_members_get_none_by_default(profile: str) -> None:
    assert settings.load(profile)["MEMBER_CONTROLS"] == "false"


def test_another_commit_of_the_model_is_another_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compose recreates a container only if its configuration changes, and offline vLLM reads the
    commit only at its start."""
    monkeypatch.setattr(settings.Settings, "state", tmp_path)
    name, found = settings.load("spark")["SERVED_MODEL"], []
    for commit in ("", "abc", "def"):
        (tmp_path / "models.json").write_text(json.dumps({name: {"commit": commit}}))
        found.append(configuration("day", "spark")["services"])
    assert [one["vllm"]["environment"]["SERVED_COMMIT"] for one in found] == ["", "abc", "def"]
    for one in found:
        del one["vllm"]
    assert found[0] == found[1] == found[2]
