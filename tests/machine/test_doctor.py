"""Each check, passing and failing, on an invented machine; and an observation of the real one."""

import os
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glue.clients import host
from glue.clients.docker import Engine
from glue.clients.host import Machine
from glue.clients.knowledge import UNATTACHED
from glue.core import commands, files, gpu, recipes, settings
from glue.core.gpu import Gpu
from glue.core.services import Service
from glue.core.settings import REPOSITORY
from glue.machine import doctor
from glue.machine.check_types import Grade, Host

GB10 = Gpu("NVIDIA GB10", "580.159.03", "12.1", 2400, 3003, 60, 95)
MACHINE = Machine(
    "NVIDIA DGX Spark, DGX OS 7.5.0", "aarch64", GB10, 110 * 10**9, 5 * 10**9, True, "Europe/Berlin"
)
ENGINE = Engine("29.2.1", "2.40.3", True, Path("/var/lib/docker"), (), (), {}, None)
SECRETS = dict.fromkeys(settings.SECRETS, "0123456789abcdef")
VLLM = Service("vllm", "running", "healthy")
CHAT = Service("open-webui", "running", "healthy")


def good(profile: str = "spark") -> Host:
    loaded = settings.load(profile)
    return Host(
        settings=replace(loaded, values=loaded.values | SECRETS),
        recipe=recipes.load(REPOSITORY / "env" / "recipes", "team"),
        machine=MACHINE,
        engine=ENGINE,
        engine_free_bytes=10**12,
        state_free_bytes=10**12,
        one_disk=True,
        port_free=True,
        secrets_mode=0o600,
        replay_there=True,
        adapters=0,
        wrong_files=dict.fromkeys(loaded.hub_models("bf16"), ()),
        model_bytes={},
    )


def machine(**changes: Any) -> Host:
    return replace(good(), machine=replace(MACHINE, **changes))


def with_gpu(**changes: Any) -> Host:
    return machine(gpu=replace(GB10, **changes))


def engine(**changes: Any) -> Host:
    return replace(good(), engine=replace(ENGINE, **changes))


def setting(**changes: str) -> Host:
    return replace(
        good(), settings=replace(good().settings, values=good().settings.values | changes)
    )


def grade(seen: Host, name: str) -> tuple[str, str]:
    finding = next(finding for finding in doctor.examine(seen, (name,)))
    return finding.grade.value, f"{finding.saw} {finding.do}"


SERVED, TRAINED = good().settings["SERVED_MODEL"], good().settings["TRAINED_MODEL"]
ON_BF16 = replace(good(), recipe=recipes.load(REPOSITORY / "env" / "recipes", "case-study"))


def test_a_good_spark_is_ok_in_every_check() -> None:
    beside = replace(setting(NIGHT="beside"), recipe=good().recipe)
    found = {finding.name: finding.grade for finding in doctor.examine(beside, ("night beside",))}
    found |= {finding.name: finding.grade for finding in doctor.examine(ON_BF16, doctor.ALL)}
    assert found == dict.fromkeys(doctor.ALL, Grade.OK)


def test_the_bf16_model_is_checked_only_for_a_recipe_that_trains_it() -> None:
    checked = [finding.name for finding in doctor.examine(good(), doctor.ALL)]
    others = ("trained model", "night beside")
    assert checked == [name for name in doctor.ALL if name not in others]
    gone = {SERVED: ("never fetched",)}
    needed = [
        finding
        for aim in (doctor.ALL, doctor.NIGHT)
        for finding in doctor.examine(replace(good(), wrong_files=gone), aim)
        if finding.grade is not Grade.OK
    ]
    assert {finding.name for finding in needed} == {"served model"}


