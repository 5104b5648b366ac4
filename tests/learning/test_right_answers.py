import pytest

from learning.evaluation import figures, right_answers
from learning.evaluation.measurements import Evidence, GoldenAnswer, Reply, Sample


def sample(question: str, wanted: str, before: str, after: str, taught: bool = True) -> Sample:
    return Sample(question, wanted, Reply(after), Reply(before), taught)


def golden(before: tuple[str, ...], after: tuple[str, ...]) -> GoldenAnswer:
    answers = {"candidate": "after", "current": "before", "base": "base"}
    wrong = {"candidate": after, "current": before, "base": ()}
    return GoldenAnswer("Who pays?", answers, wrong)


@pytest.mark.parametrize(
    ("question", "wanted", "answer", "right"),
    [
        ("Which code does the saw have?", "It is B23.", "The code is b23", True),
        ("Which code does the saw have?", "It is B23.", "It is H53.", False),
        ("Which code does the saw have?", "It is B23.", "", False),
        ("Which code does the saw have?", "It is B23.", "It is B234.", False),
        ("When does gate 4 open?", "Gate 4 opens at 07:30.", "At 07:30.", True),
        ("When does gate 4 open?", "Gate 4 opens at 07:30.", "Gate 4 opens at 7.", False),
        ("How far, and how long?", "2.5 km in 40 minutes", "40 minutes", False),
        ("Which dock?", "Dock K-4", "Dock K-4, as ever.", True),
        ("Who pays?", "The office pays.", "The office.", None),
        ("Is 4 right?", "Yes, 4 is.", "No.", None),
    ],
)
def test_an_answer_is_right_if_it_has_each_number_and_code_that_the_question_has_not(
    question: str, wanted: str, answer: str, right: bool | None
) -> None:
    row = right_answers.of_sample(sample(question, wanted, answer, answer))
    assert (row.right, row.right_before) == (right, right)
    assert bool(row.wrong) == (right is False)


def test_wrong_ones_come_first_and_unknown_ones_last() -> None:
    samples = (
        sample("Who pays?", "The office.", "", ""),
        sample("Right?", "B1", "A1", "B1"),
        sample("Wrong?", "B2", "B2", "A2"),
        sample("Known before?", "B3", "B3", "A3", taught=False),
    )
    rows = right_answers.table(samples, [golden(("no",), ())])
    assert [row.right for row in rows] == [False, True, True, None]
    assert rows[0].question == "Wrong?" and rows[0].wrong == ("it does not say b2",)


def test_the_gate_counts_them_and_says_nothing_where_none_is_known() -> None:
    samples = (sample("Code?", "B1", "A1", "B1"), sample("Who pays?", "The office.", "", ""))
    found = figures.of(Evidence(samples=samples, golden=(golden((), ("no",)),)))
    assert (found["asked"], found["right"], found["right_before"]) == (2, 1, 1)
    assert "asked" not in figures.of(Evidence(samples=samples[1:]))
