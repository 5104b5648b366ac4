"""The orders of data set jobs, and the files that they can read. tests/learning tests the jobs."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from glue.cli import verbs
from glue.clients import jobs, knowledge
from glue.clients.jobs import Job
from glue.core import files, names
from glue.core.errors import GlueError
from glue.core.recipes import load as load_recipe
from glue.core.settings import REPOSITORY, load
from glue.operations import backup_contents, dataset, forget, notes

RECIPE = load_recipe(REPOSITORY / "env" / "recipes", "team")


@pytest.fixture
def site(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("secrets.env", "webui-token", names.GLOSSARY, "replay.jsonl", names.FORGOTTEN):
        (tmp_path / name).write_text("")
    (tmp_path / "nights").mkdir()
    asked: list[Job] = []

    def run(site: Any, job: Job) -> dict[str, Any]:
        asked.append(job)
        return {"card": {"examples": 1}, "removed": {"dataset": 2}}

    monkeypatch.setattr(jobs, "run", run)
    manifests = [{"verdict": {}, "examples": ["b"]}, {"examples": ["a"]}, {"night": "n"}]
    monkeypatch.setattr(notes, "clear", lambda _: None)  # a stub of the chat
    monkeypatch.setattr(knowledge, "current", lambda person, state: "knowledge-id")
    return SimpleNamespace(
        state=tmp_path,
        settings=load("rehearsal"),
        recipe=lambda: RECIPE,
        store=SimpleNamespace(manifests=lambda: manifests, names=list, current=lambda: None),
        administrator=lambda: None,
        tell=lambda line: None,
        asked=asked,
    )


def names_of(site: Any, paths: tuple[Any, ...]) -> set[str]:
    return {str(path.relative_to(site.state)) for path in paths}


def test_make_dataset_writes_to_its_own_folder(site: Any) -> None:
    found = dataset.build(site)
    (job,) = site.asked
    assert found["page"] == str(site.state / "dataset" / "page.html") and found["examples"] == 1
    assert job.online and job.order["folder"] == "dataset" and not job.order["for_night"]
    assert job.order["known"] == ["a", "b"] and job.order["knowledge"] == "knowledge-id"
    assert "dataset" in names_of(site, job.writes)
    assert (site.state / "dataset").stat().st_mode & 0o777 == 0o700


def test_a_night_s_data_set_is_in_its_folder_and_reads_earlier_ones(site: Any) -> None:
    folder = site.state / "nights" / "n" / "dataset"
    dataset.build_in(site, RECIPE, folder, "n")
    (job,) = site.asked
    assert job.order["folder"] == "nights/n/dataset" and job.order["for_night"]
    assert "nights/n" in names_of(site, job.writes)
    assert {"nights", "dataset", names.GLOSSARY, "replay.jsonl"} <= names_of(site, job.reads)


def test_what_the_day_model_writes_is_kept_in_files_that_are_backed_up(site: Any) -> None:
    for name in (names.DOCUMENT_QUESTIONS, names.PARAPHRASES):
        (site.state / name).unlink(missing_ok=True)
    nothing = replace(RECIPE, document_questions=0, paraphrases=0)
    for recipe, wanted in (
        (nothing, set[str]()),
        (replace(nothing, paraphrases=6), {names.PARAPHRASES}),
        (RECIPE, {names.DOCUMENT_QUESTIONS, names.PARAPHRASES}),
    ):
        dataset.build_in(site, recipe, site.state / "nights" / "n" / "dataset", "n")
        written = names_of(site, site.asked[-1].writes) - {"nights/n"}
        kept = {path.name for path in backup_contents.entries(site.state, site.state / "none")}
        assert written == wanted and wanted <= kept
    assert (site.state / names.PARAPHRASES).stat().st_mode & 0o777 == 0o600


def test_no_job_can_read_the_secrets(site: Any) -> None:
    dataset.build(site)
    dataset.build_in(site, RECIPE, site.state / "nights" / "n" / "dataset", "n")
    forget.forget(site, "chat", "c")
    for job in site.asked:
        seen = names_of(site, job.reads + job.writes)
        assert not seen & {"secrets.env", "webui-token", "adapters", "tls", "."}


def test_to_forget_a_person_deletes_ratings_of_a_deleted_account(site: Any) -> None:
    """A stub of the chat; tests/clients/test_accounts.py has what it does with an account."""
    site.administrator = lambda: SimpleNamespace(delete_ratings_of_deleted=len)
    assert forget.forget(site, "user", "four")["ratings_deleted"] == 4
    assert forget.forget(site, "chat", "four")["ratings_deleted"] == 0


def test_data_sets_are_cleared_also_while_the_chat_does_not_answer(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any) -> Any:
        raise GlueError("Open WebUI did not answer", "refused", "make status")

    heard: list[str] = []
    site.administrator, site.tell = down, heard.append
    monkeypatch.setattr(notes, "clear", down)
    found = forget.forget(site, "user", "u")
    assert found["rows_removed"] == 2 and "did not answer" in heard[0]
    assert found["still_in_the_chat"].keys() == {"notes", "ratings"}
    assert verbs.incomplete(found) == 1
    assert verbs.incomplete(found | {"still_in_the_chat": {}}) == 0


def test_forget_needs_no_network_and_is_recorded_first(site: Any) -> None:
    found = forget.forget(site, "chat", "c")
    (job,) = site.asked
    assert not job.online and job.order == {"names": [names.hashed("chat", "c")], "notes": []}
    assert (
        found["rows_removed"] == 2
        and names.hashed("chat", "c") in (site.state / names.FORGOTTEN).read_text()
    )


def test_other_ways_to_ask_go_that_an_earlier_version_forgot_without_them(site: Any) -> None:
    """It knew no such file."""
    before = {"name": names.hashed("user", "uma"), "time": 1.0}
    files.append_line(site.state / names.FORGOTTEN, before)
    files.append_line(site.state / names.PARAPHRASES, {"origins": [before["name"]]})
    assert forget.forget(site, "chat", "c")["datasets"][names.PARAPHRASES] == 1