@pytest.mark.parametrize(
    ("name", "seen", "wanted", "words"),
    [
        (
            "system",
            machine(gpu=None, gpu_fault="No devices were found"),
            "fail",
            "No devices were found shut down, unplug",
        ),
        ("system", machine(architecture="x86_64"), "warn", "x86_64"),
        ("system", with_gpu(capability="9.0"), "warn", "9.0"),
        (
            "answer",
            replace(good(), answer_fault="vLLM did not answer"),
            "fail",
            "vLLM did not answer make day",
        ),
        ("answer", replace(good(), answer_fault=""), "ok", "tokens"),
        ("answer", good(), "ok", "not asked"),
        (
            "driver",
            machine(gpu=None, gpu_fault="not installed"),
            "fail",
            "install the NVIDIA driver",
        ),
        ("driver", with_gpu(driver="570.86"), "fail", "CUDA 13"),
        ("driver", with_gpu(driver="590.44.01"), "warn", "deadlock"),
        ("driver", with_gpu(driver="580.173.02"), "ok", "make setup runs a kernel"),
        ("driver", with_gpu(driver="610.43"), "ok", "make setup runs a kernel"),
        ("clocks", with_gpu(clock_mhz=513, power_watts=28), "fail", "unplug"),
        ("clocks", with_gpu(clock_mhz=208, power_watts=4, busy_percent=0), "ok", "idle"),
        ("clocks", with_gpu(clock_mhz=208, busy_percent=None), "ok", "idle"),
        ("clocks", with_gpu(slowed_by=("heat",)), "warn", "heat"),
        ("clocks", with_gpu(clock_mhz=None), "warn", "no clock speed"),
        ("memory", machine(available_bytes=30 * 10**9), "fail", "38.0 GB"),
        ("memory", engine(trainer=Service("trainer", "running")), "ok", "training"),
        ("page cache", machine(may_drop_cache=False), "warn", "drop_caches"),
        ("docker", engine(version="24.0.7"), "fail", "25"),
        ("docker", engine(compose="2.24.3"), "fail", "2.24.4"),
        ("docker", engine(compose=""), "fail", "none"),
        ("docker", engine(compose="v2.26.1-4"), "ok", "2.26"),
        ("docker", engine(options=("seccomp", "rootless")), "fail", "docker context use default"),
        ("docker", engine(options=("seccomp", "userns")), "fail", "userns-remap"),
        ("docker", engine(folder=Path("/var/snap/docker/common/var-lib-docker")), "fail", "snap"),
        ("docker", engine(system="Docker Desktop"), "fail", "virtual machine"),
        ("docker", engine(system="fedora, Podman Engine"), "fail", "Podman"),
        ("docker", engine(address="tcp://10.0.0.5:2375"), "fail", "another machine"),
        ("docker", engine(address="ssh://spark"), "fail", "another machine"),
        (
            "docker",
            engine(address="unix:///run/user/1000/docker.sock"),
            "warn",
            "timers do not know",
        ),
        (
            "docker",
            engine(context="; the context 'desktop-linux'"),
            "warn",
            "docker context use default",
        ),
        ("docker", engine(driver="vfs"), "warn", "overlay2"),
        (
            "state folder",
            replace(good(), disk_fault="the disk has no file locks: [Errno 37]"),
            "fail",
            "ext4",
        ),
        (
            "state folder",
            replace(good(), disk_fault="[Errno 30] Read-only file system"),
            "fail",
            "dmesg",
        ),
        (
            "state files",
            replace(good(), damaged_files=(Path("/s/turn.json"),)),
            "warn",
            "turn.json",
        ),
        ("GPU toolkit", engine(gpus=False), "fail", "nvidia-ctk"),
        ("day's images", engine(missing_images=(good().settings["VLLM_IMAGE"],)), "fail", "vllm"),
        ("day's images", engine(missing_images=(good().settings["TRAINER_IMAGE"],)), "ok", ""),
        (
            "night's image",
            engine(missing_images=(good().settings["TRAINER_IMAGE"],)),
            "fail",
            "trainer",
        ),
        ("volumes", engine(missing_volumes=("spark-webui-data",)), "fail", "make setup"),
        ("volumes", engine(missing_volumes=("spark-models",)), "fail", "spark-models make setup"),
        (
            "volumes",
            engine(missing_volumes=("spark-serving-cache", "spark-trainer-cache")),
            "warn",
            "serving-cache",
        ),
        (
            "volumes",
            replace(good(), chat_lost="no chat", chat_way_back="make restore"),
            "fail",
            "no chat make restore",
        ),
        ("night's cache", engine(missing_volumes=("spark-trainer-cache",)), "fail", "make setup"),
        ("night's cache", engine(missing_volumes=("spark-models",)), "ok", "exist"),
        ("backups", replace(good(), backup_fault="not mounted"), "warn", "BACKUP_DIR"),
        ("documents", replace(good(), documents_fault="deleted"), "warn", "make ingest"),
        ("documents", replace(good(), documents_fault=UNATTACHED), "warn", "make day"),
        ("account", replace(good(), account_fault=("refused", "make day")), "warn", "make day"),
        ("account", good(), "ok", "signs in"),
        ("backups", replace(good(), backups_on_own_disk=True), "warn", "another disk"),
        (
            "served model",
            replace(good(), wrong_files={SERVED: ("a", "b"), TRAINED: ()}),
            "fail",
            "a, b",
        ),
        ("served model", replace(good(), wrong_files={SERVED: (), TRAINED: ("a",)}), "ok", ""),
        (
            "trained model",
            replace(ON_BF16, wrong_files={SERVED: (), TRAINED: ("a",)}),
            "fail",
            "make setup",
        ),
        (
            "served model",
            replace(good(), wrong_files={SERVED: ("no space",)}, unseen=frozenset({SERVED})),
            "warn",
            "no space",
        ),
        (
            "trained model",
            replace(ON_BF16, wrong_files={TRAINED: ("no space",)}, unseen=frozenset({TRAINED})),
            "fail",
            "no space",
        ),
        ("embedding", setting(EMBEDDING_MODEL="BAAI/bge-m3"), "fail", "MiniLM"),
        ("embedding", setting(EMBEDDING_MODEL="/opt/embedding-model"), "ok", ""),
        ("secrets", replace(good(), secrets_mode=0o644), "warn", "chmod 600"),
        ("port", replace(good(), port_free=False), "fail", "CHAT_PORT"),
        (
            "port",
            replace(good(), port_free=False, engine=replace(ENGINE, services={"open-webui": CHAT})),
            "ok",
            "own",
        ),
        ("time zone", machine(time_zone="Etc/UTC"), "warn", "07:00 UTC"),
        ("time zone", machine(time_zone="Europe/London"), "ok", "summer"),
        ("replay", replace(good(), replay_there=False), "warn", "replay.jsonl"),
        (
            "replay",
            replace(
                good(),
                replay_there=False,
                recipe=replace(good().recipe, replay_file=""),  # type: ignore[type-var]
            ),
            "ok",
            "no",
        ),
    ],
)
def test_each_check_finds_its_fault_and_names_a_remedy(
    name: str, seen: Host, wanted: str, words: str
) -> None:
    found, said = grade(seen, name)
    assert found == wanted and words in said, said


