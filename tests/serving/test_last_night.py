"""The report of a night and its forms. No night runs: the results of its steps are made here."""

import json
import struct
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from glue.clients import host, jobs
from glue.clients.site import Site
from glue.core import files, journal, recipes
from glue.core.settings import REPOSITORY
from glue.core.verdict import Verdict
from glue.night import report
from glue.night.tonight import Night
from glue.serving import adapters, last_night, pages
from glue.serving.last_night import Report
from learning.dataset import card, split
from learning.dataset import files as dataset_files
from learning.dataset.card import Notes
from learning.dataset.prepare import Prepared
from learning.examples import Dataset, Example, Message, Origin
from tests.gate_study import break_adapter
from tests.learning import on_host
from training import check_adapter

NIGHT = "20261122T190000Z"
HOSTILE = "<script>alert('x')</script>"


FIGURES = {
    "gain": 1.5,
    "gain_low": 1.2,
    "likelihood_ratio": 4.48,
    "held_out_units": 5,
    "general_change": 0,
    "general_change_low": -0.01,
    **{"asked": 3, "right": 3, "right_before": 0},
}
SAMPLE = {
    "question": HOSTILE,
    "wanted": "B23",
    "candidate": {"text": "It is B23."},
    "current": {"text": "It is H53."},
    "taught": True,
}
KNOWN = {**SAMPLE, "question": "known", "taught": False}
EVIDENCE: dict[str, Any] = {"samples": [SAMPLE] * 3 + [KNOWN] * 4, "golden": []}


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    """A night after its last step."""
    monkeypatch.setattr(jobs, "run", on_host.run_offline)
    monkeypatch.setattr(pages, "ensure", lambda site: "http://127.0.0.1:3000/notes/n")
    settings = SimpleNamespace(people_url="http://127.0.0.1:3000")
    site = SimpleNamespace(
        state=tmp_path,
        settings=settings,
        tell=print,
        store=SimpleNamespace(current=lambda: "a1"),
        administrator=lambda: SimpleNamespace(ensure_banner=lambda **_: None),
    )
    made = Night(cast(Site, site), NIGHT, recipes.load(REPOSITORY / "env" / "recipes", "team"), 0.0)
    made.dataset = {"card": {"parts": {"train": 15, "held_out": 5, "earlier": 0, "general": 0}}}
    made.verdict = Verdict(True, ("better on 5 facts",), FIGURES)
    made.release, made.steps = "a1", {"train": 61.5}
    made.folder.mkdir(parents=True)
    files.write_json(made.folder / "evidence.json", EVIDENCE)
    for step in range(1, 61):
        row = {"phase": "train", "step": step, "steps": 60, "loss": 3 / step}
        files.append_line(made.folder / "progress.jsonl", row)
    return made


def ended(night: Night, outcome: str = "promoted", reason: str = "better") -> Report:
    """The report as the night wrote it and make status reads it."""
    report.close(night, report.build(night, outcome, reason, 3725))
    row = journal.last_night(night.site.state)
    assert row is not None
    return last_night.read(night.site.state, row)


def test_a_report_is_read_as_it_was_written(night: Night) -> None:
    found = ended(night)
    built = report.build(night, "promoted", "better", 3725)
    assert json.dumps(asdict(found)) == json.dumps(asdict(built))
    assert found.counts == {"train": 15, "held_out": 5} and found.steps == {"train": 61.5}


def test_the_page_is_complete_self_contained_and_escaped(
    night: Night,
) -> None:
    ended(night)
    path = night.folder / "report.html"
    page = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert page.count("<svg") == 2
    for part in ("make rollback", "1 h 2 min", "better on 5 facts", "1 min 1 s", "Adapter a1"):
        assert part in page
    assert HOSTILE not in page and "&lt;script&gt;" in page
    assert "energy cannot be read" in page and "train" in page
    for elsewhere in ("src=", "<link", "<script", "@import"):
        assert elsewhere not in page


