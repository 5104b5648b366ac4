"""What is plainly wrong with an answer, whatever the question was. Pure rules, no model."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from learning.evaluation.measurements import Reply, Sample

LONGEST_CIRCLE, FEWEST_ROUNDS = 120, 4
LOOP_CHARACTERS, LOOP_WINDOW = (
    24,
    2000,
)  # the shortest loop, and how much of an answer's end is looked at
RUN_WORDS = 4
FEWEST_WORDS = 24  # a list of a few short items repeats words too
REFUSAL = re.compile(
    r"\bI(?: am|'m| was)? (?:sorry|unable to|not able to)\b|\bI (?:cannot|can't|can not|won't)"
    r" (?:help|assist|answer|provide|do)"
    r"|\bas an AI\b|\bes tut mir leid\b|\bich kann (?:dir |ihnen |das |dabei |diese frage"
    r" )*(?:leider )?nicht\b"
    r"|\bje ne (?:peux|suis) pas (?:en mesure|vous|répondre)|\bdésolée?\b|\blo siento\b|\bno puedo"
    r" (?:ayudar|responder)"
    r"|\bmi dispiace\b|\bnon posso (?:aiutar|risponder)",
    re.IGNORECASE,
)
# a script tells most languages apart; among those in Latin letters, the commonest small words do
SMALL_WORDS = {
    "English": "a the of and is are to in that it for with on this was do",
    "German": "der die das und ist nicht ein eine mit für auf den von im zu",
    "French": "le la les des et est une un dans pour que qui sur pas du",
    "Spanish": "el la los las y es una un en para que por con del no",
    "Italian": "il lo gli e è una un di che per con non del della sono",
    "Dutch": "de het een en is van voor niet met op dat zijn te",
    "Portuguese": "o a os as e é uma um para que com não do da em",
}
CLEAR_SHARE, CLEAR_WORDS = 0.15, 6
EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA")  # Japanese is written in three


def faults(reply: Reply, question: str, wanted: str) -> frozenset[str]:
    """wanted: the reference answer; what it does itself is no fault."""
    if not re.search(r"\w", reply.text) and not reply.call:
        return frozenset({"empty"})
    found = {
        "endless": reply.cut,
        "loops": loops(reply.text) and not loops(wanted),
        "refuses": bool(REFUSAL.search(reply.text)) and not REFUSAL.search(wanted),
        "wrong language": (
            other_language(reply.text, wanted) and other_language(reply.text, question)
        ),
    }
    return frozenset(name for name, there in found.items() if there)


def new_faults(samples: tuple[Sample, ...]) -> dict[str, list[str]]:
    """What the candidate does wrong where the current does not: fault -> the questions."""
    found: dict[str, list[str]] = {}
    for sample in samples:
        before = faults(sample.current, sample.question, sample.wanted)
        for fault in sorted(faults(sample.candidate, sample.question, sample.wanted) - before):
            found.setdefault(fault, []).append(sample.question)
    return found


def loops(text: str) -> bool:
    """The text ends in a circle, or half of it is one short run of words over and over."""
    end = text.strip()[-LOOP_WINDOW:]
    if any(circles(end, period) for period in range(1, LONGEST_CIRCLE + 1)):
        return True
    words = re.findall(r"\w+", text.lower())
    runs = Counter(zip(*(words[start:] for start in range(RUN_WORDS)), strict=False))
    return len(words) >= FEWEST_WORDS and max(runs.values()) * RUN_WORDS > len(words) / 2


def circles(end: str, period: int) -> bool:
    """The last characters are the same ones every `period`, four times or more; a last round may be
    cut short."""
    count = period
    while count < len(end) and end[-1 - count] == end[-1 - count + period]:
        count += 1
    return count >= max(FEWEST_ROUNDS * period, LOOP_CHARACTERS) and bool(
        re.search(r"\w", end[-period:])
    )


def other_language(text: str, than: str) -> bool:
    """Both are clearly in a language, and not in the same one."""
    one, other = language(text), language(than)
    return bool(one and other and one != other)


def language(text: str) -> str:
    """A language in Latin letters, else the name of the script; empty where it is not clear."""
    found = script(text)
    return found if found != "LATIN" else latin_language(text)


def script(text: str) -> str:
    """Of most letters, as Unicode names it; empty where it is not clear."""
    letters = [character for character in text if character.isalpha()]
    scripts = Counter(unicodedata.name(letter, "?").split()[0] for letter in letters)
    if not scripts:
        return ""
    name, count = scripts.most_common(1)[0]
    if name in EAST_ASIAN:
        name, count = "EAST ASIAN", sum(scripts[one] for one in EAST_ASIAN)
    return name if count >= len(letters) * 0.6 else ""


def latin_language(text: str) -> str:
    words = re.findall(r"[^\W\d_]+", text.lower())
    shares = {
        name: sum(word in small.split() for word in words) / max(len(words), 1)
        for name, small in SMALL_WORDS.items()
    }
    (best, share), (_, second) = sorted(shares.items(), key=lambda pair: -pair[1])[:2]
    return (
        best if len(words) >= CLEAR_WORDS and share >= CLEAR_SHARE and share > 1.5 * second else ""
    )
