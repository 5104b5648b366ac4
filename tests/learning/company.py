"""A small team's corrections, in the form in which the dataset has them."""

from __future__ import annotations

from learning.dataset.passages import Passage
from learning.dataset.prompt import PromptForm
from learning.examples import Example, Message, Origin

FORM = PromptForm("You are the team's assistant.", "Passages:\n{{CONTEXT}}")
HANDBOOK = Passage.named(
    "handbook",
    "Customers can send a gauge back within 37 days of delivery. The TideMaster 6 is powered by two"
    " Varo C9 batteries.",
)
GUIDE = Passage.named(
    "guide", "The calibration lab was moved to Tromsdal last year. Visitors stand on deck D."
)
REGELN = Passage.named(
    "Regeln", "Die Bereitschaft muss innerhalb von 25 Minuten antworten. Der Chor probt im Rathaus."
)


def example(
    question: str, answer: str, *sources: Passage, user: str = "", chat: str = ""
) -> Example:
    rows = [
        {"source": {"name": one.name}, "document": [one.text], "metadata": [{"source": one.name}]}
        for one in sources
    ]
    prompt = (Message("system", FORM.render(rows)), Message("user", question))
    return Example(prompt, answer, "rating", chat or question, Origin(user=user))


RETURNS = example(
    "How long do customers have to send a gauge back?",
    "Customers can send a gauge back within 37 days of delivery.",
    HANDBOOK,
)
BATTERY = example(
    "Which batteries does the TideMaster 6 take?",
    "The TideMaster 6 is powered by two Varo C9 batteries.",
    HANDBOOK,
)
LAB = example("Where is the calibration lab?", "The calibration lab was moved to Tromsdal.", GUIDE)
DUTY = example(
    "Wie schnell muss die Bereitschaft antworten?",
    "Die Bereitschaft muss innerhalb von 25 Minuten antworten.",
    REGELN,
)
ALL = (RETURNS, BATTERY, LAB, DUTY)