def test_the_page_says_first_how_many_answers_are_right_and_shows_the_wrong_ones_first(
    night: Night,
) -> None:
    wrong = SAMPLE | {"question": "Which dock?", "wanted": "Dock K4.", "current": {"text": "K4"}}
    golden = {
        "question": "Who pays?",
        "answers": {"candidate": "The office.", "current": "Nobody."},
        "wrong": {"candidate": [], "current": ["it does not say 'office'"]},
    }
    samples = [SAMPLE, KNOWN, wrong]
    files.write_json(night.folder / "evidence.json", {"samples": samples, "golden": [golden]})
    night.verdict = Verdict(True, ("better on 5 facts",), FIGURES | {"right": 2, "right_before": 1})
    ended(night)
    shown, statistics = (night.folder / "report.html").read_text().split("<details>")
    first = shown.partition("<h1")[2].partition("</h1>")[0]
    assert first.endswith(">2 of 3 questions answered right (1 before)")
    rows = [row for row in shown.split("<tr>") if "</td>" in row]
    assert [row.index("✗") < row.index("✓") for row in rows] == [True, False, False]
    assert "Which dock?" in rows[0] and "it does not say k4" in rows[0]
    for part in ("<svg", "better on 5 facts", "1 h 2 min", "known", "held out"):
        assert part in statistics and f">{part}" not in shown


def test_a_refused_night_says_first_that_the_assistant_answers_as_before(night: Night) -> None:
    ended(night, "refused", "it forgets")
    page = (night.folder / "report.html").read_text()
    first = page.partition("<h1")[2].partition("</h1>")[0]
    assert "answers as before" in first
    assert "The adapter that does not serve: 3 of 3 questions answered right (0 before)" in page
    assert "make rollback" not in page


def test_no_row_says_that_something_took_no_time(night: Night) -> None:
    night.steps = {"collect": 0.4, "stop": 0, "train": 61.5}
    ended(night)
    page = (night.folder / "report.html").read_text()
    assert "0 min 0 s" not in page and "<td>train</td><td>1 min 1 s</td>" in page


def test_the_page_names_who_taught_what_and_what_was_left_out(night: Night) -> None:
    def row(name: str, user: str) -> Example:
        prompt = (Message("user", f"Asked by {name}?"),)
        origin = Origin("corrected answer", f"chat-{name}", user, document=name * (not user))
        return Example(prompt, f"Said by {name}.", "r", name, origin)

    rows = (row("old", "u1"), row("Dora", "u2"), row("Bea", "u1"), row("plan.pdf", ""))
    built = Dataset(rows, (), ())
    ready = Prepared(rows, (), (), {}, 0)
    notes = Notes({"u1": "Bea", "u2": "<Dora>"}, [split.fingerprint(one) for one in rows[1:]])
    facts = card.card(ready, built, {"thumbs down": 3}, 4, 3)
    dataset_files.write(night.folder / "dataset", ready, built, facts, "n", notes)
    ended(night)
    page = (night.folder / "report.html").read_text().partition("<details>")[0]
    told = page.partition("from whom")[2]
    assert "Asked by old?" not in told, "an earlier night had it"
    places = [told.index(f"Asked by {name}?") for name in ("Dora", "Bea", "plan.pdf")]
    assert places == sorted(places) and "<td>Bea</td>" in told and "<td>plan.pdf</td>" in told
    assert "&lt;Dora&gt;" in told and "<Dora>" not in page
    assert ">3</td><td>thumbs down</td>" in page


def test_the_report_quotes_no_answer(night: Night) -> None:
    ended(night)
    assert "B23" not in (night.folder / "report.json").read_text()


def test_the_summary_has_a_subject_and_a_few_lines(night: Night) -> None:
    found = ended(night)
    text = (night.folder / "summary.txt").read_text()
    assert text == last_night.summary(found, pages.links(night.site))
    assert text.splitlines()[0] == f"The assistant learned last night. (night {NIGHT})"
    for part in ("+348 %", "15 train, 5 held out", "To undo it", "127.0.0.1:3000"):
        assert part in text
    assert len(text.splitlines()) < 15
    files.write_json(night.site.state / "note.json", {"id": "n"})
    ended(night)
    last = (night.folder / "summary.txt").read_text().splitlines()[-1]
    assert last == "For administrators: http://127.0.0.1:3000/notes/n"


def test_what_the_night_tried_is_a_line_of_the_page_and_of_the_summary(night: Night) -> None:
    setting = {"learning_rate": 5e-4, "most_passes": 8, "rank": 16, "alpha": 32}
    note = "held-out loss 0.412, the recipe's own setting 0.530"
    night.result = {"search": {"settings": 6, "tried": [], "setting": setting, "note": note}}
    ended(night)
    line = "6 settings to try; trained with learning rate 0.0005, 8 passes, rank 16: held-out loss"
    assert f"- {line}" in (night.folder / "summary.txt").read_text()
    assert line in (night.folder / "report.html").read_text()


