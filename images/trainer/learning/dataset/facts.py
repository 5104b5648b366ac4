"""What an answer says that its question does not: the fact in it, and whether a text says it. Pure.

A fact is a value (a number with its unit, a code, a name) where the answer has one, else the words
that mean something. One rule for sorting, for changing a passage, and for right and wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from learning.dataset import questions
from learning.evaluation import answer_faults

LEAST_SAID = 0.6  # of a fact's words, where it has no value
# 37, 4.17, 04:30, 2026-11, 1,500, K4, C9, deck D
NUMBER = r"(?:[a-zà-ÿ]{3,} [A-HJ-Z](?![\w'’])|[^\W\d_]{0,8}[-.]?\d[\w]*(?:[.,:/-]\d\w*)*)"
MODEL = r"(?:[A-Z]{1,4}-?\d\w*)"  # the C9 of Varo C9
NAME_WORD = r"(?:[A-ZÄÖÜÉÈÀÓÚÍÑØÅÆ][\w'’-]+)"
NAME = rf"{NAME_WORD}(?: (?:de |von |van |di |da )?{NAME_WORD})*(?: {MODEL})?"
VALUE = re.compile(rf"(?P<name>{NAME})|(?P<number>{NUMBER})")
CLAUSE_END = re.compile(r"(?<=[,;:])\s+|(?<=[.!?])\s+|\s+[-–]\s+")
SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")
SENTENCE_START = re.compile(r"(?:^|[.!?:\n])[\s\"'(*-]*$")
ASKS_WHO = re.compile(
    r"\b(?:who|whom|whose|wer|wem|wen|wessen|qui|quién|quien|quiénes|chi|wie heißt|by whom)\b", re.I
)
# German writes every noun with a capital: there one capital alone makes no name
GERMAN_WORDS = (
    "der das und ist nicht ein eine einen mit für auf dem den von im zum zur wird werden sind wie"
    " wer wo wann bei nach aus über heißt muss müssen kann können beim vom oder wir sie ihr kein"
    " keine unser unsere wurde wurden innerhalb durch nur noch sich"
)
GERMAN = frozenset(GERMAN_WORDS.split())
SHORT_WORDS = 10  # of a text that one German word tells
NAMED = re.compile(r"\b(?:heißt|heißen|namens|genannt|nennt sich|Herrn?|Frau)\s+$")
THOUSANDS = re.compile(r"(?<=\d)[,.'’\u00a0 ](?=\d{3}\b)")


@dataclass(frozen=True)
class Fact:
    """value: as the answer writes it; empty if the answer has none, and then words says what it
    says."""

    value: str = ""
    words: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.value or self.words)


def of(question: str, answer: str, proof: str) -> Fact:
    """The fact that the answer gives and the proof (its passages) holds; none if there is none.

    Of several, that of the first clause which takes up the question: people answer first and
    explain afterwards. "According to the handbook, ..." takes up nothing.
    """
    clauses = [clause for clause in CLAUSE_END.split(answer) if clause.strip()]
    about = [clause for clause in clauses if told(clause) & told(question)]
    found = [fact for clause in about if (fact := in_clause(question, answer, clause, proof))]
    found += [Fact(value) for c in clauses if (value := asked_value(question, answer, c, proof))]
    found += [fact for clause in clauses if (fact := in_clause(question, answer, clause, proof))]
    return next(iter(found), Fact())


def in_clause(question: str, answer: str, clause: str, proof: str) -> Fact:
    if value := asked_value(question, answer, clause, proof):
        return Fact(value)
    words = (told(clause) - told(question)) & told(proof)
    alone = next(iter(words)) if len(words) == 1 else ""
    if len(alone) >= questions.MEANING_LETTERS:
        return Fact(
            next(word for word in questions.WORD.findall(clause) if word.casefold() == alone)
        )
    return Fact(words=frozenset(words))


def asked_value(question: str, answer: str, clause: str, proof: str) -> str:
    """Of the clause's values the first of the kind that the question asks for."""
    kinds = ("name", "number") if ASKS_WHO.search(question) else ("number", "name")
    found = [one for one in new_values(question, answer, clause) if says(proof, one[1])]
    return next((value for kind in kinds for what, value in found if what == kind), "")


