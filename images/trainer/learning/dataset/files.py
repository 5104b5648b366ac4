"""A dataset on disk: train, held_out, general, preferences and masked as JSON lines, card.json, and
page.html for people, with what only that page shows in page.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glue.core import files
from learning.dataset import asked, card, split
from learning.dataset.card import Notes
from learning.dataset.prepare import Prepared
from learning.dataset.variants import Variant
from learning.examples import Dataset, Example, Preference

PARTS = ("train", "held_out", "general")
# left_out: what was not trained and needs a person's decision, each with its reason. asked: what
# the night is asked about it
FILES = (*PARTS, "preferences", "masked", "left_out", "asked")
LeftOut = Iterable[tuple[str, Example]]  # (why, example)
NOTES = "page.json"
NO_NOTES = Notes()


def write(
    folder: Path,
    prepared: Prepared,
    built: Dataset,
    facts: dict[str, Any],
    name: str,
    notes: Notes = NO_NOTES,
    left_out: LeftOut = (),
    questions: Iterable[Variant] = (),
) -> None:
    """The data set, in place of any that is there; readable by its owner only."""
    write_parts(folder, built)
    files.write_json(folder / NOTES, asdict(notes), mode=0o600)
    write_lines(folder / "preferences.jsonl", map(split.as_pair, prepared.preferences))
    write_lines(folder / "masked.jsonl", map(asdict, prepared.masked))
    rows = ({"why": why} | split.as_row(row) for why, row in left_out)
    write_lines(folder / "left_out.jsonl", rows)
    write_lines(folder / "asked.jsonl", map(asked.as_row, questions))
    write_card(folder, facts, name)


def write_parts(folder: Path, built: Dataset) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    parts = {
        "train": built.train + built.replay,
        "held_out": built.held_out + built.earlier,
        "general": built.general,
    }
    for part, rows in parts.items():
        write_lines(folder / f"{part}.jsonl", map(split.as_row, rows))


def read(folder: Path) -> Dataset:
    """What write wrote; card.json says where two parts share a file."""
    counts = files.read_json(folder / "card.json", {})["parts"]
    rows = {
        part: tuple(map(split.from_row, files.read_lines(folder / f"{part}.jsonl")))
        for part in PARTS
    }
    trained, held_out = counts["train"], counts["held_out"]
    return Dataset(
        train=rows["train"][:trained],
        replay=rows["train"][trained:],
        held_out=rows["held_out"][:held_out],
        earlier=rows["held_out"][held_out:],
        general=rows["general"],
    )


def read_asked(folder: Path) -> tuple[Variant, ...]:
    """None in a data set of an earlier version."""
    return tuple(map(asked.from_row, files.read_lines(folder / "asked.jsonl")))


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    # an id or a comment may hold half a character, which no file can
    files.write(path, text.encode(errors="replace").decode(), mode=0o600)


def write_card(folder: Path, facts: dict[str, Any], name: str) -> None:
    """The card, and the page of what the folder's files hold now."""
    files.write(
        folder / "card.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n", mode=0o600
    )
    parts = {
        part: [split.from_row(row) for row in files.read_lines(folder / f"{part}.jsonl")]
        for part in PARTS
    }
    learned = {
        part: [row for row in rows if row.origin.kind != "general"] for part, rows in parts.items()
    }
    for row in files.read_lines(folder / "left_out.jsonl"):
        learned.setdefault(f"left out: {row['why']}", []).append(split.from_row(row))
    rows = [row for part in learned.values() for row in part]
    notes = card.about(read_notes(folder), rows)
    files.write_json(folder / NOTES, asdict(notes), mode=0o600)
    files.write(folder / "page.html", card.page(facts, learned, name, notes), mode=0o600)


def read_notes(folder: Path) -> Notes:
    """Without any, of a data set of an earlier version."""
    return Notes(**files.read_json_if_whole(folder / NOTES, {}))


def remove(folder: Path, unwanted: Callable[[dict[str, Any]], bool]) -> int:
    """Takes rows out of the dataset in folder by what about says, and out of its page. Returns how
    many.

    The page goes first and comes back last, so that one that died on its way is finished by the
    next.
    """
    count = 0
    page = folder / "page.html"
    for part in FILES:
        rows = files.read_lines(folder / f"{part}.jsonl")
        kept = [row for row in rows if not unwanted(about(row))]
        if len(kept) < len(rows):
            page.unlink(missing_ok=True)
            write_lines(folder / f"{part}.jsonl", kept)
            count += len(rows) - len(kept)
    path = folder / "card.json"
    if path.exists() and not page.exists():
        facts = files.read_json(path, {})
        write_card(
            folder, facts | {"forgotten": facts.get("forgotten", 0) + count}, folder.parent.name
        )
    return count


def about(row: dict[str, Any]) -> dict[str, Any]:
    """Its origin, and as "read" what the model was given."""
    read = "\n".join(str(message["content"]) for message in row.get("prompt") or [])
    return {**(row.get("origin") or {}), "read": read}


def holds(folder: Path, wanted: Callable[[dict[str, Any]], bool]) -> bool:
    return any(
        wanted(about(row)) for part in FILES for row in files.read_lines(folder / f"{part}.jsonl")
    )


def earlier_preferences(state: Path) -> list[Preference]:
    """Of earlier data sets: they have the first form of an answer that was edited since."""
    return [
        split.from_pair(row)
        for folder in folders(state)
        for row in files.read_lines(folder / "preferences.jsonl")
    ]


def folders(state: Path) -> list[Path]:
    """Of every dataset on this machine: each night's, and the one that `glue dataset build`
    made."""
    return [*sorted(state.glob("nights/*/dataset")), state / "dataset"]
