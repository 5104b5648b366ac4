"""Do an example's own passages support its answer? Pure.

An answer that its prompt does not support teaches a model to recite, and one that its prompt
contradicts teaches it to ignore what it reads (learning-answers.md). The rules are those of
learning.dataset.questions: numbers, codes and names must stand in the passages, most of the words
that mean something too, and a denial must be one in both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from learning.dataset import facts, passages, questions
from learning.examples import Example

SUPPORTED, CONTRADICTED, NO_PASSAGE = "supported", "contradicted", "no passage"
LEAST_ABOUT = 0.5  # of what is asked or answered, for a passage to be about it
STEM_LETTERS = 5  # "gauge" and "gauges", "Batterie" and "Batterien" are one word


@dataclass(frozen=True)
class Sorted:
    """Every example is in exactly one of them, in its order."""

    supported: tuple[Example, ...] = ()
    contradicted: tuple[Example, ...] = ()
    no_passage: tuple[Example, ...] = ()


def sort(examples: Iterable[Example]) -> Sorted:
    found: dict[str, list[Example]] = {SUPPORTED: [], CONTRADICTED: [], NO_PASSAGE: []}
    for example in examples:
        found[of(example)].append(example)
    return Sorted(*(tuple(rows) for rows in found.values()))


def of(example: Example) -> str:
    return by_texts(example.question, example.answer, [p.text for p in passages.of(example)])


def by_texts(question: str, answer: str, texts: list[str]) -> str:
    """SUPPORTED, CONTRADICTED or NO_PASSAGE."""
    window = evidence(question, answer, texts)
    takes_up = stems(question) & stems(f"{answer}\n{evidence('', answer, texts)}")
    if takes_up and proves(question, answer, window, "\n".join(texts)):
        return SUPPORTED
    return CONTRADICTED if denies(question, answer, window) else NO_PASSAGE


def evidence(question: str, answer: str, texts: list[str]) -> str:
    """The sentence, or two in a row, that shares most with question and answer; empty if none
    shares a word."""
    wanted = stems(question) | stems(answer)
    windows = [window for text in texts for window in windows_of(text)]
    shared = {window: len(stems(window) & wanted) for window in windows}
    best = max(windows, key=lambda window: (shared[window], -len(window)), default="")
    return best if shared.get(best) else ""


def windows_of(text: str) -> list[str]:
    one = facts.sentences(text)
    return [*one, *(f"{first} {second}" for first, second in pairwise(one))]


def proves(question: str, answer: str, window: str, proof: str) -> bool:
    fact = facts.of(question, answer, window)
    if not fact or not holds_values(question, answer, proof):
        return False
    # a fact in plain words has nothing else to be known by: each of its words must be there
    plain = not any(value == fact.value for _, value in facts.values(answer))
    if plain and not stems(answer) <= stems(question) | stems(proof):
        return False
    said = questions.meaning(answer)
    proved = said & (questions.meaning(proof) | questions.meaning(question))
    enough = len(proved) >= questions.LEAST_PROVED * len(said)
    return enough and denials(answer) == denials(window)


def holds_values(question: str, answer: str, proof: str) -> bool:
    """Every number, code and name of the answer stands in the passages or in the question."""
    numbers = facts.told(answer) & facts.NUMBER_WORDS
    hard = [*(value for _, value in facts.values(answer)), *numbers]
    return all(facts.says(f"{question}\n{proof}", value) for value in hard)


def denies(question: str, answer: str, window: str) -> bool:
    """The window is about the question, and says another number or name, or yes where the answer
    says no."""
    said = stems(window)
    about = (stems(question), stems(question) | stems(answer))
    if all(len(words & said) < LEAST_ABOUT * max(len(words), 1) for words in about):
        return False
    if denials(answer) != denials(window):
        return True
    known = f"{question}\n{answer}"
    rivals = {kind for kind, value in facts.values(window) if not facts.says(known, value)}
    missing = {kind for kind, value in facts.values(answer) if not facts.says(window, value)}
    return bool(rivals & missing)


def stems(text: str) -> set[str]:
    return {word[:STEM_LETTERS] for word in facts.told(text)}


def denials(text: str) -> set[str]:
    return questions.negations(text) - {"only"}
