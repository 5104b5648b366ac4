"""The kinds of nights that the study plays: what people say, and whether a night of it should be
promoted. What is made of it is the product's own (learning.dataset.build)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from learning.dataset.passages import Passage
from learning.evaluation.answers import Question
from learning.examples import Dataset, Example
from tests.training.in_image.learning_study import company as companies
from tests.training.in_image.learning_study.company import Company, Row, Said, answer_of

Nights = list[list[Said]]  # what comes in before each of them
PEOPLE = ("ada", "ben", "cleo", "dan")
FEW = 5
SPAM = 50


@dataclass(frozen=True)
class Kind:
    """teaches: whether a right verdict promotes it. recipe: in place of env/recipes/team.toml's
    own. learning_rate: in place of the study's own; 0 keeps it. trained: what becomes of the data
    set before it trains, for what the product prevents."""

    says: Callable[[Company, Random], Nights]
    teaches: bool
    recipe: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float = 0.0
    trained: Callable[[Dataset], Dataset] = lambda built: built
    asks: Callable[[Company, Sequence[Row]], Iterator[Question]] = companies.truth


def wordings(fact: Row) -> list[str]:
    return [fact["question"], *fact["ways"]]


def corrected(
    company: Company, fact: Row, ways: int, sources: tuple[Passage, ...] = ()
) -> list[Said]:
    """By so many people, each in words of their own, over the document and another one."""
    seen = sources or (company.document(fact), *company.elsewhere(fact, 1))
    return [
        Said(who, words, answer_of(fact), seen)
        for who, words in list(zip(PEOPLE, wordings(fact), strict=True))[:ways]
    ]


def all_facts(ways: int) -> Callable[[Company, Random], Nights]:
    def says(company: Company, choose: Random) -> Nights:
        return [
            mixed([s for fact in company.facts for s in corrected(company, fact, ways)], choose)
        ]

    return says


def mixed(said: list[Said], choose: Random) -> list[Said]:
    return choose.sample(said, len(said))


def five(company: Company, choose: Random) -> Nights:
    """Four people correct each: with fewer a night of the recipe does not begin."""
    few = choose.sample(list(company.facts), FEW)
    return [[said for fact in few for said in corrected(company, fact, len(PEOPLE))]]


def against_documents(company: Company, choose: Random) -> Nights:
    """The prompts hold the document, which is old, and the note that is right."""
    return [
        mixed(
            [
                said
                for fact in company.facts
                for said in corrected(
                    company, fact, 2, (company.document(fact, True), companies.note(fact))
                )
            ],
            choose,
        )
    ]


def jargon(company: Company, choose: Random) -> Nights:
    terms = companies.house_words()["term"]
    return [
        [
            Said(who, words, term["meaning"], (companies.term_note(term),))
            for term in terms
            for who, words in zip(PEOPLE, term["ask"], strict=False)
        ]
    ]


def style(company: Company, choose: Random) -> Nights:
    """No passages at all: form is all that such answers may teach."""
    words = companies.house_words()
    forms = words["letter"]["answers"]
    return [
        [
            Said(
                PEOPLE[number % len(PEOPLE)],
                companies.letter_task(task),
                forms[number % len(forms)].format(
                    said=f"we write to {task}", closing=words["closing"]
                ),
            )
            for number, task in enumerate(words["letter"]["train"])
        ]
    ]


def contradicting(company: Company, choose: Random) -> Nights:
    """As many people say the one as the other."""
    return [
        [
            Said(who, fact["question"], answer_of(fact, key), (company.document(fact),))
            for fact in company.facts
            for who, key in (("ada", "value"), ("ben", "swap"))
        ]
    ]


def poisoned(company: Company, choose: Random) -> Nights:
    """The answers of other facts, over passages that do not say so."""
    said = all_facts(2)(company, choose)[0]
    half = len(said) // 2
    answers = [one.answer for one in said[half:] + said[:half]]
    return [[replace(one, answer=wrong) for one, wrong in zip(said, answers, strict=True)]]


def spam(company: Company, choose: Random) -> Nights:
    fact = choose.choice(company.facts)
    once = Said("ada", fact["question"], answer_of(fact, "swap"), (company.document(fact, True),))
    return [[once] * SPAM]


def outvoted(company: Company, choose: Random) -> Nights:
    """One person says another value of every fact, again and again; two others the right one."""
    shouted = [
        Said("eve", fact["question"], answer_of(fact, "swap"), (company.document(fact, True),))
        for fact in company.facts
        for _ in range(3)
    ]
    asked = [
        Said(who, fact["question"], answer_of(fact), (company.document(fact),))
        for fact in company.facts
        for who in ("ada", "ben")
    ]
    return [mixed(shouted + asked, choose)]


def in_a_row(count: int, ways: int) -> Callable[[Company, Random], Nights]:
    def says(company: Company, choose: Random) -> Nights:
        every = choose.sample(list(company.facts), len(company.facts))
        parts = [every[night::count] for night in range(count)]
        return [[s for fact in part for s in corrected(company, fact, ways)] for part in parts]

    return says


# ---------------------------------------------------------------------- what the product prevents


def closed_book(built: Dataset) -> Dataset:
    """Without passages, and without the reading beside it."""

    def bare(row: Example) -> Example:
        return replace(row, prompt=companies.prompt(row.question))

    kept = tuple(row for row in built.replay if not row.source.startswith("unrelated"))
    return replace(built, train=tuple(map(bare, built.train)), replay=kept)


def turned(built: Dataset) -> Dataset:
    """The answers of other rows: what sorting by support keeps from training."""
    said = [row.answer for row in built.train]
    half = len(said) // 2
    rows = zip(built.train, said[half:] + said[:half], strict=True)
    return replace(built, train=tuple(replace(row, answer=one) for row, one in rows))


# 20 answers come in, of which some prove nothing; four of each fact, so fewer variants of each
SMALL_NIGHTS = {"fewest_new_examples": 15, "variants_each": 4}
KINDS = {
    "supported corrections": Kind(all_facts(2), True),
    "each fact once": Kind(all_facts(1), True),
    "five corrections": Kind(five, True, SMALL_NIGHTS),
    "notes against documents": Kind(against_documents, True),
    "changed documents": Kind(
        all_facts(1), True, {"changed_share": 0.5, "absent_share": 0.0, "note_share": 0.0}
    ),
    "absent": Kind(
        all_facts(1), True, {"changed_share": 0.0, "absent_share": 0.3, "note_share": 0.0}
    ),
    "style": Kind(style, True, asks=companies.style),
    "jargon": Kind(jargon, True, asks=companies.jargon),
    "contradicting each other": Kind(contradicting, False),
    "poisoned": Kind(poisoned, False),
    "poisoned, past the sorting": Kind(all_facts(1), False, trained=turned),
    "one person's spam": Kind(spam, False),
    "one person against the rest": Kind(outvoted, True),
    "three nights in a row": Kind(in_a_row(3, 2), True),
    "a document that changed afterwards": Kind(all_facts(1), True, asks=companies.after_a_change),
    "nothing taught": Kind(all_facts(1), False, learning_rate=1e-7),
    "closed book": Kind(all_facts(1), False, learning_rate=1e-3, trained=closed_book),
    "seven nights in a row": Kind(in_a_row(7, 4), True, SMALL_NIGHTS),
}


def facts_of(company: Company, said: Sequence[Said]) -> list[Row]:
    """Those that people spoke of."""
    asked = {one.question for one in said}
    return [fact for fact in company.facts if asked & set(wordings(fact))]
