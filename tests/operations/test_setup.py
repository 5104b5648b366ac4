import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from glue.clients import host
from glue.clients.docker import Stacks
from glue.clients.site import Site
from glue.core import commands, env_files, files, lock, settings
from glue.core import services as observed
from glue.core.commands import Hear
from glue.core.errors import GlueError, Misconfigured, PreconditionFailed
from glue.core.services import Service, Services
from glue.core.settings import REPOSITORY, Settings
from glue.machine import doctor, images, models
from glue.operations import setup
from glue.serving import day
from tests.stub_hub import LARGE, StubHub, fetch_command, running

ASKED = {"stub/model": "main"}
FACTS = {"name": "stub/model", "quantisation": "", "configuration": {"model_type": "nemotron_h"}}


@pytest.fixture
def hub() -> Iterator[StubHub]:
    with running(StubHub()) as started:
        yield started


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def site(tmp_path: Path, hub: StubHub, told: list[str], monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site with one model for both uses, in a stub of the hub. Containers are processes of
    this machine."""
    monkeypatch.setattr(images, "stream", lambda *arguments: without_docker(tmp_path, *arguments))
    monkeypatch.setattr(models, "stream", lambda *arguments: without_docker(tmp_path, *arguments))
    monkeypatch.setattr(images, "docker_cli", lambda: "docker")
    changes = {
        "SERVED_MODEL": "stub/model",
        "TRAINED_MODEL": "stub/model",
        "STATE_DIR": str(tmp_path),
    }
    changes |= {"HF_ENDPOINT": f"http://127.0.0.1:{hub.port}", "HF_TOKEN": "hf_secret"}
    loaded = settings.load("rehearsal")
    kept = cast(Stacks, SimpleNamespace(missing_images=lambda references: []))
    values = {key: value for key, value in loaded.values.items() if key not in settings.SECRETS}
    return Site(replace(loaded, values=values | changes), kept, told.append)


def without_docker(
    home: Path, command: list[str], environment: dict[str, str], hear: Hear, seconds: float
) -> tuple[int, str]:
    """Runs here what `docker run ... IMAGE /opt/fetch.py OPTIONS /opt/models.json MODELS` would run
    in the container."""
    assert "hf_secret" not in " ".join(command) and "--env=HF_TOKEN" in command
    options = [part for part in command if part == "--check"]
    assert ("--network=none" in command) is bool(options)
    names = command[command.index("/opt/models.json") + 1 :]
    return commands.stream(
        fetch_command(*options, str(home / "models.json"), *names),
        environment | {"HF_HOME": str(home), "SSL_CERT_FILE": ""},
        hear,
        seconds,
    )


def known(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((site.state / "models.json").read_text())
    return found["stub/model"]  # type: ignore[no-any-return]


def test_an_unchecked_model_differs_from_an_incomplete_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Docker's disk full no container starts, so the files are unknown and the day tries
    them."""
    entry = models.kept_or_new(None, "main")
    (site.state / "models.json").write_text(json.dumps({"stub/model": entry}))
    monkeypatch.setattr(images, "stream", lambda *_: (125, "no space left on device"))
    monkeypatch.setattr(models, "stream", lambda *_: (125, "no space left on device"))
    wrong, _, unseen = models.models(site, ASKED)
    assert unseen == {"stub/model"} and "no space left" in wrong["stub/model"][0]


def test_models_are_downloaded_once_at_the_first_commit_and_pass_the_doctor(
    site: Site, hub: StubHub
) -> None:
    assert models.models(site, ASKED)[0] == {"stub/model": ("never fetched",)}
    models.ensure_models(site, ASKED)
    assert known(site)["commit"] == hub.commit and set(known(site)["files"]) == set(hub.files)
    wrong, held, _ = models.models(site, ASKED)
    assert wrong == {"stub/model": ()} and held["stub/model"] == sum(map(len, hub.files.values()))
    before = hub.sent.copy()
    models.ensure_models(site, ASKED)
    assert hub.sent == before


def test_the_doctor_finds_a_truncated_file_and_setup_repairs_it(site: Site, hub: StubHub) -> None:
    models.ensure_models(site, ASKED)
    path = site.state / "hub" / "models--stub--model" / "snapshots" / hub.commit / LARGE
    path.write_bytes(b"half")
    assert models.models(site, ASKED)[0] == {"stub/model": (LARGE,)}
    models.ensure_models(site, ASKED)
    assert path.read_bytes() == hub.files[LARGE]


def test_another_revision_is_downloaded(site: Site, hub: StubHub) -> None:
    models.ensure_models(site, ASKED)
    assert models.kept_or_new(known(site), "main") == known(site)
    assert models.kept_or_new(known(site), "v2") == {"revision": "v2", "commit": "", "files": {}}
    assert models.models(site, {"stub/model": "v2"})[0] == {"stub/model": ("never fetched",)}


def test_an_unreachable_hub_is_an_error(site: Site) -> None:
    away = replace(
        site,
        settings=replace(
            site.settings, values=site.settings.values | {"HF_ENDPOINT": "http://127.0.0.1:9"}
        ),
    )
    with pytest.raises(GlueError) as error:
        models.ensure_models(away, ASKED)
    assert "stub/model" in error.value.saw and "make setup" in error.value.do


def test_only_models_that_are_asked_for_are_fetched_and_others_stay_known(
    site: Site, told: list[str], hub: StubHub
) -> None:
    """What an export fetched once is no business of setup, and keeps its commit."""
    other = {"revision": "main", "commit": "abc", "files": {"gone": {"size": 1, "hash": "git:1"}}}
    (site.state / "models.json").write_text(json.dumps({"other/model": other}))
    models.ensure_models(site, ASKED)
    assert known(site)["commit"] == hub.commit
    assert json.loads((site.state / "models.json").read_text())["other/model"] == other
    size = host.readable(sum(map(len, hub.files.values())))
    assert any("stub/model: found" in line and line.endswith(f", {size}") for line in told)
    assert not any("other/model" in line for line in told)


def test_what_another_command_records_during_a_fetch_is_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export fetches for hours, and setup may fetch a new revision meanwhile."""
    path, new = site.state / "models.json", {"revision": "v2", "commit": "new", "files": {}}
    path.write_text(json.dumps({"other/model": {"revision": "main", "commit": "old", "files": {}}}))
    row = {"model": "stub/model", "phase": "verified", "commit": "abc", "files": {}}

    def fetch(*arguments: Any) -> tuple[int, str]:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"other/model": new}))
        arguments[2](json.dumps(row))
        return 0, ""

    monkeypatch.setattr(models, "stream", fetch)
    models.ensure_models(site, ASKED)
    assert known(site)["commit"] == "abc"
    assert json.loads(path.read_text())["other/model"] == new


def test_a_model_given_as_a_path_is_not_downloaded(site: Site) -> None:
    models.ensure_models(site, settings.load("rehearsal").hub_models("bf16"))
    assert not (site.state / "models.json").exists()


def test_secrets_are_written_once_and_only_their_owner_reads_them(site: Site) -> None:
    setup.ensure_state(site.settings, site.tell)
    written = site.settings.secrets_file.read_text()
    assert stat.S_IMODE(site.settings.secrets_file.stat().st_mode) == 0o600
    setup.ensure_state(
        replace(site.settings, values=site.settings.values | read(site.settings)), site.tell
    )
    assert site.settings.secrets_file.read_text() == written and all(
        key in written for key in settings.SECRETS
    )


def read(chosen: Settings) -> dict[str, str]:
    return env_files.read_env_file(chosen.secrets_file)


# ---------------------------------------------------------------------- images


PULLED = """v0.32.0: Pulling from vllm/vllm-openai
aaaa: Pulling fs layer
bbbb: Pulling fs layer
cccc: Already exists
aaaa: Downloading
aaaa: Pull complete
bbbb: Pull complete
Digest: sha256:0123
"""


def test_a_pull_prints_progress(monkeypatch: pytest.MonkeyPatch, told: list[str]) -> None:
    def stream(
        command: list[str], environment: dict[str, str], hear: Hear, seconds: float
    ) -> tuple[int, str]:
        assert command[1:] == ["pull", "an/image:1"]
        for line in PULLED.splitlines():
            hear(line)
        return 0, ""

    monkeypatch.setattr(images, "stream", stream)
    monkeypatch.setattr(models, "stream", stream)
    monkeypatch.setattr(images, "docker_cli", lambda: "docker")
    images.pull("an/image:1", told.append)
    assert (
        told[-1] == "pulling an/image:1: 3 of 3 layers"
        and "pulling an/image:1: 1 of 3 layers" in told
    )


@pytest.mark.parametrize(
    "act",
    [lambda s: images.pull("an/image:1", print), lambda s: images.build_night_image(s, print)],
)
def test_a_failed_pull_raises_with_the_last_lines(
    act: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "stream", lambda *arguments: (1, "no such host"))
    monkeypatch.setattr(models, "stream", lambda *arguments: (1, "no such host"))
    monkeypatch.setattr(images, "docker_cli", lambda: "/usr/bin/docker")
    with pytest.raises(GlueError) as error:
        act(settings.load("spark"))
    assert "no such host" in error.value.saw


def test_the_night_image_is_built_only_if_missing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[list[str]] = []

    def stream(command: list[str], *more: Any) -> tuple[int, str]:
        built.append(command)
        return 0, ""

    monkeypatch.setattr(images, "stream", stream)
    monkeypatch.setattr(models, "stream", stream)
    monkeypatch.setattr(images, "docker_cli", lambda: "/usr/bin/docker")
    setup.ensure_night_image(site)
    assert built == []
    absent = cast(Stacks, SimpleNamespace(missing_images=list))
    setup.ensure_night_image(replace(site, stacks=absent))
    assert f"--build-arg=BASE_IMAGE={site.settings['NIGHT_BASE_IMAGE']}" in built[0]
    assert f"--tag={site.settings['TRAINER_IMAGE']}" in built[0] and built[0][-1] == str(
        REPOSITORY / "images" / "trainer"
    )


@pytest.mark.parametrize("first_passes", [True, False])
def test_new_kernels_are_tested_once_they_pass_only_for_a_new_image_or_new_code(
    site: Site, tmp_path: Path, first_passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    passes = [first_passes]

    def compose_command(stack: str, *arguments: str) -> list[str]:
        asked.append(arguments[-1])
        row = "ok" if passes[0] else "FAIL"
        said = f"echo '{row} mamba: their gradients'; echo '{{\"checks\": []}}'"
        return ["sh", "-c", f"{said}; {str(passes[0]).lower()}"]

    stub = SimpleNamespace(
        compose_command=compose_command,
        compose_environment=lambda: dict(os.environ),
        settings=site.settings,
        image_id=lambda reference: "sha256:1",
    )
    chosen = replace(site.settings, profile="spark")
    spark = replace(site, stacks=cast(Stacks, stub), settings=chosen)
    if not first_passes:
        with pytest.raises(GlueError, match="kernels") as error:
            setup.ensure_kernels(spark)
        assert "FAIL mamba: their gradients" in error.value.saw
        passes[0] = True
    setup.ensure_kernels(spark)
    setup.ensure_kernels(spark)
    assert asked[-2:] == list(setup.KERNEL_CHECKS) and len(asked) == (2 if first_passes else 3)
    code = tmp_path / "training"
    (code / "checks").mkdir(parents=True)
    monkeypatch.setattr(setup, "KERNEL_CODE", code)
    for name in ("packed.py", "checks/kernels.py"):
        asked.clear()
        (code / name).write_text("changed by an upgrade, beside the same image")
        setup.ensure_kernels(spark)
        setup.ensure_kernels(spark)
        assert asked == list(setup.KERNEL_CHECKS)


# ---------------------------------------------------------------------- running programs


def test_a_program_s_lines_are_streamed_and_the_last_ones_kept() -> None:
    heard: list[str] = []
    code, last_lines = commands.stream(
        ["sh", "-c", "seq 30; exit 3"], dict(os.environ), heard.append, 30
    )
    assert code == 3 and heard == [str(number) for number in range(1, 31)]
    assert last_lines.splitlines() == heard[-15:]


def test_a_program_ends_at_its_deadline() -> None:
    started = time.monotonic()
    assert commands.stream(["sleep", "60"], dict(os.environ), print, 0.2)[0] != 0
    assert time.monotonic() - started < 20


# ---------------------------------------------------------------------- a day that serves


SERVES: Services = {name: Service(name, "running", "healthy") for name in observed.DAY_SERVICES}


@pytest.mark.parametrize("services", [SERVES, {}])
def test_a_serving_day_is_left_alone_if_the_doctor_fails(
    services: Services, site: Site, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any) -> None:
        raise PreconditionFailed(
            "something needed is not there", "day's images: gone", "make setup"
        )

    monkeypatch.setattr(doctor, "require", missing)
    there = replace(site, stacks=cast(Stacks, SimpleNamespace(services=lambda stack: services)))
    if services:
        assert day.start(there)["mode"] == "day" and "gone" in told[-1]
    else:
        with pytest.raises(PreconditionFailed):
            day.start(there)


def test_an_error_of_a_script_is_raised_unchanged() -> None:
    said = (
        "docker: looking\nERROR 10: permission denied on the Docker socket\n  saw:  anna\n"
        "  do:   sudo usermod -aG docker $USER"
    )
    found = setup.told_by(said)
    assert found and (found.what, found.saw, found.do) == (
        "permission denied on the Docker socket",
        "anna",
        "sudo usermod -aG docker $USER",
    )
    assert setup.told_by("bash: docker: not found") is None


def spark_site(told: list[str], here: tuple[str, ...]) -> Site:
    """here: the images on this machine."""
    stacks = SimpleNamespace(
        missing_images=lambda references: [name for name in references if name not in here]
    )
    return Site(settings.load("spark"), cast(Stacks, stacks), told.append)


def test_a_base_image_that_the_driver_cannot_run_ends_setup_and_names_another(
    told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled: list[str] = []
    monkeypatch.setattr(images, "pull", lambda reference, tell: pulled.append(reference))
    monkeypatch.setattr(
        images,
        "run_kernel",
        lambda image: (1, "RuntimeError: the NVIDIA driver on your system is too old"),
    )
    site = spark_site(told, ())
    with pytest.raises(PreconditionFailed) as error:
        setup.ensure_night_base_runs(site)
    assert pulled == [site.settings["NIGHT_BASE_IMAGE"]]
    assert (
        "too old" in error.value.saw
        and f"NIGHT_BASE_IMAGE={site.settings['CUDA_13_0_BASE_IMAGE']}" in error.value.do
    )


def test_a_working_base_image_is_tried_only_before_the_build(
    told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        images, "run_kernel", lambda image: (0, "a warning\nCUDA 13.2 runs on NVIDIA GB10")
    )
    site = spark_site(told, (settings.load("spark")["NIGHT_BASE_IMAGE"],))
    setup.ensure_night_base_runs(site)
    assert told[-1] == "CUDA 13.2 runs on NVIDIA GB10"
    monkeypatch.setattr(images, "run_kernel", lambda image: (1, ""))
    setup.ensure_night_base_runs(spark_site(told, (site.settings["TRAINER_IMAGE"],)))


def test_the_base_image_is_tried_before_large_downloads(
    told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(site: Site) -> None:
        raise PreconditionFailed("the kernel fails", "", "")

    fetched: list[str] = []
    for name in ("ensure_docker", "ensure_state", "require_its_secrets"):
        monkeypatch.setattr(setup, name, lambda *_: None)
    monkeypatch.setattr(settings, "remember_spark", lambda: None)
    monkeypatch.setattr(host, "open_to_containers", lambda *_: None)
    for name in ("ensure_images", "ensure_night_image"):
        monkeypatch.setattr(setup, name, lambda site: fetched.append("fetched"))
    monkeypatch.setattr(models, "ensure_models", lambda *_: fetched.append("fetched"))
    monkeypatch.setattr(setup, "open_site", lambda profile, tell: spark_site(told, ()))
    monkeypatch.setattr(doctor, "require", lambda *_: None)
    monkeypatch.setattr(setup, "ensure_night_base_runs", end)
    with pytest.raises(PreconditionFailed):
        setup.ensure("spark", told.append)
    assert fetched == []


def test_a_recipe_is_counted_beside_a_night_and_is_not_taken_for_its_trainer(
    site: Site, told: list[str]
) -> None:
    """A stub of Docker: the job prints what the real one counts."""
    asked: list[tuple[str, ...]] = []
    orders: list[str] = []
    counted: dict[str, Any] = {"total_parameters": 31_577_937_344, "unmatched": []}
    counted |= {"trainable_parameters": 439_440_384, "memory": "84.7 of 85.0 GB"}

    def compose_command(stack: str, *arguments: str) -> list[str]:
        asked.append(arguments)
        orders.append((site.state / "order.json.unfinished").read_text())
        return ["echo", json.dumps(counted)]

    stacks = SimpleNamespace(
        compose_command=compose_command,
        compose_environment=lambda: dict(os.environ),
        remove_container=lambda service: asked.append((service,)),
    )
    known = replace(site.settings, values=site.settings.values | {"MODEL": "lightning"})
    beside = replace(site, stacks=cast(Stacks, stacks), settings=known)
    with lock.hold(site.state, lock.TRAINING, "a night"):
        assert setup.show(beside, "team") == {
            "name": "team",
            "engine": "grouped",
            "serve": "adapter",
            "rank": 16,
            "total_parameters": 31_577_937_344,
            "trainable_parameters": 439_440_384,
            "memory": known.untrainable("served"),
            "model": "lightning",
            "basis": "computed, not run on this size",
        }
        assert "it has FP8 layers" in known.untrainable("served")
        trainable = replace(known, values=known.values | {"MODEL": "smollm2"})
        files.write_json(site.state / "base_model.json", FACTS)
        counts = setup.show(replace(beside, settings=trainable), "team")
        assert (counts["memory"], counts["model"]) == ("84.7 of 85.0 GB", "smollm2")
        assert json.loads(orders[-1])["configuration"] == FACTS["configuration"]
        counted["unmatched"] = ["gate_proj"]
        with pytest.raises(Misconfigured, match="targets that the model does not have"):
            setup.show(beside, "team")
    assert not any("trainer" in arguments for arguments in asked), "the watch stops a trainer"


def test_a_recipe_is_told_to_fit_beside_the_day_or_not(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by doctor. Without a container: the day and the night take 2 GB each."""
    stacks = SimpleNamespace(services=lambda stack: {}, trainer=lambda: None)
    values = site.settings.values | {"NIGHT": "beside"}
    chosen = replace(site.settings, values=values)
    beside = replace(site, stacks=cast(Stacks, stacks), settings=chosen)
    recipe = site.recipe("rehearsal")
    monkeypatch.setattr(host, "available_bytes", lambda: 3 * 10**9)
    assert setup.beside(site, recipe) == {}
    said = setup.beside(beside, recipe)["beside"]
    assert "4.0 GB together, and there are 3.0 GB for them; set NIGHT=swap" in said
    monkeypatch.setattr(host, "available_bytes", lambda: 4 * 10**9)
    assert "NIGHT=swap" not in setup.beside(beside, recipe)["beside"]


def test_a_recipe_of_a_model_that_is_not_known_yet_is_not_counted(site: Site) -> None:
    """The practice model's file does not say its layers; make setup finds them."""
    with pytest.raises(PreconditionFailed, match="layers are not known"):
        setup.show(site, "team")


@pytest.mark.parametrize(
    "before",
    [{}, FACTS | {"name": "stub/other"}, {"name": "stub/model"}, FACTS | {"commit": "of before"}],
)
def test_the_served_checkpoint_is_read_once_and_again_for_another_or_by_a_new_version(
    before: dict[str, Any], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def describe(_: Site, *command: str, **__: Any) -> dict[str, Any]:
        read.append(" ".join(command))
        return FACTS

    monkeypatch.setattr(setup, "run_job", describe)
    files.write_json(site.state / "base_model.json", before)
    for _ in range(2):
        setup.ensure_base_facts(site)
    assert read == ["training.describe stub/model"]
    assert site.settings.base_facts == FACTS | {"commit": ""}
