"""The files after promotion and rollback with a failing vLLM, which is a stub."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from glue.clients.adapter_store import AdapterStore
from glue.core import desired_state, journal
from glue.core.desired_state import DesiredState, Wanted
from glue.core.errors import GlueError, Locked, PreconditionFailed
from glue.machine import models
from glue.serving import adapters, day, export, model, status
from tests.core.test_state import make_checkpoint, publish, serve


@pytest.fixture
def site(tmp_path: Path) -> Any:
    (tmp_path / "adapters").mkdir()
    return SimpleNamespace(store=AdapterStore(tmp_path / "adapters"), tell=print)


def stub_vllm(monkeypatch: pytest.MonkeyPatch, takes: bool) -> list[str]:
    """Records its requests; does not start a new model if `takes` is false."""
    asked: list[str] = []

    def ensure_form(site: Any) -> None:
        asked.append("agree")
        if not takes:
            raise GlueError("vllm starts and dies", "OutOfMemoryError", "make logs")

    monkeypatch.setattr(model, "ensure_form", ensure_form)
    monkeypatch.setattr(model, "restart_model", lambda site: asked.append("restart"))
    return asked


def test_a_checkpoint_that_vllm_does_not_start_with_leaves_what_served_before(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (publish(site.store, content) for content in ("one", "two"))
    serve(site.store, one)
    make_checkpoint(site.store, two)
    asked = stub_vllm(monkeypatch, takes=False)
    with pytest.raises(GlueError, match="starts and dies"):
        adapters.switch_to(site, two, merged=True)
    assert asked == ["agree", "restart"]
    assert (site.store.current(), site.store.served(), site.store.serves_merged()) == (
        one,
        [None, one],
        False,
    )


def test_the_same_release_in_another_form_goes_back_to_the_form_it_had(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = publish(site.store, "one")
    serve(site.store, name)
    make_checkpoint(site.store, name)
    stub_vllm(monkeypatch, takes=False)
    with pytest.raises(GlueError):
        adapters.switch_to(site, name, merged=True)
    assert not site.store.serves_merged()
    stub_vllm(monkeypatch, takes=True)
    adapters.switch_to(site, name, merged=True)
    assert site.store.serves_merged() and site.store.served() == [None, name]


@pytest.mark.parametrize("form", [None, "merged"])
def test_an_adapter_that_cannot_be_merged_serves_unmerged_unless_merged_was_asked_for(
    site: Any, form: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = site.store.folder.parent / "trained"
    source.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (source / name).write_text("{}")
    name = site.store.publish(source, {"recipe": {"serve": "merged"}})

    def packed(*_: Any) -> None:
        raise PreconditionFailed(
            f"{name} cannot be exported in this form", "quantised weights", "another FORM"
        )

    monkeypatch.setattr(export, "ensure", packed)
    if form is None:
        assert adapters.prepare(site, name, form) is False
    else:
        with pytest.raises(PreconditionFailed, match="cannot be exported"):
            adapters.prepare(site, name, form)


@pytest.mark.parametrize("back_to_base", [True, False])
def test_a_rollback_restarts_a_vllm_that_died_of_the_adapter(
    site: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, back_to_base: bool
) -> None:
    """vLLM does not answer until its restart; the assistant must then use the adapter of the
    link."""
    wanted = None if back_to_base else publish(site.store, "good")
    if wanted:
        serve(site.store, wanted)
    serve(site.store, publish(site.store, "bad"))
    alive: list[str] = []
    loaded: list[object] = []
    behind: list[object] = []

    def models() -> dict[str, str]:
        if not alive:
            raise GlueError("vllm does not answer", "connection refused", "make logs")
        return {"team-base": "served"}

    monkeypatch.setattr(model, "restart_model", lambda site: alive.append("restarted"))
    monkeypatch.setattr(model, "load", lambda site, release: loaded.append(release))
    monkeypatch.setattr(model, "answer_with", lambda site, release: behind.append(release))
    site.vllm, site.settings, site.state = (
        lambda: SimpleNamespace(models=models),
        {"SERVED_MODEL": "served"},
        tmp_path,
    )
    assert adapters.rollback(site) == wanted
    assert alive == ["restarted"] and loaded == [wanted] and behind == [wanted]
    assert site.store.current() == wanted


@pytest.mark.parametrize("wanted", [Wanted.NIGHT, Wanted.DOWN])
def test_while_the_model_must_stay_stopped_rollback_moves_the_link_and_starts_nothing(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Wanted
) -> None:
    """On a GB10 a model beside a trainer hangs the machine."""
    one, two = (publish(site.store, content) for content in ("one", "two"))
    serve(site.store, one)
    serve(site.store, two)
    site.state = tmp_path
    desired_state.write(tmp_path, DesiredState(wanted, "n1" if wanted is Wanted.NIGHT else ""))
    asked = stub_vllm(monkeypatch, takes=True)
    assert adapters.rollback(site) == one == site.store.current()
    with pytest.raises(Locked, match="is stopped"):
        adapters.promote(site, two)
    assert asked == [] and site.store.current() == one


SERVED = {"served_model": "maker/served", "served_revision": "abc"}


def serves(site: Any, tmp_path: Path) -> None:
    """Commit abc of maker/served."""
    site.state, site.settings = tmp_path, {"SERVED_MODEL": "maker/served"}
    (tmp_path / "models.json").write_text('{"maker/served": {"commit": "abc"}}')


def made_for(site: Any, tmp_path: Path, **changes: str) -> str:
    """An adapter that serves, of a site that serves commit abc of maker/served."""
    serves(site, tmp_path)
    name: str = site.store.publish(trained(tmp_path), {**SERVED, **changes})
    serve(site.store, name)
    return name


def trained(tmp_path: Path) -> Path:
    source = tmp_path / "trained"
    source.mkdir(exist_ok=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (source / name).write_text("{}")
    return source


OTHERS = [{"served_model": "maker/other"}, {"served_revision": "def"}]


@pytest.mark.parametrize("changes", [{}, *OTHERS])
def test_a_day_serves_the_base_instead_of_an_adapter_of_another_model(
    site: Any, tmp_path: Path, changes: dict[str, str]
) -> None:
    told: list[str] = []
    name = made_for(site, tmp_path, **changes)
    site.tell = told.append
    for _ in range(2):
        day.ensure_adapter_fits(site)
        assert site.store.current() == (None if changes else name) and name in site.store.names()
    assert len(told) == bool(changes) and all("the base model serves" in line for line in told)
    serving = status.base_model(journal.rows(tmp_path))
    assert serving.startswith(f"base model in place of {name}: it was made for") is bool(changes)
    assert (f"make promote ADAPTER={name}" in serving) is bool(changes)
    journal.record(tmp_path, event="serve", adapter=None)
    assert status.base_model(journal.rows(tmp_path)) == "base model"


@pytest.mark.parametrize("changes", OTHERS)
def test_an_adapter_of_another_model_is_not_promoted_and_a_rollback_skips_it(
    site: Any, tmp_path: Path, changes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = made_for(site, tmp_path, **changes)
    desired_state.write(tmp_path, DesiredState(Wanted.DAY))
    site.store.advance(None)
    with pytest.raises(PreconditionFailed, match="made for"):
        adapters.promote(site, name)
    assert site.store.current() is None
    assert adapters.without_unfit(site, [None, name]) == [None]


def test_an_adapter_of_an_earlier_version_which_recorded_no_model_serves(
    site: Any, tmp_path: Path
) -> None:
    assert models.made_for_another(site, made_for(site, tmp_path, served_model="")) == ""


def test_an_added_adapter_belongs_to_the_model_that_served_then(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serves(site, tmp_path)
    monkeypatch.setattr(adapters, "problems", lambda *_: [])
    name = adapters.add(site, trained(tmp_path))
    assert SERVED.items() <= site.store.manifest(name).items()
    assert not models.made_for_another(site, name)
    (tmp_path / "models.json").write_text('{"maker/served": {"commit": "def"}}')
    assert "made for commit abc" in models.made_for_another(site, name)


# ---------------------------------------------------------------------- trained for a checkpoint


@pytest.fixture
def merged_only(site: Any) -> str:
    source = site.store.folder.parent / "trained-through"
    source.mkdir()
    (source / "adapter_config.json").write_text('{"trained_through_quantiser": true}')
    (source / "adapter_model.safetensors").write_text("weights")
    name: str = site.store.publish(source, {"night": "one"})
    return name


def test_it_is_never_loaded_beside_the_base_model(site: Any, merged_only: str) -> None:
    loaded: list[str] = []
    site.vllm = lambda: SimpleNamespace(serve=lambda name, path: loaded.append(path))
    model.load(site, merged_only)
    model.load(site, publish(site.store, "plain"))
    assert len(loaded) == 1 and merged_only not in loaded[0]
    with pytest.raises(PreconditionFailed, match="serves merged only"):
        adapters.prepare(site, merged_only, "adapter")


def test_where_its_checkpoint_cannot_be_made_it_is_not_promoted(
    site: Any, merged_only: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PreconditionFailed("it cannot be exported", "too little disk", "free some")

    monkeypatch.setattr(export, "ensure", refuse)
    with pytest.raises(PreconditionFailed, match="cannot be exported"):
        adapters.prepare(site, merged_only, None)


def test_a_rollback_skips_it_where_its_checkpoint_is_gone(site: Any, merged_only: str) -> None:
    assert "checkpoint is gone" in adapters.unfit(site, merged_only)


@pytest.mark.parametrize("left", ["as it was", "restored", "exported in another form"])
def test_the_base_serves_and_is_told_where_its_checkpoint_is_gone(
    site: Any, merged_only: str, tmp_path: Path, left: str
) -> None:
    """A backup holds no checkpoint, and make export in another form replaces it."""
    serves(site, tmp_path)
    make_checkpoint(site.store, merged_only)
    site.store.serve_as(merged_only, True)
    serve(site.store, merged_only)
    if left == "restored":
        shutil.rmtree(site.store.folder / merged_only / "checkpoint")
    elif left == "exported in another form":
        make_checkpoint(site.store, merged_only, "bf16")
    good = left == "as it was"
    assert bool(adapters.unfit(site, merged_only)) is not good
    day.ensure_adapter_fits(site)
    assert site.store.current() == (merged_only if good else None)
    words = status.base_model(journal.rows(tmp_path))
    assert (f"make promote ADAPTER={merged_only}" in words) is not good
