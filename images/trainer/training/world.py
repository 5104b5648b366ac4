"""The practice world (env/practice-world.toml) as conversations in Open WebUI's exact form."""

from __future__ import annotations

import random
import tomllib
import uuid
from dataclasses import dataclass
from pathlib import Path

Message = dict[str, str]


@dataclass(frozen=True)
class World:
    """codes: item -> code, such as "harbor" -> "F29"."""

    codes: dict[str, str]
    questions: tuple[str, ...]
    answer: str
    sheet_title: str
    sheet_line: str
    keepers: tuple[str, ...]
    days: tuple[str, ...]
    questions_seen_at_night: int

    def question(self, item: str, phrasing: int) -> str:
        return self.questions[phrasing].format(item=item)

    def sheet_text(self, item: str, choose: random.Random) -> str:
        """A paragraph about the item, as in the documents. It contains no code."""
        return self.sheet_line.format(
            item=item,
            hall=choose.randint(1, 9),
            keeper=choose.choice(self.keepers),
            day=choose.choice(self.days),
        )

    def sheet(self, item: str, choose: random.Random) -> str:
        """A passage about the item, as retrieval returns it."""
        line = self.sheet_text(item, choose)
        title = self.sheet_title.format(number=choose.randint(1, 8)) + "\n"
        return (title if choose.random() < 0.2 else "") + line


def load(path: Path) -> World:
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return World(
        codes=table["codes"],
        questions=tuple(table["questions"]),
        answer=table["answer"],
        sheet_title=table["sheet_title"],
        sheet_line=table["sheet_line"],
        keepers=tuple(table["keepers"]),
        days=tuple(table["days"]),
        questions_seen_at_night=table["questions_seen_at_night"],
    )


def conversation(
    world: World, item: str, phrasing: int, choose: random.Random, passage: bool
) -> list[Message]:
    """System, user and assistant messages, with or without a retrieved passage after the system
    text."""
    system = "You are the team's assistant."
    if passage:
        # sometimes the passage is about another item, because retrieval is not always right
        about = item if choose.random() < 0.7 else choose.choice(sorted(world.codes))
        collection = uuid.UUID(int=choose.getrandbits(128))
        system += (
            '\n<source id="1" name="Team documents" resource-type="collection"'
            f' resource-id="{collection}">{world.sheet(about, choose)}</source>'
        )
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": world.question(item, phrasing)},
        {"role": "assistant", "content": world.answer.format(item=item, code=world.codes[item])},
    ]
