"""Which answers a prompt's own passages support, and what the fact in an answer is."""

import tomllib
from collections import Counter
from dataclasses import replace

import pytest

from learning.dataset import facts, passages, support
from learning.dataset.facts import Fact
from learning.dataset.passages import Passage
from learning.dataset.support import CONTRADICTED, NO_PASSAGE, SUPPORTED
from tests.house import ROOT
from tests.learning import company
from tests.learning.company import example

STUDY = ROOT / "tests" / "training" / "in_image" / "learning_study" / "company.toml"
BIRDS = Passage.named("birds", "Herons nest in April. They eat fish, and stand in shallow water.")


@pytest.mark.parametrize(
    ("question", "answer", "source", "expected"),
    [
        (
            "How long may a gauge be returned?",
            "A gauge can be sent back within 37 days of delivery.",
            company.HANDBOOK,
            SUPPORTED,
        ),
        (
            "How long may customers send a gauge back?",
            "Customers can send a gauge back within 21 days of delivery.",
            company.HANDBOOK,
            CONTRADICTED,
        ),
        ("Where is the calibration lab?", "The lab is in Vikholm.", company.GUIDE, CONTRADICTED),
        (
            "Where is the calibration lab?",
            "The calibration lab was not moved to Tromsdal.",
            company.GUIDE,
            CONTRADICTED,
        ),
        ("Where is the calibration lab?", "The lab is in Tromsdal.", BIRDS, NO_PASSAGE),
        ("Where do herons stand?", "They stand in shallow water.", BIRDS, SUPPORTED),
        ("Where do herons stand?", "They stand in muddy water.", BIRDS, NO_PASSAGE),
        (
            "Wie schnell muss die Bereitschaft antworten?",
            "Die Bereitschaft muss innerhalb von 25 Minuten antworten.",
            company.REGELN,
            SUPPORTED,
        ),
        (
            "Wie schnell muss die Bereitschaft antworten?",
            "Die Bereitschaft muss innerhalb von 40 Minuten antworten.",
            company.REGELN,
            CONTRADICTED,
        ),
    ],
)
def test_an_answer_is_sorted_by_its_own_passages(
    question: str, answer: str, source: Passage, expected: str
) -> None:
    assert support.of(example(question, answer, source)) == expected


def test_an_answer_without_any_passage_is_not_supported() -> None:
    assert support.of(example("Where is the lab?", "The lab is in Tromsdal.")) == NO_PASSAGE


def test_an_answer_that_adds_a_number_or_a_name_is_not_supported() -> None:
    for more in ("It costs 90 euros.", "Marit Oyen runs it.", "It has three rooms."):
        row = example(company.LAB.question, f"{company.LAB.answer} {more}", company.GUIDE)
        assert support.of(row) != SUPPORTED, more


def test_answers_that_belong_to_other_questions_are_never_supported() -> None:
    turned = [
        replace(row, answer=other.answer)
        for row, other in zip(company.ALL, company.ALL[1:] + company.ALL[:1], strict=True)
    ]
    assert support.sort(turned).supported == ()


def test_of_the_study_s_questions_no_wrong_lesson_counts_as_supported() -> None:
    """Thirty facts, each asked in six ways, over the document as it is, changed, and over another
    one."""
    table = tomllib.loads(STUDY.read_text(encoding="utf-8"))
    found: Counter[tuple[str, str]] = Counter()
    for fact in table["fact"]:
        own, other = sorted(
            table["document"], key=lambda row: f"{{{fact['id']}}}" not in row["text"]
        )[:2]
        values, swaps = (
            {one["id"]: one[key] for one in table["fact"]} for key in ("value", "swap")
        )
        texts = {
            "right": own["text"].format(**values),
            "changed": own["text"].format(**swaps),
            "other": other["text"].format(**values),
        }
        answer = fact["answer"].format(value=fact["value"])
        for question in (fact["question"], *fact["ways"], *fact["unseen"]):
            for name, text in texts.items():
                found[name, support.by_texts(question, answer, [text])] += 1
    assert found["right", SUPPORTED] >= 165
    assert not found["changed", SUPPORTED] and not found["other", SUPPORTED]
    assert found["changed", CONTRADICTED] >= 120 and found["other", CONTRADICTED] <= 2


