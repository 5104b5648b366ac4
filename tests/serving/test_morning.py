"""The morning page from a night's files. No night needed: what it left is written here, as a night
writes it."""

import json
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from glue.clients import host
from glue.core import files, journal
from glue.serving import adapters, last_night
from learning import report_page
from learning.job import Job
from tests.gate_study import break_adapter
from training import check_adapter

NIGHT = "20261122T190000Z"
HOSTILE = "<script>alert('x')</script>"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "nights" / NIGHT
    (folder / "dataset").mkdir(parents=True)
    (folder / "dataset" / "train.jsonl").write_text('{"a": 1}\n' * 15)
    (folder / "dataset" / "held_out.jsonl").write_text('{"a": 1}\n' * 5)
    for step in range(1, 61):
        files.append_line(
            folder / "progress.jsonl",
            {"phase": "train", "step": step, "steps": 60, "loss": 3 / step},
        )
    figures = {
        "gain": 1.5,
        "gain_low": 1.2,
        "likelihood_ratio": 4.48,
        "held_out_units": 5,
        "general_change": 0,
        "general_change_low": -0.01,
    }
    files.write_json(
        folder / "verdict.json",
        {"promote": True, "reasons": ["better on 5 facts"], "figures": figures},
    )
    sample = {
        "question": HOSTILE,
        "wanted": "B23",
        "candidate": {"text": "It is B23."},
        "current": {"text": "It is H53."},
    }
    samples = [{**sample, "taught": True}] * 3 + [
        {**sample, "question": "known", "taught": False}
    ] * 4
    files.write_json(folder / "evidence.json", {"samples": samples, "golden": []})
    files.write_json(folder / "recipe.json", {"least_gain": 0.05, "most_forgetting": 0.1})
    with journal.step(tmp_path, NIGHT, "train"):
        pass
    journal.record(
        tmp_path, night=NIGHT, outcome="promoted", reason="better", seconds=3725, adapter="a1"
    )
    return tmp_path


def test_the_page_holds_everything_asks_for_nothing_and_escapes_what_people_wrote(
    state: Path,
) -> None:
    order = {"night": f"nights/{NIGHT}", "facts": last_night.facts(last_night.write(state, NIGHT))}
    nothing: Any = None
    report_page.draw(Job(json.loads(json.dumps(order)), state, nothing, nothing))
    path = state / "nights" / NIGHT / "report.html"
    page = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert (
        page.count("<svg") == 2
        and "make rollback" in page
        and "1 h 2 min" in page
        and "better on 5 facts" in page
    )
    assert HOSTILE not in page and "&lt;script&gt;" in page
    assert page.count("It is B23.") == 5, "five answers before and after"
    assert "energy not readable here" in page and "train" in page
    for elsewhere in ("src=", "<link", "<script", "@import"):
        assert elsewhere not in page


def test_the_summary_is_a_subject_and_a_few_lines(state: Path) -> None:
    text = last_night.summary(last_night.gather(state, NIGHT), "http://127.0.0.1:3000")
    assert text.splitlines()[0] == f"The assistant learned last night. (night {NIGHT})"
    assert (
        "+348 %" in text
        and "15 train, 5 held out" in text
        and "To undo it" in text
        and "127.0.0.1:3000" in text
    )
    assert len(text.splitlines()) < 15


@pytest.mark.parametrize("outcome", ["refused", "failed", "nothing new", "died"])
def test_a_night_that_changed_nothing_says_so_whatever_it_left(
    outcome: str, tmp_path: Path
) -> None:
    journal.record(tmp_path, night=NIGHT, outcome=outcome, reason="why", seconds=3, adapter=None)
    found = last_night.write(tmp_path, NIGHT)
    last_night.keep_banner(tmp_path, found)
    assert "answers as before" in found.headline and "why" in last_night.summary(found)
    assert not (tmp_path / "banner.json").exists()


def test_a_night_that_failed_after_the_gate_said_yes_says_why_it_failed(state: Path) -> None:
    journal.record(
        state,
        night=NIGHT,
        outcome="failed",
        reason="the answer came without sources",
        seconds=3,
        adapter=None,
    )
    text = last_night.summary(last_night.gather(state, NIGHT))
    assert "failed" in text and "without sources" in text and "better on" not in text


def test_the_banner_stands_only_while_what_it_tells_of_serves(state: Path) -> None:
    assert last_night.kept_banner(state, "a1")["text"] == ""
    last_night.keep_banner(state, last_night.gather(state, NIGHT))
    assert "learned" in last_night.kept_banner(state, "a1")["text"]
    assert (
        last_night.kept_banner(state, None)["text"]
        == last_night.kept_banner(state, "a2")["text"]
        == ""
    )


def test_a_sparkline_goes_down_where_the_loss_does() -> None:
    assert (
        last_night.sparkline([3, 2, 1]) == "█▄▁"
        and last_night.sparkline([]) == ""
        and last_night.sparkline([1, 1]) == "▁▁"
    )
    assert len(last_night.sparkline(list(range(1000)))) == 40


def test_energy_is_power_over_time_and_nothing_where_it_cannot_be_read() -> None:
    with host.measured(read=lambda: 360.0, every_seconds=0.01) as used:
        time.sleep(0.2)  # the stretch that is measured
    assert used["watt_hours"] == pytest.approx(360 * 0.2 / 3600, abs=0.01)
    with host.measured(read=lambda: None) as nothing:
        pass
    assert nothing == {}


# ---------------------------------------------------------------------- manifests


def test_two_manifests_differ_in_what_they_differ_in() -> None:
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
    """Sixteen bits a number; every factor is four numbers."""
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


def test_an_adapter_whose_numbers_do_something_is_good(tmp_path: Path) -> None:
    adapter(tmp_path)
    assert check_adapter.value_problems(tmp_path) == []


def test_an_expert_that_learned_nothing_is_right_and_a_layer_that_did_not_is_named(
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
