"""The passages inside a prompt: read out of it, and put back changed. Pure.

The day writes each as <source id="1" name="...">...</source> (learning.dataset.prompt).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from learning.examples import Example

SOURCE = re.compile(r'<source id="\d+"(?P<attributes>[^>]*)>(?P<text>.*?)</source>', re.DOTALL)
NAME = re.compile(r'name="([^"]*)"')


@dataclass(frozen=True)
class Passage:
    """attributes: what the prompt form writes about the source besides its number."""

    text: str
    attributes: str = ""

    @property
    def name(self) -> str:
        found = NAME.search(self.attributes)
        return found[1] if found else ""

    @classmethod
    def named(cls, name: str, text: str, collection: str = "") -> Passage:
        """As the prompt form writes one of a collection, whose ID may be unknown."""
        where = f' resource-type="collection" resource-id="{collection}"' if collection else ""
        return cls(text, f' name="{name}"{where}')


def of(example: Example) -> tuple[Passage, ...]:
    """In the order in which the model reads them; empty if the prompt has none."""
    return tuple(
        Passage(found["text"], found["attributes"])
        for message in example.prompt
        if message.role == "system"
        for found in SOURCE.finditer(message.content)
    )


def put(example: Example, passages: Sequence[Passage]) -> Example:
    """The same example with these passages in the place of its own. Raises ValueError for one whose
    prompt has none: there is no place to put them."""
    for number, message in enumerate(example.prompt):
        found = list(SOURCE.finditer(message.content)) if message.role == "system" else []
        if found:
            text = message.content[: found[0].start()] + rendered(passages)
            text += message.content[found[-1].end() :]
            prompt = list(example.prompt)
            prompt[number] = replace(message, content=text)
            return replace(example, prompt=tuple(prompt))
    raise ValueError(f"the prompt holds no passages: {example.question[:80]!r}")


def rendered(passages: Sequence[Passage]) -> str:
    return "\n".join(
        f'<source id="{number}"{passage.attributes}>{passage.text}</source>'
        for number, passage in enumerate(passages, 1)
    )
