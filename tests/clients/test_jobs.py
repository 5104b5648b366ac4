"""Jobs in the trainer's image. `docker compose run` is a stub: it links the mounts into a folder
and runs the module here. tests/e2e/test_lessons.py runs real jobs."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from glue.clients import jobs
from glue.clients.jobs import Job
from glue.clients.site import Site
from glue.core import desired_state
from glue.core.errors import GlueError, Misconfigured
from glue.core.settings import REPOSITORY

MODULE = "tests.clients.small_jobs"
RUN = """
import os, pathlib, runpy, sys, tempfile
*options, service, module, order, state = sys.argv[1:]
root = pathlib.Path(tempfile.mkdtemp(dir=os.environ["ROOT"]))
(root / "state").mkdir()
for option in options:
    if option.count(":") == 2:
        source, target, mode = option.split(":")
        place = root / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            place.symlink_to(source)
os.environ["MODEL_API_KEY"] = os.environ.get("LEARNING_MODEL_API_KEY", "")
sys.argv = [module, str(root) + order, str(root) + state]
runpy.run_module(module, run_name="__main__")
"""


class Stacks:
    """Stub of Docker."""

    def __init__(self, root: Path) -> None:
        self.root, self.commands, self.removed = root, [], []  # type: ignore[var-annotated]

    def compose_command(self, stack: str, *arguments: str) -> list[str]:
        self.commands.append(arguments)
        return [sys.executable, "-c", RUN, *arguments]

    def compose_environment(self) -> dict[str, str]:
        paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "images" / "trainer")])
        return {"PYTHONPATH": paths, "ROOT": str(self.root), "PATH": os.environ["PATH"]}

    def remove_container(self, service: str) -> None:
        self.removed.append(service)


class Settings(dict[str, str]):
    def hide(self, text: str) -> str:
        return text


@pytest.fixture
def site(tmp_path: Path) -> Any:
    state, root = tmp_path / "state", tmp_path / "root"
    for folder in (root, state / "nights" / "n"):
        folder.mkdir(parents=True)
    (state / "secrets.env").write_text("MODEL_API_KEY=k\n")
    (state / "forgotten.jsonl").write_text("")
    told: list[str] = []
    settings = Settings(PROJECT="spark", MODEL_API_KEY="model-key")
    session = SimpleNamespace(headers={"Authorization": "Bearer chat-token"})
    return SimpleNamespace(
        state=state,
        stacks=Stacks(root),
        settings=settings,
        told=told,
        tell=told.append,
        administrator=lambda: SimpleNamespace(session=session),
    )


def job(site: Any, kind: str, **more: Any) -> Job:
    return Job(MODULE, {"kind": kind}, **more)


def left(site: Any) -> set[str]:
    return {path.name for path in site.state.iterdir()} - {jobs.LOCK}


def test_a_job_sees_only_its_paths_and_writes_only_where_allowed(site: Site) -> None:
    found = jobs.run(
        site,
        job(
            site,
            "writes",
            reads=(site.state / "forgotten.jsonl", site.state / "glossary.toml"),
            writes=(site.state / "nights" / "n",),
        ),
    )
    assert found["sees"] == ["forgotten.jsonl", "nights", "nights/n"]
    assert (site.state / "nights" / "n" / "made").exists()
    mounts = [part for part in cast(Any, site.stacks).commands[0] if part.count(":") == 2]
    assert [mount.rpartition(":")[2] for mount in mounts] == ["ro", "ro", "rw"]


def test_a_job_s_progress_is_printed_and_no_files_remain(site: Any) -> None:
    jobs.run(site, job(site, "lists"))
    assert site.told == ["one line of lists"]
    assert left(site) == {"nights", "secrets.env", "forgotten.jsonl"}
    assert site.stacks.removed == ["learning", "learning"]


def test_a_job_gets_keys_by_environment_and_only_if_needed(site: Any) -> None:
    assert jobs.run(site, job(site, "lists", online=True))["key"] == "model-key"
    assert jobs.run(site, job(site, "lists"))["key"] == ""
    assert not {"model-key", "chat-token"} & set(json.dumps(site.stacks.commands).split('"'))
    assert jobs.environment(site, job(site, "", online=True))["LEARNING_NETWORK"] == (
        "spark-daynight"
    )
    assert "LEARNING_NETWORK" not in jobs.environment(site, job(site, ""))


@pytest.mark.parametrize(
    ("kind", "error", "what"),
    [
        ("error", Misconfigured, "Invalid glossary.toml"),
        # not another error with the same exit code, such as Preempted
        ("failure", GlueError, "the data set cannot be built"),
    ],
)
def test_an_error_in_a_job_is_raised_unchanged(
    site: Any, kind: str, error: type[GlueError], what: str
) -> None:
    with pytest.raises(error) as raised:
        jobs.run(site, job(site, kind))
    found = raised.value
    assert type(found) is error
    assert (found.what, found.saw, found.do) == (what, "line 3", "correct it")


def test_a_crashed_job_shows_its_last_lines(site: Any) -> None:
    with pytest.raises(GlueError, match=f"the job {MODULE} failed") as error:
        jobs.run(site, job(site, "traceback"))
    assert "ZeroDivisionError: by nothing" in error.value.saw


def test_a_job_is_stopped_at_its_deadline(site: Any) -> None:
    with pytest.raises(GlueError, match="failed") as error:
        jobs.run(site, job(site, "hangs", timeout_seconds=0.2))
    assert "no end within 0 s" in error.value.saw
    assert site.stacks.removed == ["learning", "learning"]


def test_an_unwanted_job_is_stopped_at_its_next_line(site: Any) -> None:
    with pytest.raises(desired_state.Preempted):
        jobs.run(site, job(site, "hangs"), lambda: desired_state.require(site.state, "tonight"))
    assert site.stacks.removed == ["learning", "learning"]
    assert left(site) == {"nights", "secrets.env", "forgotten.jsonl"}


def test_a_job_s_files_belong_to_the_state_folder_s_owner(site: Any) -> None:
    before = os.umask(0o077)
    try:
        jobs.ensure_file(site.state / "document-questions.jsonl")
    finally:
        os.umask(before)
    owner = site.state.stat()
    found = (site.state / "document-questions.jsonl").stat()
    assert (found.st_mode & 0o777, found.st_uid) == (0o600, owner.st_uid)