def test_missing_secrets_are_named() -> None:
    values = {key: value for key, value in good().settings.values.items() if key != "MODEL_API_KEY"}
    assert grade(replace(good(), settings=replace(good().settings, values=values)), "secrets") == (
        "fail",
        (
            "missing: MODEL_API_KEY check that the disk of STATE_DIR is mounted; on a new machine:"
            " make setup"
        ),
    )


def test_keys_of_an_earlier_version_are_told_with_the_file_that_replaces_them() -> None:
    found, given = good(), good().settings
    sources = given.sources | {"SERVED_MODEL_REVISION": "env/site.env"}
    old = replace(found, settings=replace(given, sources=sources))
    words = "set served_revision in a copy of env/models/nano.toml, name that with MODEL"
    assert grade(old, "model keys")[0] == "warn" and words in grade(old, "model keys")[1]
    assert grade(found, "model keys") == ("ok", "env/models/nano.toml ")


def test_a_loaded_model_counts_as_memory_for_the_night() -> None:
    serving = engine(services={"vllm": VLLM})
    plenty, little = (
        replace(serving, machine=replace(MACHINE, available_bytes=count * 10**9))
        for count in (40, 30)
    )
    assert grade(plenty, "memory")[0] == "ok"
    assert grade(little, "memory")[0] == "warn"
    on_bf16 = replace(plenty, recipe=ON_BF16.recipe)
    assert "a night needs 105.0 GB" in grade(on_bf16, "memory")[1]


def test_a_night_beside_the_day_is_refused_with_its_numbers() -> None:
    serving = replace(setting(NIGHT="beside"), engine=replace(ENGINE, services={"vllm": VLLM}))
    little = replace(serving, machine=replace(MACHINE, available_bytes=69 * 10**9))
    found, said = grade(little, "night beside")
    assert found == "fail" and "108.0 GB together, and there are 107.0 GB" in said
    assert "set NIGHT=swap in env/site.env" in said and "more when the model stops" not in said
    assert grade(little, "memory") == ("ok", "69.0 GB available ")
    merged = replace(serving, serves_merged=True)
    assert "a merged checkpoint serves" in grade(merged, "night beside")[1]
    assert "night beside" in doctor.NIGHT, "before anything starts"


