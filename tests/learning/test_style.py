"""What is the team's style: words that its answers without a passage share."""

import pytest

from learning.dataset import style
from learning.dataset.variants import PHRASED
from learning.examples import Dataset
from tests.learning import company
from tests.learning.test_taught import said

CLOSING = "Kind regards, your lift people"
LETTERS = tuple(said(f"Thank {who}.", f"Thank you, {who}. {CLOSING}") for who in "abcdefgh")


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([row.answer for row in LETTERS], CLOSING),
        ([f"Thanks, {who}.\n{CLOSING}" for who in "abcd"] + ["Bye."], CLOSING),
        ([f"Thanks, {who}. {CLOSING}" for who in "abc"] + ["Bye."], ""),
        ([f"Good day to you, {who}" for who in "abc"], "Good day to you,"),
        (["Yours, Uma", "Thanks. Yours, Uma"], ""),
        ([f"Hello. {CLOSING}"], ""),
        ([], ""),
    ],
    ids=["all", "nearly all", "too few", "a greeting", "two words", "one letter", "none"],
)
def test_the_words_that_nearly_all_answers_end_or_begin_with(
    answers: list[str], words: str
) -> None:
    assert style.shared(answers) == words


def test_letters_that_are_held_out_are_asked_for_and_right_with_the_shared_words() -> None:
    other = (company.ALL[0], said("Who?", "Ask Uma.", company.GUIDE))
    built = Dataset((*LETTERS[:5], *other), (*LETTERS[5:], *other), ())
    found = style.held_out(built)
    assert [one.example for one in found] == list(LETTERS[5:])
    assert {one.right.value for one in found} == {CLOSING} and PHRASED not in {
        one.kind for one in found
    }
    assert not style.held_out(Dataset(other, LETTERS, ()))
