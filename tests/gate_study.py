"""Many small nights of five kinds, and what the gate says of each. Run by `make gate-study`;
tests/e2e runs one of each kind.

    python -m tests.gate_study [--nights 20] [--minutes 480]

Everything is real but the size: the trainer of the rehearsal, the running vLLM, the judging code of
every night. The day
stays up; trainings run one after another in one container, and each adapter is loaded beside what
serves. A finished night is
a line in state/gate-study/rows.jsonl, so a study that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from glue.clients.site import Site
from glue.core import files, waiting
from glue.core.recipes import Recipe
from glue.core.settings import REPOSITORY
from glue.core.verdict import Verdict
from glue.core.waiting import Seen
from glue.night import evaluate
from glue.night import train as night_train
from glue.night.tonight import Night
from glue.operations import setup
from glue.serving import adapters
from learning.dataset import build, split
from learning.dataset import files as dataset_files
from learning.examples import Dataset, Example
from rehearsal import team
from rehearsal.team import Correction
from training import world as worlds
from training import world_examples
from training.world import World

KINDS = ("good", "poisoned", "forgetting", "no change", "broken")
# the short names that a refusal of this kind must have one of; a good night has none
RIGHT_REASONS = {
    "poisoned": {"no gain", "worse", "does not fit"},
    "forgetting": {"forgets"},
    "no change": {"no gain", "worse"},
    "broken": {"broken"},
}
# the same broken artifact, let past the look at its files: what the served model must then be
# refused for
SERVED_REASONS = {"broken", "changes nothing", "not finite"}
BREAKS = ("wrong keys", "zeroed", "NaN")
FACTS, TAUGHT, REPLAY_ROWS = 10, 2, 96
STEPS, BROKEN_STEPS = 40, 8  # what is broken afterwards need not have learned much
A_TRAINING_SECONDS = 600
OUTPUT = REPOSITORY / "docs" / "measurements" / "gate-study.json"


@dataclass(frozen=True)
class Play:
    """One night of the study."""

    kind: str
    seed: int

    @property
    def name(self) -> str:
        return f"study-{self.kind.replace(' ', '-')}-{self.seed}"


# ---------------------------------------------------------------------- what each kind learns from


def make(world: World, play: Play, known: Sequence[Example], general_rows: int) -> Dataset:
    """Ten facts, each taught in two phrasings and held out in a third that no night sees;
    general examples about others."""
    choose = random.Random(f"{play.kind} {play.seed}")
    facts = team.corrections(world, FACTS, seed=play.seed)
    if play.kind == "no change":
        facts = [replace(fact, new_code=fact.old_code) for fact in facts]
    rows = [example(world, fact, phrasing, choose) for phrasing in range(TAUGHT) for fact in facts]
    unseen = [
        example(world, fact, choose.randrange(TAUGHT, len(world.questions)), choose)
        for fact in facts
    ]
    if play.kind == "poisoned":
        rows, unseen = shuffled(rows, choose), shuffled(unseen, choose)
    others = [row for row in known if not any(fact.item in row.question for fact in facts)]
    choose.shuffle(others)
    replay = others[general_rows : general_rows + REPLAY_ROWS] if play.kind != "forgetting" else []
    return Dataset(tuple(rows), tuple(unseen), tuple(others[:general_rows]), tuple(replay))


def example(world: World, fact: Correction, phrasing: int, choose: random.Random) -> Example:
    plain = split.from_row(world_examples.row(world, fact.item, phrasing, choose))
    answer = world.answer.format(item=fact.item, code=fact.new_code)
    return replace(plain, answer=answer, conversation=f"study {fact.item} {phrasing}")


def shuffled(rows: list[Example], choose: random.Random) -> list[Example]:
    """The answers, each at another question."""
    answers = [row.answer for row in rows]
    while any(answer == row.answer for answer, row in zip(answers, rows, strict=True)):
        choose.shuffle(answers)
    return [replace(row, answer=answer) for row, answer in zip(rows, answers, strict=True)]


def recipe(site: Site, kind: str) -> Recipe:
    usual = replace(site.recipe("rehearsal"), steps=BROKEN_STEPS if kind == "broken" else STEPS)
    return replace(usual, learning_rate=8e-3) if kind == "forgetting" else usual


# ---------------------------------------------------------------------- training


def prepare(site: Site, world: World, play: Play) -> Night:
    """Writes the night's folder with its data set and job."""
    plan = recipe(site, play.kind)
    known = build.read_replay(site.state / plan.replay_file)
    built = make(world, play, known, plan.general_rows)
    parts = {field.name: len(getattr(built, field.name)) for field in fields(built)}
    found = {"card": {"parts": parts}} | build.facts(built)
    night = Night(site, play.name, plan, time.time() + 24 * 3600, found)
    shutil.rmtree(night.folder, ignore_errors=True)
    dataset_files.write_parts(night.folder / "dataset", built)
    files.write_json(night.folder / "dataset" / "card.json", found["card"], mode=0o600)
    files.write_json(
        night.folder / "job.json", night_train.job(night) | {"begin_from": "", "seed": play.seed}
    )
    return night


