"""One person, one voice: each counts once for each question, and a question that people answer
differently is settled by how many of them say so. Pure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass

from learning.dataset import duplicates, facts, split
from learning.examples import Example

FEWEST_WORDS = 3  # of a sentence that two questions do not share by chance
# questions that one person may teach one answer to: one of them can train, the other judge
MOST_WAYS = 2
REPEATED = "one person said the same already"
AGAINST_ONESELF = "one person gave two answers to the same question"
OUTVOTED = "more people answer the question otherwise"
UNSETTLED = "as many people answer the question otherwise"
DISPUTED = (AGAINST_ONESELF, UNSETTLED)


@dataclass(frozen=True)
class Heard:
    """kept: in their order. left_out: why, and how many. disputed: (why, example) of those that
    other answers stand against; their people can settle it. reasons: of every example why it is
    left out; empty if it is kept."""

    kept: tuple[Example, ...]
    left_out: dict[str, int]
    disputed: tuple[tuple[str, Example], ...] = ()
    reasons: tuple[str, ...] = ()


def heard(examples: Sequence[Example]) -> Heard:
    """Rows without a person (documents, terms) are all kept and have no vote. Newest last, as
    ratings.collect gives them."""
    by_question: dict[int, list[int]] = defaultdict(list)
    for number, group in enumerate(same_questions(examples)):
        if examples[number].origin.user:
            by_question[group].append(number)
    why: dict[int, str] = {}
    for numbers in by_question.values():
        why |= settle([(examples[number], number) for number in numbers])
    why |= repeated(examples, frozenset(why))
    kept = tuple(row for number, row in enumerate(examples) if number not in why)
    disputed = tuple((why[n], examples[n]) for n in sorted(why) if why[n] in DISPUTED)
    reasons = tuple(why.get(number, "") for number in range(len(examples)))
    return Heard(kept, dict(Counter(why.values())), disputed, reasons)


def repeated(examples: Sequence[Example], gone: Container[int]) -> dict[int, str]:
    """The same sentence by the same person counts MOST_WAYS times at most, whatever was asked; the
    newest are kept. A short answer, such as a yes, may be right for many questions.

    gone: what is left out already."""
    said: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, row in enumerate(examples):
        long = len(facts.told(row.answer)) >= FEWEST_WORDS
        if row.origin.user and long and number not in gone:
            said[row.origin.user, split.normal(row.answer)].append(number)
    return {number: REPEATED for same in said.values() for number in same[:-MOST_WAYS]}


def settle(rows: Sequence[tuple[Example, int]]) -> dict[int, str]:
    """Of rows that ask the same: number -> why it is left out."""
    said: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, number in rows:
        said[row.origin.user][meant(row)].append(number)
    why = {n: REPEATED for told in said.values() for same in told.values() for n in same[:-1]}
    votes = Counter(answer for told in said.values() if len(told) == 1 for answer in told)
    most = max(votes.values(), default=0)
    winners = [answer for answer, count in votes.items() if count == most]
    for told in said.values():
        for answer, numbers in told.items():
            if reason := against(answer, winners, alone=len(told) == 1):
                why[numbers[-1]] = reason
    return why


def against(answer: str, winners: Sequence[str], alone: bool) -> str:
    if not alone and [answer] != winners:
        return AGAINST_ONESELF
    if answer not in winners:
        return OUTVOTED
    return UNSETTLED if len(winners) > 1 else ""


def meant(row: Example) -> str:
    """The same for two answers that give the same values, however they are worded."""
    values = sorted({facts.flat(value) for _, value in facts.values(row.answer)})
    return " | ".join(values) or split.normal(row.answer)


def same_questions(examples: Sequence[Example]) -> list[int]:
    """For each example a number that it shares with those that ask the same in almost the same
    words (the rule of learning.dataset.duplicates)."""
    sorted_words = [
        " ".join(sorted(duplicates.WORD.findall(row.question.casefold()))) for row in examples
    ]
    sentences = list(dict.fromkeys(sorted_words))
    first = list(range(len(sentences)))

    def root(number: int) -> int:
        while first[number] != number:
            first[number] = number = first[first[number]]
        return number

    for block in duplicates.blocks([sentence.split() for sentence in sentences]).values():
        for earlier, later in duplicates.alike(block, sentences):
            first[root(later)] = root(earlier)
    number_of = {sentence: root(number) for number, sentence in enumerate(sentences)}
    return [number_of[sentence] for sentence in sorted_words]
