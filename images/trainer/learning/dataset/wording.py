"""The words that the made examples use: other ways to ask, "the documents do not say", and how a
note looks. By language; a site may put its own in their place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from glue.core.names import NOTE
from learning.dataset import facts, questions
from learning.evaluation import answer_faults

# {q} is the question as it was asked, {k} its words that mean something
TEMPLATES = {
    "English": (
        "Could you tell me: {q}",
        "A colleague asks: {q}",
        "{k}?",
        "Please look this up for me. {q}",
        "Short answer, please: {q}",
        "I need this for a customer. {q}",
        "What do our documents say here: {q}",
        "I am new here. {q}",
        "Quick question about {k}",
    ),
    "German": (
        "Kannst du mir sagen: {q}",
        "Eine Kollegin fragt: {q}",
        "{k}?",
        "Schau das bitte für mich nach. {q}",
        "Bitte kurz antworten: {q}",
        "Das brauche ich für einen Kunden. {q}",
        "Was steht dazu in den Unterlagen: {q}",
        "Ich bin neu hier. {q}",
        "Kurze Frage zu {k}",
    ),
    "French": (
        "Peux-tu me dire : {q}",
        "Une collègue demande : {q}",
        "{k} ?",
        "Regarde pour moi, s'il te plaît. {q}",
        "Réponse courte, s'il te plaît : {q}",
        "C'est pour un client. {q}",
        "Que disent nos documents : {q}",
        "Je suis nouveau ici. {q}",
        "Question rapide sur {k}",
    ),
    "Spanish": (
        "¿Me puedes decir? {q}",
        "Una compañera pregunta: {q}",
        "¿{k}?",
        "Búscalo por mí, por favor. {q}",
        "Respuesta corta, por favor: {q}",
        "Es para un cliente. {q}",
        "Qué dicen nuestros documentos: {q}",
        "Soy nuevo aquí. {q}",
        "Pregunta rápida sobre {k}",
    ),
    "Italian": (
        "Mi puoi dire: {q}",
        "Una collega chiede: {q}",
        "{k}?",
        "Cercalo per me, per favore. {q}",
        "Risposta breve, per favore: {q}",
        "Serve per un cliente. {q}",
        "Che cosa dicono i nostri documenti: {q}",
        "Sono nuovo qui. {q}",
        "Domanda veloce su {k}",
    ),
}
ABSENT = {
    "English": "The documents do not say that.",
    "German": "Das steht nicht in den Unterlagen.",
    "French": "Les documents ne le disent pas.",
    "Spanish": "Los documentos no lo dicen.",
    "Italian": "I documenti non lo dicono.",
}
SOURCES = re.compile(
    r"\b(?:document|passage|source|text|context|information|unterlag|dokument|quelle|angabe"
    r"|documento|passaggi|fuente|fonti|informazion|información)",
    re.I,
)


@dataclass(frozen=True)
class Wording:
    """absent and templates by language, named as in answer_faults. note: as the day's notes look,
    of what a person asked and answered. notes: the ID of their collection, as the day's prompt has
    it; empty if there is none."""

    absent: Mapping[str, str] = field(default_factory=lambda: ABSENT)
    templates: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: TEMPLATES)
    note_name: str = NOTE
    note: str = "{question}\n{answer}"
    notes: str = ""

    def noted(self, question: str, answer: str) -> str:
        return self.note.replace("{question}", question).replace("{answer}", answer)

    def absent_in(self, language: str) -> str:
        return self.absent.get(language) or self.absent["English"]

    def templates_in(self, language: str) -> tuple[str, ...]:
        return self.templates.get(language) or self.templates["English"]

    def says_absent(self, answer: str) -> bool:
        """One of the sentences, or a denial about sources in the answer's first sentence."""
        if any(
            questions.flat(said).rstrip(".") in questions.flat(answer)
            for said in self.absent.values()
        ):
            return True
        first = next(iter(facts.sentences(answer)), "")
        return "not" in questions.negations(first) and bool(SOURCES.search(first))


def language(question: str, *others: str) -> str:
    """The question's; where it is too short to tell, that of what stands beside it."""
    texts = (question, " ".join((question, *others[:1])), *others)
    found = (answer_faults.language(text) for text in texts)
    return next((one for one in found if one in TEMPLATES), "English")


def asked(template: str, question: str) -> str:
    return template.replace("{q}", question).replace("{k}", keywords(question))


def keywords(question: str) -> str:
    said = facts.told(question)
    words = (word.strip(" .,;:?!¿¡\"'") for word in question.split())
    kept = [word for word in words if set(questions.WORD.findall(word.casefold())) & said]
    return " ".join(kept) or question.rstrip("?!. ")