def test_the_model_s_plan_is_told_and_a_model_that_no_night_can_train_is_refused() -> None:
    assert grade(good(), "model") == (
        "ok",
        "nano: a day needs 38.0 GB, with a cache of at most 3,255,208 tokens; a night 70.0 GB ",
    )
    assert grade(setting(MODEL="lightning"), "model")[0] == "fail"
    bf16 = replace(good().recipe, base="bf16")  # type: ignore[type-var]
    found, said = grade(replace(setting(MODEL="lightning"), recipe=bf16), "model")
    assert found == "warn" and "computed, not run on this size" in said
    found, said = grade(replace(setting(MODEL="super"), recipe=bf16), "model")
    assert (
        found == "fail" and "its BF16 weights take 241.3 GB, a training step may take 85.0" in said
    )


def test_a_served_checkpoint_that_is_packed_otherwise_than_its_file_says_is_refused(
    tmp_path: Path,
) -> None:
    seen = setting(STATE_DIR=str(tmp_path))
    facts = {"name": SERVED, "configuration": {"model_type": "nemotron_h"}}
    files.write_json(tmp_path / "base_model.json", facts | {"quantisation": "NVFP4"})
    assert grade(seen, "model")[0] == "ok"
    files.write_json(tmp_path / "base_model.json", facts | {"quantisation": "MIXED_PRECISION"})
    found, said = grade(seen, "model")
    assert found == "fail" and "it is nemotron_h in MIXED_PRECISION; a recipe with base" in said
    assert "model" in doctor.NIGHT, "so that a night ends before vLLM stops"


def test_a_model_that_no_night_can_train_is_fine_where_no_nights_are_wanted() -> None:
    found, said = grade(setting(MODEL="super"), "model")
    assert found == "fail" and "days work as they are; for nights set another MODEL" in said
    found, said = grade(setting(MODEL="super", NIGHT_DAYS=""), "model")
    assert found == "ok" and "no nights, as NIGHT_DAYS says: " in said


def test_an_adapter_that_was_made_for_another_model_is_told() -> None:
    found, said = grade(replace(good(), adapter_fault="it was made for nvidia/other"), "model")
    assert found == "warn" and "made for nvidia/other make day, which serves the base" in said


def test_needed_disk_counts_only_missing_data() -> None:
    empty = {SERVED: ("never fetched",), TRAINED: ("never fetched",)}
    fresh = replace(
        ON_BF16, wrong_files=empty, engine=replace(ENGINE, missing_images=good().settings.images)
    )
    wanted = 65.4e9 + 19.3e9 + 63.2e9 + 20e9 + 3 * 0.9e9
    assert grade(replace(fresh, state_free_bytes=int(wanted) - 1), "disk")[0] == "fail"
    assert grade(replace(fresh, state_free_bytes=int(wanted) + 1), "disk")[0] == "ok"
    one_model = replace(fresh, recipe=good().recipe, wrong_files={SERVED: ("never fetched",)})
    less = int(wanted - 63.2e9)
    assert [
        grade(replace(one_model, state_free_bytes=free), "disk")[0] for free in (less - 1, less + 1)
    ] == ["fail", "ok"]
    half = replace(
        fresh, model_bytes={TRAINED: 60 * 10**9}, state_free_bytes=int(wanted - 60e9) + 1
    )
    assert grade(half, "disk")[0] == "ok"
    assert grade(replace(good(), adapters=3, state_free_bytes=int(20e9)), "disk")[0] == "ok"


def test_needed_disk_is_counted_per_disk() -> None:
    fresh = replace(
        good(), one_disk=False, engine=replace(ENGINE, missing_images=good().settings.images)
    )
    assert "/var/lib/docker" in grade(replace(fresh, engine_free_bytes=10**9), "disk")[1]
    assert str(good().settings.state) in grade(replace(fresh, state_free_bytes=10**9), "disk")[1]
    merged = replace(fresh, recipe=recipes.load(REPOSITORY / "env" / "recipes", "free"))
    assert [
        grade(replace(one, state_free_bytes=30 * 10**9), "disk")[0] for one in (fresh, merged)
    ] == ["ok", "fail"]


