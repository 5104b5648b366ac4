"""Reading about other things, to be trained beside what the team taught."""

from collections import Counter

from learning.dataset import facts, passages, unrelated
from learning.dataset.wording import ABSENT, Wording
from learning.evaluation import reading
from learning.examples import Example
from tests.learning import company

ROWS = unrelated.examples(company.FORM, 400, 1)
SAID = set(ABSENT.values())


def texts(row: Example) -> str:
    return "\n".join(one.text for one in passages.of(row))


def test_some_passages_hold_the_answer_some_do_not_and_some_are_older_than_a_note() -> None:
    note = Wording().note_name
    kinds = Counter(
        "absent"
        if row.answer in SAID
        else "note"
        if any(one.name == note for one in passages.of(row))
        else "held"
        for row in ROWS
    )
    shares = {name: count / len(ROWS) for name, count in kinds.items()}
    assert all(
        abs(shares[name] - share) < 0.05
        for name, share in zip(("held", "absent", "note"), unrelated.SHARES, strict=True)
    ), shares


def test_what_an_answer_tells_stands_in_its_passages() -> None:
    for row in ROWS:
        if row.answer not in SAID:
            told = [value for _, value in facts.values(row.answer)]
            assert all(facts.says(f"{row.question}\n{texts(row)}", value) for value in told), row


def test_the_same_seed_makes_the_same_and_another_does_not() -> None:
    assert unrelated.examples(company.FORM, 40, 1) == ROWS[:40]
    assert unrelated.examples(company.FORM, 40, 2) != ROWS[:40]


def test_nothing_of_it_is_in_what_judges_reading() -> None:
    practised = {ask[0].casefold() for row in unrelated.table() for ask in row["ask"]}
    judged = {one.prompt[-1].content.casefold() for one in reading.asked(company.FORM)}
    assert not practised & judged