def new_values(question: str, answer: str, clause: str) -> list[tuple[str, str]]:
    """("number" or "name", value) of the clause, without what the question says already."""
    starts = bool(SENTENCE_START.search(answer[: answer.find(clause)]))
    german = is_german(f"{question} {answer}")
    return [one for one in values(clause, starts, german) if not says(question, one[1])]


def values(text: str, starts: bool = True, german: bool | None = None) -> list[tuple[str, str]]:
    """("number" or "name", value), in order. A capital at the start of a sentence makes no name.

    starts: whether the text begins a sentence. german: None to tell it by the text.
    """
    german = is_german(text) if german is None else german
    found = []
    for match in VALUE.finditer(text):
        before = text[: match.start()]
        begins = bool(SENTENCE_START.search(before)) and (match.start() > 0 or starts)
        kind, value = ("number" if match["number"] else "name"), match[0]
        if kind == "name" and begins:
            value = value.partition(" ")[2]
            kind = "name" if value[:1].isupper() else "number"
        if kind == "name" and german and not is_name(value, before):
            continue
        if questions.has_digit(value) or len(value) > 1:
            found.append((kind, value))
    return found


def is_name(value: str, before: str) -> bool:
    """In German: two capitals in a row, one inside the word, or what is said to be a name."""
    capitals = sum(letter.isupper() for letter in value)
    return capitals > 1 or bool(NAMED.search(before))


def is_german(text: str) -> bool:
    """Also of a text that is too short for answer_faults.language."""
    if found := answer_faults.language(text):
        return found == "German"
    words = questions.WORD.findall(text.casefold())
    known = sum(word in GERMAN for word in words)
    return known > 1 or (known == 1 and len(words) <= SHORT_WORDS)


def told(text: str) -> set[str]:
    """The words that are not merely the language's small words, whatever their length."""
    return set(questions.WORD.findall(text.casefold())) - SMALL


ASKING = (
    "what which who how when where long many much we you i it our your its at by as an be can must"
    " will has have do does their they"
)
SMALL = {word for words in answer_faults.SMALL_WORDS.values() for word in words.split()} | set(
    ASKING.split()
)
# 2 to 12 in words; "one" is an article in most languages, "sei" and "once" are other words too
NUMBERS = (
    "two three four five six seven eight nine ten eleven twelve zwei drei vier fünf sechs sieben"
    " acht neun zehn elf zwölf deux trois quatre cinq sept huit neuf dix onze douze dos tres cuatro"
    " cinco seis siete ocho nueve diez doce due tre quattro cinque sette otto nove dieci undici"
    " dodici"
)
NUMBER_WORDS = frozenset(NUMBERS.split())


def says(text: str, value: str) -> bool:
    """The value stands in the text as words of its own: 37 is not in 137, and 1,500 is 1500."""
    wanted = re.escape(flat(value))
    return bool(value) and bool(re.search(rf"(?<!\w)(?<!\d[.,]){wanted}(?!\w|[.,]\d)", flat(text)))


def flat(text: str) -> str:
    return THOUSANDS.sub("", questions.flat(text))


def says_fact(text: str, fact: Fact) -> bool:
    if fact.value:
        return says(text, fact.value)
    return bool(fact.words) and len(fact.words & told(text)) >= LEAST_SAID * len(fact.words)


def replaced(text: str, value: str, other: str) -> str:
    """Wherever the value stands as words of its own."""
    return re.sub(rf"(?<!\w){re.escape(value)}(?!\w|[.,]\d)", lambda _: other, text, flags=re.I)


def sentences(text: str) -> list[str]:
    return [sentence for sentence in SENTENCE_END.split(text) if sentence.strip()]


CLOCK = re.compile(r"([01]?\d|2[0-3]):[0-5]\d")


def is_code(value: str) -> bool:
    """A number, or a code such as K4 or deck D: it changes letter by letter, a name does not."""
    return questions.has_digit(value) or bool(re.search(r"\b[A-Z]$", value))
