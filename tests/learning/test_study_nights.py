"""What the product makes of the nights that the learning study plays, before anything trains."""

from random import Random

import pytest

from learning.dataset import support
from learning.dataset.variants import NOTE, PHRASED
from learning.evaluation import answers
from tests.training.in_image.learning_study import company, dataset, kinds

HOUSE = company.load(company.REPORTED)


def night(name: str) -> dataset.Built:
    kind = kinds.KINDS[name]
    said = kind.says(HOUSE, Random(1))[0]
    return dataset.built(said, dataset.TEAM | dict(kind.recipe), ())


@pytest.mark.parametrize("name", ["contradicting each other", "poisoned", "one person's spam"])
def test_no_night_begins_on_what_people_shout_dispute_or_make_up(name: str) -> None:
    found = night(name)
    assert "a night wants 20" in found.refused and found.lessons.new <= 2


def test_one_person_against_the_rest_is_not_heard() -> None:
    found = night("one person against the rest")
    wrong = {company.answer_of(fact, "swap") for fact in HOUSE.facts}
    assert not found.refused and len(found.lessons.prepared.examples) == len(HOUSE.facts)
    assert not wrong & {row.answer for row in found.lessons.prepared.examples}


@pytest.mark.parametrize("name", [company.CHOSEN_ON, company.REPORTED])
def test_of_each_company_nearly_every_correction_is_supported_and_no_changed_one(name: str) -> None:
    house = company.load(name)
    pairs = [
        (fact, words, support.by_texts(words, company.answer_of(fact), [document.text]), changed)
        for fact in house.facts
        for words in kinds.wordings(fact)
        for changed in (False, True)
        for document in [house.document(fact, changed)]
    ]
    right = [found for _, _, found, changed in pairs if not changed]
    assert right.count(support.SUPPORTED) >= 0.94 * len(right)
    assert support.SUPPORTED not in [found for _, _, found, changed in pairs if changed]


def test_a_correction_beside_its_note_is_asked_over_the_old_document() -> None:
    found = night("notes against documents")
    asked = {one.kind for one in found.lessons.asked}
    assert not found.refused and PHRASED in asked and NOTE not in asked


def test_in_seven_nights_every_fact_comes_in_once_and_each_night_has_something_new() -> None:
    nights = kinds.KINDS["seven nights in a row"].says(HOUSE, Random(1))
    facts = [fact["id"] for said in nights for fact in kinds.facts_of(HOUSE, said)]
    assert len(nights) == 7 and sorted(facts) == sorted(fact["id"] for fact in HOUSE.facts)


@pytest.mark.parametrize("name", ["style", "jargon", "supported corrections"])
def test_every_night_trains_reading_beside_what_it_learns_some_of_it_without_the_answer(
    name: str,
) -> None:
    found = night(name)
    beside = [one for one in found.lessons.dataset.replay if one.source.startswith("unrelated")]
    assert not found.refused and len(beside) == dataset.TEAM["unrelated_rows"]
    absent = sum(one.answer in company.WORDS.absent.values() for one in beside)
    assert 0.05 * len(beside) < absent < 0.12 * len(beside)


def test_a_night_of_letters_is_asked_for_its_closing_words() -> None:
    asked = night("style").lessons.asked
    assert {(one.kind, one.right.value) for one in asked} == {
        ("style", company.house_words()["closing"])
    }
    assert len(asked) >= answers.FEWEST_STYLE
