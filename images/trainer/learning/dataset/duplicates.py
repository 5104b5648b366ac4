"""Answers that say the same to the same question, in almost the same words. Pure.

Alike is not enough: "the north pump" and "the south pump" are two facts in nearly one sentence. So
two rows are one only if
their numbers and codes are equal and every other word that one of them has alone is a spelling of
one in the other.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from rapidfuzz import fuzz, process

from learning.examples import Example

ALIKE = 90  # of 100, rapidfuzz's ratio of the sorted words
SAME_WORD = 80
SMALL_WORD_LETTERS = 3
LONGEST_COMPARED = 300  # characters of question and of answer; beyond these two must begin alike
RAREST = 3  # only rows that share one of their rarest words are compared
WORD = re.compile(r"\w+")

Blocks = dict[tuple[frozenset[str], str], list[int]]


def without_near_duplicates(examples: tuple[Example, ...]) -> tuple[tuple[Example, ...], int]:
    """The last of each that are near-duplicates, in their order, and how many were left out."""
    words = [sorted(WORD.findall(said(example))) for example in examples]
    sentences = [" ".join(row) for row in words]
    gone = {pair[0] for block in blocks(words).values() for pair in alike(block, sentences)}
    return tuple(example for number, example in enumerate(examples) if number not in gone), len(
        gone
    )


def said(example: Example) -> str:
    """What was asked, from the last questions of the conversation, and the answer."""
    asked = " ".join(message.content for message in example.prompt if message.role == "user")
    return f"{asked[-LONGEST_COMPARED:]} {example.answer[:LONGEST_COMPARED]}".casefold()


def blocks(words: list[list[str]]) -> Blocks:
    """Rows that have the same numbers and codes and share one of their rarest words."""
    rows_with = Counter(word for row in words for word in set(row))
    found: Blocks = defaultdict(list)
    for number, row in enumerate(words):
        codes = frozenset(word for word in row if any(letter.isdigit() for letter in word))
        for word in sorted(
            set(row), key=lambda word: (rows_with[word] == 1, rows_with[word], word)
        )[:RAREST]:
            found[codes, word].append(number)
    return found


def alike(block: list[int], sentences: list[str]) -> list[tuple[int, int]]:
    """(earlier, later) of every pair in the block that says the same."""
    found = []
    for place, number in enumerate(block[:-1]):
        others = [sentences[other] for other in block[place + 1 :]]
        for _, _, index in process.extract(
            sentences[number], others, scorer=fuzz.ratio, score_cutoff=ALIKE, limit=None
        ):
            if same_words(sentences[number], others[index]):
                found.append((number, block[place + 1 + index]))
    return found


def is_like_one_of(sentence: str, others: Sequence[str]) -> bool:
    close = process.extract_iter(sentence, others, scorer=fuzz.ratio, score_cutoff=ALIKE)
    return any(same_words(sentence, other) for other, _, _ in close)


def same_words(one: str, other: str) -> bool:
    first, second = set(one.split()), set(other.split())
    return covered(first - second, second - first) and covered(second - first, first - second)


def covered(words: set[str], by: set[str]) -> bool:
    """Whether each of the words that mean something is a spelling of one of the others."""
    return all(
        len(word) <= SMALL_WORD_LETTERS
        or any(fuzz.ratio(word, another) >= SAME_WORD for another in by)
        for word in words
    )