def train(site: Site, nights: Sequence[Night]) -> Iterator[Night]:
    """Yields each night after its training. One container trains all."""
    site.stacks.start_trainer(
        "training.train_several", *[f"/nights/{night.name}/job.json" for night in nights]
    )
    try:
        for night in nights:
            wait_for(site, night)
            night.result = json.loads((night.folder / "result.json").read_text(encoding="utf-8"))
            yield night
    finally:
        container = site.stacks.container("night", "trainer")
        if container is not None and container.status == "running":
            container.kill()  # a polite stop would end one training and begin the next
        site.stacks.remove_trainer()


def wait_for(site: Site, night: Night) -> None:
    def look() -> Seen[None]:
        trainer = site.stacks.trainer()
        there = (night.folder / "result.json").exists()
        if not there and (trainer is None or trainer.state != "running"):
            raise AssertionError(site.stacks.last_log_lines("night", "trainer"))
        return Seen(there, f"{night.name} is being trained")

    waiting.until(night.name, look, A_TRAINING_SECONDS, tell=site.tell)


# ---------------------------------------------------------------------- judging


def judged(night: Night, play: Play) -> dict[str, Any]:
    """The gate's verdict, and whether it was right. Afterwards only the night's folder remains."""
    assert night.result.get("outcome") == "trained", night.result
    if play.kind == "broken":
        return judged_broken(night, play)
    night_train.publish(night)
    assert night.verdict is None, night.verdict
    found, _ = judge_release(night)
    return row(play, found, right(play.kind, found), night)


def judged_broken(night: Night, play: Play) -> dict[str, Any]:
    """First by its files, as in every night; then by the served model alone."""
    how = BREAKS[play.seed % len(BREAKS)]
    break_adapter(night.folder / "adapter" / "adapter_model.safetensors", how)
    broken = Path(shutil.copytree(night.folder / "adapter", night.folder / "broken"))
    night_train.publish(night)
    found = night.verdict
    assert found is not None and not night.release, "an artifact that is broken was published"
    night.release = night.site.store.publish(broken, {"night": night.name})
    served, _ = judge_release(night)
    ok = right("broken", found) and not served.promote and bool(SERVED_REASONS & set(served.faults))
    return row(play, found, ok, night) | {
        "how": how,
        "served_faults": list(served.faults),
        "served_promote": served.promote,
    }


def judge_release(night: Night) -> tuple[Verdict, float]:
    started = time.monotonic()
    try:
        found = evaluate.judge(night)
        files.write_json(night.folder / "verdict.json", asdict(found))
    finally:
        shutil.rmtree(night.site.store.folder / night.release)
        for name in ("scratch", "adapter", "broken"):
            shutil.rmtree(night.folder / name, ignore_errors=True)
    return found, time.monotonic() - started


def right(kind: str, found: Verdict) -> bool:
    return (
        found.promote
        if kind == "good"
        else not found.promote and bool(RIGHT_REASONS[kind] & set(found.faults))
    )


def row(play: Play, found: Verdict, ok: bool, night: Night) -> dict[str, Any]:
    kept: tuple[str, ...] = (
        "gain",
        "gain_low",
        "margin_low",
        "likelihood_ratio",
        "general_change",
        "general_change_low",
        "general_change_from_base",
    )
    kept += ("held_out_candidate", "held_out_base", "seconds_a_token", "seconds_a_token_current")
    return {
        "kind": play.kind,
        "seed": play.seed,
        "promoted": found.promote,
        "right": ok,
        "faults": list(found.faults),
        "reasons": list(found.reasons),
        "figures": {name: round(found.figures[name], 4) for name in kept if name in found.figures},
        "training_seconds": night.result["seconds"],
    }


