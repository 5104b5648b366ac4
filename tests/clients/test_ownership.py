"""File ownership and modes: a umask of 027 or 077, files of root, folders of another owner,
paths that need quotes."""

import json
import os
import pwd
import stat
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from glue.cli import framework, main
from glue.clients import host
from glue.clients.docker import MOUNTED
from glue.clients.site import Site
from glue.core import env_files, files, lock, settings
from glue.core.errors import Misconfigured, PreconditionFailed
from glue.machine import doctor, hours, images, schedule
from glue.machine.check_types import Grade
from glue.operations import setup
from tests.machine.test_doctor import good

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


@pytest.fixture(params=[0o022, 0o027, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> int:
    before = os.umask(request.param)
    request.addfinalizer(lambda: os.umask(before))
    return int(request.param)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_files_have_the_right_mode_under_any_umask(umask: int, tmp_path: Path) -> None:
    files.write_json(tmp_path / "notice.json", {})
    files.write(tmp_path / "secrets.env", "", mode=0o600)
    files.append_line(tmp_path / "journal.jsonl", {})
    assert [mode(tmp_path / name) for name in ("notice.json", "secrets.env", "journal.jsonl")] == [
        0o644,
        0o600,
        0o644,
    ]


def test_setup_makes_the_clone_readable_but_not_site_env(umask: int, tmp_path: Path) -> None:
    (tmp_path / "images" / "door").mkdir(parents=True)
    script = tmp_path / "images" / "door" / "haproxy.cfg"
    script.touch()
    (tmp_path / "site.env").touch(mode=0o600)
    assert bool(host.closed_to_containers([tmp_path / "images"])) is bool(umask & 0o004)
    host.open_to_containers([tmp_path / "images"])
    assert mode(script) & 0o444 == 0o444 and mode(script.parent) & 0o555 == 0o555
    assert (
        host.closed_to_containers([tmp_path / "images"]) == []
        and mode(tmp_path / "site.env") == 0o600
    )


def test_all_mounted_repository_paths_are_made_readable() -> None:
    mounted = [
        line.strip().removeprefix("- ").removeprefix('volumes: ["').partition(":")[0]
        for file in settings.REPOSITORY.glob("compose.*.yaml")
        for line in file.read_text().splitlines()
        if "./" in line and ":ro" in line
    ]
    opened = {str(path.relative_to(settings.REPOSITORY)) for path in MOUNTED}
    assert mounted and all(
        {str(part) for part in (Path(name), *Path(name).parents)} & opened for name in mounted
    )


def test_the_doctor_names_files_that_containers_cannot_read() -> None:
    found = doctor.examine(
        replace(good(), closed_files=(Path("/repo/images/door/haproxy.cfg"),)), ("repository",)
    )[0]
    assert found.grade is Grade.WARN and "haproxy.cfg" in found.saw and "chmod -R a+rX" in found.do


# ---------------------------------------------------------------------- owners


def as_user(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)


@ROOT
@pytest.mark.parametrize(
    ("folder_owner", "file_owner", "me", "do"),
    [
        (2001, 0, 2001, "sudo chown -R 2001: "),  # sudo make setup once
        (0, 0, 2001, "sudo chown -R 2001: "),  # all of it by sudo
        (1, 0, 2001, "sudo chown -R daemon: "),
        (
            2002,
            2002,
            2001,
            "sudo chown -R 2001: ",
        ),  # from another machine: 2002 has no account here
    ],
)
def test_a_file_of_another_user_is_named_with_a_command(
    folder_owner: int,
    file_owner: int,
    me: int,
    do: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = tmp_path / "a state"
    state.mkdir()
    path = state / "secrets.env"
    path.touch(mode=0o600)
    os.chown(state, folder_owner, folder_owner)
    os.chown(path, file_owner, file_owner)
    as_user(monkeypatch, me)
    error = host.denied(path)
    assert (
        error.do == f"{do}'{state}'"
        and f"{path} is {host.user_name(file_owner)}'s, mode 600" in error.saw
    )


def test_the_command_runs_as_the_owner_if_it_has_an_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "journal.jsonl").touch()
    monkeypatch.setattr(
        host, "user_name", lambda uid: {os.getuid(): "alice", 2001: "bob"}.get(uid, "root")
    )
    if os.getuid() == 0:
        os.chown(tmp_path, 1, 1)
        os.chown(tmp_path / "journal.jsonl", 1, 1)
        monkeypatch.setattr(
            host, "user_name", lambda uid: {1: "alice", 2001: "bob"}.get(uid, "root")
        )
    as_user(monkeypatch, 2001)
    assert "sudo -u alice make" in host.denied(tmp_path / "journal.jsonl").do


def test_no_chown_is_suggested_for_a_system_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(monkeypatch, 2001)
    for path in ("/etc/shadow", "/usr/bin/docker", "/var/run/docker.sock"):
        assert "chown" not in host.denied(Path(path)).do


@ROOT
def test_a_closed_settings_file_raises_permission_error(tmp_path: Path) -> None:
    """In a process of another user: only root can read a file of root with mode 600."""
    (tmp_path / "secrets.env").touch(mode=0o600)
    (tmp_path / "secrets.env").chmod(0o600)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setuid(65534)
            env_files.read_env_file(tmp_path / "secrets.env")
        except PermissionError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (PermissionError(13, "Permission denied", "/etc/shadow"), "belongs to another user"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (KeyError("images"), "KeyError: 'images'"),
        (json.JSONDecodeError("Expecting value", "", 0), "Expecting value"),
    ],
)
def test_no_verb_shows_a_traceback(
    raised: Exception,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(framework.cli, "main", fail)
    with pytest.raises(SystemExit) as end:
        main.main()
    said = capsys.readouterr().err
    assert end.value.code in (1, 10) and words in said and "do:" in said and "Traceback" not in said


@ROOT
def test_files_that_root_writes_get_the_folder_s_owner_and_others_are_named(
    tmp_path: Path,
) -> None:
    os.chown(tmp_path, 2001, 2001)
    files.write(tmp_path / "turn.json", "{}")
    files.append_line(tmp_path / "journal.jsonl", {})
    with lock.hold(tmp_path, lock.SWITCH, "root's turn"):
        assert host.foreign_files(tmp_path) == []
    files.make_folder(tmp_path / "tls" / "old", mode=0o700)
    assert host.foreign_files(tmp_path) == []
    made = (tmp_path / "tls" / "old").stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (2001, 2001, 0o700)
    (tmp_path / "nights").mkdir()
    (tmp_path / "nights" / "one").touch()
    assert host.foreign_files(tmp_path) == [tmp_path / "nights"]
    seen = replace(good(), foreign_files=(tmp_path / "nights",), foreign_remedy="sudo chown")
    assert "nights" in doctor.examine(seen, ("state folder",))[0].saw


def test_unreadable_and_vanished_files_do_not_stop_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editor's lock file is a dangling link, and so is a file that is removed after its
    folder was listed."""
    (tmp_path / "nights" / "one").mkdir(parents=True)
    for name in ("alarm.json", "nights/one/verdict.json", ".#haproxy.cfg"):
        (tmp_path / name).symlink_to("nowhere")
    (tmp_path / "turn.json").write_text("")
    assert list(files.damaged_files(tmp_path)) == [tmp_path / "turn.json"]
    assert tmp_path / ".#haproxy.cfg" not in host.closed_to_containers([tmp_path])
    monkeypatch.setattr(os, "walk", lambda folder: [(str(folder), [], ["removed"])])
    assert host.foreign_files(tmp_path) == []


@ROOT
def test_a_state_folder_whose_owner_has_no_account_is_not_scheduled(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    os.chown(tmp_path / "state", 54321, 54321)
    found = settings.load("spark")
    found = replace(found, values=found.values | {"STATE_DIR": str(tmp_path / "state")})
    site = Site(found, None, print)  # type: ignore[arg-type]
    with pytest.raises(PreconditionFailed, match="no user of this machine") as error:
        schedule.place(site)
    assert f"sudo chown -R {pwd.getpwuid(0).pw_name}: {tmp_path / 'state'}" in error.value.do


@ROOT
def test_setup_makes_the_volumes_writable_every_time(tmp_path: Path) -> None:
    """The programs of its containers run here, on folders instead of volumes, as root with only
    the container's capabilities."""
    for name in ("cache", "models", "serving-cache"):
        (tmp_path / name).mkdir()

    def compose(stack: str, *arguments: str) -> None:
        added = [
            f"+{arguments[n + 1].lower()}"
            for n, part in enumerate(arguments)
            if part == "--cap-add"
        ]
        program, (_, *rest) = (
            arguments[arguments.index("--entrypoint") + 1],
            arguments[arguments.index("trainer") :],
        )
        paths = [str(tmp_path / part[1:]) if part.startswith("/") else part for part in rest]
        subprocess.run(
            ["setpriv", f"--bounding-set={','.join(['-all', *added])}", program, *paths], check=True
        )

    stacks = SimpleNamespace(compose=compose, owner=lambda: "2001:2001")
    site = Site(settings.load("spark"), stacks, print)  # type: ignore[arg-type]
    (tmp_path / "cache" / "compiled").mkdir(mode=0o700)
    for _ in range(2):
        setup.open_volumes(site)
    assert {
        (tmp_path / name).stat().st_uid for name in ("cache", "cache/compiled", "serving-cache")
    } == {2001}
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o1777


def test_the_practice_model_in_its_volume_is_readable_for_all(umask: int, tmp_path: Path) -> None:
    source, model = tmp_path / "image", tmp_path / "volume"
    source.mkdir()
    (source / "nvfp4").mkdir(mode=0o700)
    for name in ("config.json", "nvfp4/config.json"):
        (source / name).touch(mode=0o600)
    place = images.PLACE.replace("/opt/practice-model", str(source))
    for _ in range(2):
        subprocess.run(["sh", "-c", place, str(model)], check=True)
    assert {mode(path) & 0o555 for path in (model, model / "nvfp4")} == {0o555}
    files = [path for path in model.rglob("*") if path.is_file()]
    assert len(files) == 2 and {mode(path) & 0o444 for path in files} == {0o444}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image", "volume"]


# ---------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    "name", ["plain", "dual use 100%", "it's", 'a "b"', "back\\slash", "$HOME ${x}"]
)
def test_systemd_starts_a_program_in_any_folder(name: str, tmp_path: Path) -> None:
    """systemd-analyze parses the units as systemd does, and the command runs in the working
    directory."""
    home = tmp_path / name
    (home / ".venv" / "bin").mkdir(parents=True)
    (home / ".venv" / "bin" / "python").symlink_to("/bin/pwd")
    found = schedule.units(
        hours.of(settings.load("spark")),
        schedule.Place(str(home), "root", "spark", "dual-use-spark"),
    )
    (tmp_path / "units").mkdir()
    for file, text in found.items():
        (tmp_path / "units" / file).write_text(text)
    command = [
        "systemd-analyze",
        "verify",
        "--man=no",
        *map(str, (tmp_path / "units").glob("*.service")),
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert "dual-use" not in said, said
    service = dict(
        line.split("=", 1)
        for line in found["dual-use-spark-day.service"].splitlines()
        if "=" in line
    )
    folder, program = (
        service["WorkingDirectory"].replace("%%", "%"),
        service["ExecStart"].split()[:2],
    )
    done = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=True)
    assert program[0] == "/usr/bin/env" and done.stdout.strip() == str(home)


def test_a_colon_in_the_path_is_refused(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Misconfigured, match="colon"):
        patch.setenv("GLUE_STATE_DIR", str(tmp_path / "a:b"))
        settings.load("spark")