def test_a_certificate_that_expires_is_a_warning() -> None:
    assert grade(good(), "certificate")[0] == "ok"
    bad = replace(good(), certificate_fault="it expires within a month")
    assert (
        grade(bad, "certificate")[0] == "warn" and "within a month" in grade(bad, "certificate")[1]
    )


def test_the_rehearsal_skips_checks_of_a_spark() -> None:
    names = {finding.name for finding in doctor.examine(good("rehearsal"), doctor.ALL)}
    assert set(doctor.ALL) - names == {
        "driver",
        "clocks",
        "page cache",
        "GPU toolkit",
        "served model",
        "trained model",
        "night beside",
    }


def test_a_day_checks_only_its_own_needs() -> None:
    bad = replace(
        good(),
        wrong_files={SERVED: (), TRAINED: ("a",)},
        state_free_bytes=0,
        machine=replace(MACHINE, available_bytes=0),
    )
    assert {finding.grade for finding in doctor.examine(bad, doctor.DAY)} == {Grade.OK}
    assert Grade.FAIL in {finding.grade for finding in doctor.examine(bad, doctor.NIGHT)}


# ---------------------------------------------------------------------- reading the machine


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (
            "NVIDIA GB10, 580.142, 12.1, 2418, 3003, 41.23, 96, 0x0000000000000000\n",
            Gpu("NVIDIA GB10", "580.142", "12.1", 2418, 3003, 41.23, 96),
        ),
        (
            (
                "NVIDIA GB10, 580.142, 12.1, [N/A], [Not Supported], N/A, [N/A],"
                " 0x00000000000000C1\nsecond, ...\n"
            ),
            Gpu(
                "NVIDIA GB10",
                "580.142",
                "12.1",
                None,
                None,
                None,
                None,
                ("heat", "the power supply"),
            ),
        ),
        (  # as one printed it
            "NVIDIA H200, 580.159.04, 9.0, 390, 1980, 111.81, 0, 0x0000000000000001\n",
            Gpu("NVIDIA H200", "580.159.04", "9.0", 390, 1980, 111.81, 0),
        ),
        (
            "NVIDIA GB10, 580.142, 12.1, 1, 2, 3, 4, [N/A]",
            Gpu("NVIDIA GB10", "580.142", "12.1", 1, 2, 3, 4),
        ),
        ("No devices were found", None),
        ("", None),
    ],
)
def test_nvidia_smi_output_without_numbers_is_read(line: str, wanted: Gpu | None) -> None:
    assert gpu.read(line) == wanted


HANGS_SECONDS = 40