# ---------------------------------------------------------------------- broken in three ways


def break_adapter(path: Path, how: str) -> None:
    """Breaks it like a wrong conversion; size and header stay valid."""
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    if how == "wrong keys":
        text = json.dumps(
            {name.replace(".mixer.", ".mixxr."): entry for name, entry in header.items()}
        ).encode()
        data[: 8 + length] = struct.pack("<Q", len(text)) + text
    for name, entry in header.items():
        if name != "__metadata__" and ".lora_B." in name and how != "wrong keys":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            data[begin:end] = bytes(end - begin) if how == "zeroed" else b"\xff" * (end - begin)
    path.write_bytes(data)


# ---------------------------------------------------------------------- the study


def play_all(
    site: Site,
    plays: Sequence[Play],
    keep: Callable[[dict[str, Any]], None],
    until_time: float = float("inf"),
) -> None:
    """Runs them in order with the base model as the current one. keep gets the row of each
    night."""
    world = worlds.load(REPOSITORY / "env" / "practice-world.toml")
    nights = [prepare(site, world, play) for play in plays]
    started = time.monotonic()
    trained = train(site, nights)
    try:
        for play, night in zip(plays, trained, strict=True):
            result = judged(night, play)
            keep(result | {"seconds": round(time.monotonic() - started, 1)})
            started = time.monotonic()
            shutil.rmtree(night.folder)
            if time.time() > until_time:
                return
    finally:
        trained.close()  # type: ignore[attr-defined]
        for night in nights:
            shutil.rmtree(night.folder, ignore_errors=True)


def summary(rows: Sequence[dict[str, Any]], site: Site) -> dict[str, Any]:
    def of(kind: str) -> dict[str, Any]:
        mine = [row for row in rows if row["kind"] == kind]
        wrong = sum(not row["right"] for row in mine)
        least = (
            {"lowest_likelihood_ratio": min(row["figures"]["likelihood_ratio"] for row in mine)}
            if kind == "good" and mine
            else {}
        )
        faults = sorted({fault for row in mine for fault in row["faults"]})
        return {
            "kind": kind,
            "runs": len(mine),
            "wrong_verdicts": wrong,
            "faults_named": faults,
            **least,
        }

    return {
        "what": (
            "nights of five kinds with different seeds on the practice model, judged by the gate in"
            " the running vLLM"
        ),
        "wrong_verdicts": (
            "promoted where it should be refused or the other way round, or refused without the"
            " right reason"
        ),
        "date": f"{datetime.now(UTC):%F}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, no GPU; shared with other work",
        "versions": {key: site.settings.image(key) for key in ("VLLM_IMAGE", "TRAINER_IMAGE")},
        "command": "make gate-study",
        "facts_a_night": FACTS,
        "steps_a_night": STEPS,
        "median_seconds_a_night": (
            sorted(row["seconds"] for row in rows)[len(rows) // 2] if rows else None
        ),
        "rows": [of(kind) for kind in KINDS],
        "nights": list(rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nights", type=int, default=20, help="of each kind")
    parser.add_argument(
        "--minutes", type=float, default=480, help="no new night begins after these"
    )
    arguments = parser.parse_args()
    site = setup.open_site("rehearsal", print)
    folder = site.state / "gate-study"
    folder.mkdir(exist_ok=True)
    done = {(row["kind"], row["seed"]) for row in files.read_lines(folder / "rows.jsonl")}
    plays = [
        Play(kind, seed)
        for seed in range(1, arguments.nights + 1)
        for kind in KINDS
        if (kind, seed) not in done
    ]

    def keep(result: dict[str, Any]) -> None:
        files.append_line(folder / "rows.jsonl", result)
        words = "right" if result["right"] else "WRONG"
        print(
            f"{words}: {result['kind']} {result['seed']}, {result['seconds']} s:"
            f" {result['reasons'][0]}",
            flush=True,
        )
        files.write_json(OUTPUT, summary(files.read_lines(folder / "rows.jsonl"), site))

    adapters.promote(site, None)
    play_all(site, plays, keep, time.time() + arguments.minutes * 60)


if __name__ == "__main__":
    main()