@pytest.mark.parametrize("outcome", ["refused", "failed", "nothing new", "died"])
def test_a_night_without_a_report_is_shown_by_its_line_in_the_journal(
    outcome: str, tmp_path: Path
) -> None:
    """A night that died, one on a full disk, or one of an earlier version whose report.json has
    no outcome."""
    folder = tmp_path / "nights" / NIGHT
    folder.mkdir(parents=True)
    files.write_json(folder / "report.json", {"night": NIGHT, "verdict": {}, "training": {}})
    end = {"night": NIGHT, "outcome": outcome, "reason": "why", "adapter": None}
    found = last_night.read(tmp_path, {"time": "2026-01-01T00:00:00", **end})
    last_night.keep_banner(tmp_path, found)
    assert "answers as before" in found.headline and "why" in last_night.summary(found)
    assert not (tmp_path / "banner.json").exists()


def test_a_night_that_failed_after_the_gate_accepted_names_its_failure(night: Night) -> None:
    text = last_night.summary(ended(night, "failed", "the answer came without sources"))
    assert "failed" in text and "without sources" in text and "better on" not in text


def test_a_report_that_cannot_be_written_fails_no_night(
    night: Night, capsys: pytest.CaptureFixture[str]
) -> None:
    (night.folder / "report.html").mkdir()
    assert ended(night).outcome == "promoted"
    assert "report could not be written" in capsys.readouterr().out


def test_the_banner_is_shown_only_while_its_adapter_serves(night: Night) -> None:
    state = night.site.state
    assert last_night.kept_banner(state, "a1")["text"] == ""
    ended(night)
    assert "learned" in last_night.kept_banner(state, "a1")["text"]
    for other in (None, "a2"):
        assert last_night.kept_banner(state, other)["text"] == ""


def test_energy_is_power_over_time_or_unknown() -> None:
    with host.measured(read=lambda: 360.0, every_seconds=0.01) as used:
        time.sleep(0.2)  # the stretch that is measured
    assert used["watt_hours"] == pytest.approx(360 * 0.2 / 3600, abs=0.01)
    with host.measured(read=lambda: None) as nothing:
        pass
    assert nothing == {}


# ---------------------------------------------------------------------- manifests


def test_the_difference_of_two_manifests() -> None:
    one: dict[str, Any] = {"name": "a", "recipe": {"rank": 16, "steps": 80}, "examples": ["x", "y"]}
    other: dict[str, Any] = {
        "name": "b",
        "recipe": {"rank": 16, "steps": 90},
        "examples": ["y", "z", "w"],
        "verdict": {"promote": True},
    }
    assert adapters.difference(one, one) == {}
    assert adapters.difference(one, other) == {
        "name": ["a", "b"],
        "recipe.steps": [80, 90],
        "verdict.promote": [None, True],
        "examples": ["1 of its own", "2 of its own"],
    }
    assert adapters.flat(one)["examples"] == "2 fingerprints"


# ---------------------------------------------------------------------- an artifact's numbers

LAYERS = [f"base_model.model.model.layers.4.mixer.experts.{expert}.up_proj" for expert in range(3)]
LAYERS += ["base_model.model.model.layers.3.mixer.q_proj"]


def adapter(folder: Path, dead: tuple[str, ...] = ()) -> Path:
    """Sixteen bits a number; each factor has four numbers."""
    names = [f"{layer}.lora_{side}.weight" for layer in LAYERS for side in "AB"]
    header = {
        name: {"dtype": "BF16", "shape": [2, 2], "data_offsets": [at * 8, at * 8 + 8]}
        for at, name in enumerate(names)
    }
    text = json.dumps(header).encode()
    body = b"".join(
        (b"\0" if any(part in name for part in dead) else b"\x3f") * 8 for name in names
    )
    path = folder / "adapter_model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def test_a_good_adapter_has_no_value_problems(tmp_path: Path) -> None:
    adapter(tmp_path)
    assert check_adapter.value_problems(tmp_path) == []


def test_an_untrained_expert_is_allowed_and_an_untrained_layer_is_named(
    tmp_path: Path,
) -> None:
    adapter(tmp_path, dead=("experts.1.up_proj.lora_B",))
    assert check_adapter.value_problems(tmp_path) == []
    adapter(tmp_path, dead=("q_proj.lora_B",))
    (problem,) = check_adapter.value_problems(tmp_path)
    assert "q_proj.lora_B.weight is all zeros" in problem


@pytest.mark.parametrize(
    ("how", "words"), [("NaN", "NaN or infinity"), ("zeroed", "all zeros, and so are 1 more")]
)
def test_nan_and_zeroed_factors_are_found(how: str, words: str, tmp_path: Path) -> None:
    break_adapter(adapter(tmp_path), how)
    assert words in check_adapter.value_problems(tmp_path)[0]
