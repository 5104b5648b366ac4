"""What a night is asked: kept with its data set, new facts first, and gone with whoever taught
it."""

from dataclasses import replace
from pathlib import Path

import pytest

from learning.dataset import asked, files, split, variants
from learning.evaluation import answers
from learning.examples import Example, Message
from tests.learning import company


def test_a_supported_example_is_asked_about_in_each_way_and_others_are_not() -> None:
    reciting = company.example("Where is the saw?", "The saw is in hall B17.", company.GUIDE)
    made = asked.held_out([*company.ALL, reciting], (), lambda row: True)
    assert {one.fact for one in made} == set(map(split.fingerprint, company.ALL))
    assert {one.kind for one in made} == set(variants.KINDS)
    assert not asked.held_out(company.ALL, (), lambda row: False), "too long for the recipe"


def test_new_facts_that_people_taught_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "MOST_FACTS", 3)
    told = [replace(row, origin=replace(row.origin, user="uma")) for row in company.ALL[:3]]
    rows = [*told, company.DUTY]
    known = {split.fingerprint(told[2])}
    assert asked.newest(rows, known) == [told[1], told[0], company.DUTY]


def test_what_is_asked_is_the_same_on_disk_and_forgotten_with_its_person(tmp_path: Path) -> None:
    assert files.read_asked(tmp_path) == (), "a data set of an earlier version"
    rows = [replace(row, origin=replace(row.origin, user="uma")) for row in company.ALL]
    made = asked.held_out(rows, (), lambda row: True)
    files.write_lines(tmp_path / "asked.jsonl", map(asked.as_row, made))
    assert files.read_asked(tmp_path) == made
    files.remove(tmp_path, lambda origin: origin.get("user") == "uma")
    assert files.read_asked(tmp_path) == ()


def test_general_examples_are_asked_where_their_answer_has_one_value() -> None:
    def row(question: str, answer: str) -> Example:
        return Example((Message("user", question),), answer, "", "")

    rows = [row("What is 15 percent of 240?", "15 percent of 240 is 36."), row("Hello?", "Hello!")]
    (one,) = answers.general(rows)
    assert one.right.value == "36" and one.prompt == rows[0].prompt