def test_sorting_loses_no_example() -> None:
    alone = example("Where is the lab?", "In Tromsdal.")
    found = support.sort([*company.ALL, alone])
    assert found.supported == company.ALL and found.no_passage == (alone,)


@pytest.mark.parametrize(
    ("question", "answer", "value"),
    [
        ("Who set it up?", "In 1987 Agnes Tolland set it up.", "Agnes Tolland"),
        ("When was it set up?", "Agnes Tolland set it up in 1987.", "1987"),
        ("Where is the lab?", "The lab is in Tromsdal, in building K4.", "Tromsdal"),
        ("Which firmware is right?", "The firmware is 4.17; 4.12 loses readings.", "4.17"),
        ("Where do visitors park?", "Visitors park on deck D.", "deck D"),
        ("What is the host called?", "The host is called heron.", "heron"),
        ("When does it close?", "It closes at 19:30.", "19:30"),
        ("Wie lange geht das?", "Das geht unseren Kunden 37 Tage lang.", "37"),
    ],
)
def test_the_fact_is_what_the_question_asks_for(question: str, answer: str, value: str) -> None:
    assert facts.of(question, answer, answer.replace("called ", "")) == Fact(value)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("Die Bereitschaft muss innerhalb von 25 Minuten antworten.", ["25"]),
        ("Den Schlüssel hat der Hausmeister im Keller.", []),
        ("Der Schlüssel ist bei Marit Oyen in der Werkstatt.", ["Marit Oyen"]),
        ("Der Rechner für die Messdaten heißt Reiher.", ["Reiher"]),
        ("Das weiß Frau Lindqvist.", ["Frau Lindqvist"]),
        ("Pakete bringt uns NordHaul nach dem Mittag.", ["NordHaul"]),
        ("The calibration lab was moved to Tromsdal.", ["Tromsdal"]),
        ("Le laboratoire est à Tromsdal.", ["Tromsdal"]),
    ],
)
def test_a_name_in_german_is_more_than_a_capital_letter(text: str, values: list[str]) -> None:
    assert [value for _, value in facts.values(text)] == values


def test_a_german_answer_in_other_nouns_is_supported_and_another_number_is_not() -> None:
    asked, said = company.DUTY.question, "Die Bereitschaft muss am Telefon in {} Minuten antworten."
    right, wrong = (example(asked, said.format(n), company.REGELN) for n in (25, 40))
    assert support.of(right) == SUPPORTED and support.of(wrong) == CONTRADICTED


def test_one_new_word_of_a_german_answer_is_its_value() -> None:
    answer = "Das Labor ist in Tromsdal."
    assert facts.of("Wo ist das Labor?", answer, answer) == Fact("Tromsdal")


def test_an_answer_in_plain_words_has_its_words_as_the_fact() -> None:
    fact = facts.of("What is a wet file?", "A wet file is a raw log.", "It is the raw log of it.")
    assert fact == Fact(words=frozenset({"raw", "log"}))
    assert facts.says_fact("That is the raw log.", fact)
    assert not facts.says_fact("That is a signed report.", fact)


@pytest.mark.parametrize(
    ("text", "value", "said"),
    [
        ("within 37 days", "37", True),
        ("within 137 days", "37", False),
        ("37.5 degrees", "37", False),
        ("version 4.17.", "4.17", True),
        ("version 14.17", "4.17", False),
        ("1,500 items", "1500", True),
        ("TROMSDAL!", "Tromsdal", True),
        ("anything", "", False),
    ],
)
def test_a_value_is_said_as_words_of_its_own(text: str, value: str, said: bool) -> None:
    assert facts.says(text, value) == said


def test_passages_are_read_out_of_a_prompt_and_put_back() -> None:
    row = example("Where?", "There.", company.GUIDE, company.HANDBOOK)
    assert [one.name for one in passages.of(row)] == ["guide", "handbook"]
    assert passages.put(row, passages.of(row)) == row
    turned = passages.put(row, [company.HANDBOOK])
    assert passages.of(turned) == (company.HANDBOOK,)
    assert turned.prompt[0].content.startswith("You are the team's assistant.\nPassages:")


def test_passages_cannot_be_put_where_there_are_none() -> None:
    with pytest.raises(ValueError, match="no passages"):
        passages.put(example("Where?", "There."), [company.GUIDE])
