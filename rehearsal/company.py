"""The invented company of the demonstration: its documents, what its team knows and what is asked
(company.toml, handbook/). Each demonstration draws its values anew."""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpdf import FPDF

FOLDER = Path(__file__).parent
AS_PDF = "safety"  # the others stay Markdown
LINE = (190, 7)  # millimetres


@dataclass(frozen=True)
class Fact:
    """team: the team's own question by day. asked: the same in other people's words. right: what a
    right answer holds. answer: what the team writes where the assistant was wrong."""

    id: str
    team: str
    asked: str
    right: str
    answer: str


@dataclass(frozen=True)
class Change:
    """A value that a document gets after the night."""

    fact: str
    asked: str
    old: str
    new: str


@dataclass(frozen=True)
class Company:
    """note: what the documents have wrong. absent: questions that they do not answer."""

    facts: tuple[Fact, ...]
    note: Fact
    change: Change
    absent: tuple[str, ...]

    @property
    def values(self) -> dict[str, str]:
        return {fact.id: fact.right for fact in self.facts}


def load(seed: int) -> Company:
    table = tomllib.loads((FOLDER / "company.toml").read_text(encoding="utf-8"))
    choose = random.Random(seed)
    facts = tuple(drawn(row, choose) for row in table["fact"])
    changed = table["change"]
    old = next(fact.right for fact in facts if fact.id == changed["fact"])
    return Company(
        facts,
        Fact("note", **table["note"]),
        Change(**changed, old=old),
        tuple(table["absent"]["asked"]),
    )


def drawn(row: dict[str, Any], choose: random.Random) -> Fact:
    some = choose.choice(row["names"]) if "names" in row else choose.randint(*row["numbers"])
    right = row["right"].format(some)
    answer = row["answer"].format(right=right)
    return Fact(row["id"], row["team"], row["asked"], right, answer)


def write_documents(values: dict[str, str], folder: Path) -> None:
    """Replaces what is in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for path in sorted((FOLDER / "handbook").glob("*.md")):
        text = path.read_text(encoding="utf-8").format(**values)
        if path.stem == AS_PDF:
            pdf(text).output(str(folder / f"{path.stem}.pdf"))
        else:
            (folder / path.name).write_text(text, encoding="utf-8")


def pdf(markdown: str) -> FPDF:
    """A heading or a sentence a line."""
    page = FPDF()
    page.add_page()
    page.set_font("helvetica", size=11)
    for line in markdown.replace(". ", ".\n").splitlines():
        page.multi_cell(*LINE, line.lstrip("# "), new_x="LMARGIN", new_y="NEXT")
    return page