@pytest.mark.parametrize("can_be_killed", [True, False])
def test_a_hanging_nvidia_smi_times_out_and_the_machine_stays_a_spark(
    can_be_killed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for one that waits for its driver and cannot be killed until the driver
    answers."""
    stand_in = tmp_path / "nvidia-smi"
    stand_in.write_text(f"#!/bin/sh\nexec sleep {HANGS_SECONDS}\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(gpu, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(commands, "END_SECONDS", 0.05)
    if not can_be_killed:
        monkeypatch.setattr(subprocess.Popen, "terminate", lambda process: None)
        monkeypatch.setattr(os, "killpg", lambda group, number: None)
    began = time.monotonic()
    seen = host.observe()
    assert seen.gpu is None and "no answer in 0 s" in seen.gpu_fault
    assert settings.detect_profile(tmp_path) == "spark"
    assert time.monotonic() - began < 10


MISMATCH = (
    "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.142"
)
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that"
    " it is running."
)
LOST = (
    "Unable to determine the device handle for GPU0: 000F:01:00.0: GPU is lost.  Reboot the system"
    " to recover this GPU"
)


@pytest.mark.parametrize(
    ("script", "words", "do"),
    [
        (
            f"echo '{MISMATCH}' >&2; exit 18",
            "version mismatch NVML library version: 580.142",
            "sudo reboot",
        ),
        (
            "echo 'Failed to initialize NVML: Driver Not Loaded'; exit 9",
            "Driver Not Loaded",
            "sudo reboot",
        ),
        (
            "echo 'Failed to initialize NVML: Insufficient Permissions'; exit 4",
            "Insufficient",
            "/dev/nvidia",
        ),
        (f'echo "{NO_DRIVER}"; exit 9', "couldn't communicate", "reinstall the driver"),
        (
            "echo 'No devices were found'; exit 6",
            "No devices were found",
            "unplug the power supply",
        ),
        ("echo 'No devices were found'", "No devices were found", "unplug the power supply"),
        (f"echo '{LOST}'; exit 15", "GPU is lost", "unplug the power supply"),
        (
            f"echo '{', '.join(['[GPU is lost]'] * len(gpu.FIELDS))}'",
            "GPU is lost",
            "unplug the power supply",
        ),
        ("exit 9", "exit 9", "sudo reboot"),
        ("exit 0", "exit 0", "sudo reboot"),
        ("printf '\\000\\377'; exit 1", "\0", "sudo reboot"),
    ],
)
def test_a_failing_nvidia_smi_is_quoted_with_a_remedy_and_the_machine_stays_a_spark(
    script: str, words: str, do: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert settings.detect_profile(tmp_path) == "spark"
    found, fault = gpu.look()
    assert found is None and words in fault
    for name in ("system", "driver"):
        result, said = grade(machine(gpu=None, gpu_fault=fault), name)
        assert result == "fail" and fault in said and do in said


def test_a_warning_of_nvidia_smi_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = "NVIDIA GB10, 580.142, 12.1, 2418, 3003, 41.23, 96, 0x0000000000000000"
    (tmp_path / "nvidia-smi").write_text(
        f"#!/bin/sh\necho WARNING: infoROM is corrupted >&2\necho '{answer}'\n"
    )
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert gpu.look() == (Gpu("NVIDIA GB10", "580.142", "12.1", 2418, 3003, 41.23, 96), "")


@pytest.mark.parametrize("mark", ["nvidia-smi", "dgx-release", "set up", "none"])
def test_any_sign_of_a_spark_selects_the_spark_profile(
    mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(settings, "DGX_RELEASE", tmp_path / "dgx-release")
    (tmp_path / "env").mkdir()
    if mark == "set up":
        settings.remember_spark(tmp_path)
    elif mark != "none":
        (tmp_path / mark).write_text("no program")
        (tmp_path / mark).chmod(0o755)
    assert settings.detect_profile(tmp_path) == ("demo" if mark == "none" else "spark")
    if mark != "nvidia-smi":
        assert gpu.look() == (None, "not installed")


def test_dgx_os_is_named_by_its_newest_update(tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text('PRETTY_NAME="Ubuntu 24.04.4 LTS"\n')
    assert host.system(tmp_path) == "Ubuntu 24.04.4 LTS"
    (tmp_path / "dgx-release").write_text(
        'DGX_PRETTY_NAME="NVIDIA DGX'
        ' Spark"\nDGX_SWBUILD_VERSION="7.2.3"\nDGX_OTA_VERSION="7.4.0"\nDGX_OTA_VERSION="7.5.0"\n'
    )
    assert host.system(tmp_path) == "NVIDIA DGX Spark, DGX OS 7.5.0"


def test_this_machine_can_be_observed() -> None:
    seen = host.observe()
    assert seen.system and seen.architecture and seen.time_zone
    assert 0 < seen.available_bytes < 2**45 and 0 < seen.cached_bytes < 2**45


def test_the_page_cache_is_dropped_only_where_this_user_may(tmp_path: Path) -> None:
    switch = tmp_path / "drop_caches"
    switch.touch()
    assert host.drop_page_cache(switch) and switch.read_text() == "3\n"
    assert not host.drop_page_cache(tmp_path / "not there" / "drop_caches")


def test_a_port_is_free_until_a_program_listens() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        number = other.getsockname()[1]
        other.listen()
        assert not host.port_is_free("127.0.0.1", number)
        assert not host.port_is_free("0.0.0.0", number)
    assert host.port_is_free("127.0.0.1", number)


def test_a_missing_folder_uses_the_disk_of_its_parent(tmp_path: Path) -> None:
    assert host.free_disk_bytes(tmp_path / "a" / "b") > 0
    assert host.on_one_disk(tmp_path / "a", tmp_path)
    assert not host.on_one_disk(tmp_path, Path("/proc"))
    assert host.file_mode(tmp_path / "a") is None


def test_the_time_zone_is_the_links_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TZ", raising=False)
    zone = tmp_path / "zoneinfo" / "Europe" / "Berlin"
    zone.parent.mkdir(parents=True)
    zone.touch()
    (tmp_path / "localtime").symlink_to(zone)
    assert host.time_zone(tmp_path / "localtime") == "Europe/Berlin"
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert host.time_zone(tmp_path / "localtime") == "Asia/Tokyo"
