"""What is made out of one supported correction, and that no night sees what it is judged by."""

from collections import Counter
from dataclasses import replace

import pytest

from learning.dataset import facts, passages, variants, wording
from learning.dataset.variants import ABSENT, CHANGED, NOTE, PHRASED, Shares, Variant
from learning.dataset.wording import Wording
from tests.learning import company

ENGLISH, GERMAN = "English", "German"
SHARES = Shares(per_example=20)
MADE = variants.train(company.ALL, SHARES, 1)
HELD = variants.held_out(company.ALL, SHARES, 1)
EACH = pytest.mark.parametrize("one", [*MADE, *HELD], ids=lambda one: one.kind)


def of_kind(kind: str) -> list[Variant]:
    return [one for one in (*MADE, *HELD) if one.kind == kind]


def shown(one: Variant) -> str:
    return "\n".join(passage.text for passage in passages.of(one.example))


def test_the_shares_are_the_recipe_s() -> None:
    count = Counter(one.kind for one in MADE)
    assert count == {PHRASED: 32, CHANGED: 20, ABSENT: 12, NOTE: 16}
    assert Counter(one.kind for one in HELD) == dict.fromkeys(variants.KINDS, len(company.ALL))


def test_a_kind_that_cannot_be_made_gives_its_share_to_the_others() -> None:
    """One example alone: no passage about something else."""
    alone = Counter(one.kind for one in variants.train([company.LAB], SHARES, 1))
    assert ABSENT not in alone and sum(alone.values()) == SHARES.per_example


def test_the_same_seed_makes_the_same_and_another_does_not() -> None:
    assert variants.train(company.ALL, SHARES, 1) == MADE != variants.train(company.ALL, SHARES, 2)


def test_an_example_that_its_passages_do_not_support_makes_nothing() -> None:
    wrong = replace(company.LAB, answer="The calibration lab was moved to Vikholm.")
    assert not variants.train([wrong], SHARES, 1)


def test_no_way_to_ask_is_both_trained_and_held_out() -> None:
    trained = {(one.fact, one.example.question) for one in MADE}
    assert not trained & {(one.fact, one.example.question) for one in HELD}
    ways = {one.example.question for one in MADE if one.fact == MADE[0].fact}
    assert company.RETURNS.question in ways and len(ways) > 4


def test_of_the_ways_that_a_model_wrote_one_is_held_out_and_the_others_train() -> None:
    written = [f"Where is the lab, said differently {at}?" for at in range(3)]
    ways = {company.LAB.question: written}
    trained, held = (
        {one.example.question for one in make(company.ALL, SHARES, 1, None, ways)} & set(written)
        for make in (variants.train, variants.held_out)
    )
    assert len(trained) == 2 and len(held) == 1 and not trained & held


@EACH
def test_a_prompt_supports_the_answer_that_is_trained_or_holds_none(one: Variant) -> None:
    asked = one.example.question
    if one.kind == ABSENT:
        assert not facts.says(shown(one), one.stale)
        assert one.example.answer == wording.ABSENT[GERMAN if "Bereitschaft" in asked else ENGLISH]
    else:
        assert facts.says(shown(one), one.right.value)
        assert facts.says(one.example.answer, one.right.value)
    assert not facts.says(one.example.answer, one.stale)


def test_absent_is_said_in_the_language_of_the_question() -> None:
    said = {one.example.answer for one in of_kind(ABSENT) if "Bereitschaft" in one.example.question}
    assert said == {"Das steht nicht in den Unterlagen."}


def test_a_changed_passage_holds_the_new_value_only() -> None:
    for one in of_kind(CHANGED):
        assert not facts.says(shown(one), one.stale)
        assert facts.is_code(one.right.value) == facts.is_code(one.stale)


def test_a_note_stands_beside_a_document_that_says_otherwise() -> None:
    for one in of_kind(NOTE):
        texts = passages.of(one.example)
        (note,) = [text for text in texts if text.name == Wording().note_name]
        assert facts.says(note.text, one.right.value) and not facts.says(note.text, one.stale)
        assert any(facts.says(text.text, one.stale) for text in texts if text != note)


def test_distractors_do_not_hold_the_fact() -> None:
    more = [one for one in of_kind(PHRASED) if len(passages.of(one.example)) > 1]
    assert more and len(more) < len(of_kind(PHRASED))
    for one in more:
        assert sum(facts.says_fact(text.text, one.right) for text in passages.of(one.example)) == 1


def test_values_change_into_values_of_the_same_form() -> None:
    changed = {one.right.value for one in of_kind(CHANGED) if one.stale == "Varo C9"}
    assert changed and all(value.startswith("Varo ") for value in changed)
    assert all(len(one.right.value) == 2 for one in of_kind(CHANGED) if one.stale in ("37", "25"))


@pytest.mark.parametrize(
    ("answer", "absent"),
    [
        ("The documents do not say that.", True),
        ("Das steht nicht in den Unterlagen.", True),
        ("The passages do not mention a lab. It may be in Tromsdal.", True),
        ("The lab is in Tromsdal.", False),
        ("Gauges cannot be returned.", False),
    ],
)
def test_an_answer_that_says_it_is_not_there_is_recognised(answer: str, absent: bool) -> None:
    assert Wording().says_absent(answer) == absent


def test_a_site_s_own_words_are_used() -> None:
    words = Wording(absent={"English": "No idea, ask Uwe."}, note_name="memo")
    made = variants.train(company.ALL[:3], SHARES, 1, words)
    said = {one.example.answer for one in made if one.kind == ABSENT}
    assert said == {"No idea, ask Uwe."} and words.says_absent("No idea, ask Uwe.")
    assert any("memo" in one.example.prompt[0].content for one in made)
