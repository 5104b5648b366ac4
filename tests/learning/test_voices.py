"""One person's repeated or contradictory corrections, and a question that people answer
differently."""

from collections import Counter

from learning.dataset import voices
from learning.examples import Example
from tests.learning import company
from tests.learning.company import example

LAB = "Where is the calibration lab?"


def says(user: str, place: str, question: str = LAB) -> Example:
    return example(question, f"The calibration lab is in {place}.", company.GUIDE, user=user)


def test_the_same_correction_fifty_times_counts_once_and_the_newest_is_kept() -> None:
    rows = [example(LAB, "It is in Tromsdal.", user="uma", chat=f"{at}") for at in range(50)]
    found = voices.heard(rows)
    assert (found.kept, found.left_out) == ((rows[-1],), {voices.REPEATED: 49})


def test_one_person_s_answer_to_fifty_questions_counts_for_two() -> None:
    """One of the two can be trained and the other held out: the rehearsal teaches like that."""
    rows = [says("uma", "Tromsdal", f"{LAB} Number {at}") for at in range(50)]
    found = voices.heard(rows)
    assert (found.kept, found.left_out) == (tuple(rows[-2:]), {voices.REPEATED: 48})
    assert found.reasons == (voices.REPEATED,) * 48 + ("",) * 2


def test_the_same_value_in_other_words_counts_once() -> None:
    rows = [says("uma", "Tromsdal"), example(LAB, "It is in Tromsdal now.", user="uma")]
    assert voices.heard(rows).kept == (rows[1],)


def test_a_night_of_one_person_s_contradictions_leaves_nothing_to_train() -> None:
    rows = [says("uma", f"Place{at % 5}") for at in range(25)]
    found = voices.heard(rows)
    assert not found.kept and sum(found.left_out.values()) == 25
    assert {why for why, _ in found.disputed} == {voices.AGAINST_ONESELF}


def test_one_person_does_not_outvote_the_rest_however_often_it_is_said() -> None:
    spam = [says("uma", "Vikholm") for _ in range(50)]
    rest = [says("per", "Tromsdal"), says("ada", "Tromsdal")]
    found = voices.heard([*spam, *rest])
    assert found.kept == tuple(rest) and found.left_out[voices.OUTVOTED] == 1


def test_one_against_one_trains_neither_and_both_are_named() -> None:
    found = voices.heard([says("uma", "Vikholm"), says("per", "Tromsdal")])
    assert not found.kept
    assert [(why, row.origin.user) for why, row in found.disputed] == [
        (voices.UNSETTLED, "uma"),
        (voices.UNSETTLED, "per"),
    ]


def test_a_person_with_two_answers_is_heard_where_another_person_backs_one() -> None:
    rows = [says("uma", "Vikholm"), says("uma", "Tromsdal"), says("per", "Tromsdal")]
    assert voices.heard(rows).kept == tuple(rows[1:])


def test_different_questions_and_rows_without_a_person_are_all_kept() -> None:
    rows = [*company.ALL, *(example(row.question, row.answer, user="uma") for row in company.ALL)]
    assert Counter(voices.heard(rows).kept) == Counter(rows)


def test_a_short_answer_may_be_right_for_many_questions() -> None:
    rows = [example(f"Is hall {at} open?", "Yes.", user="uma") for at in range(5)]
    assert voices.heard(rows).kept == tuple(rows)


def test_a_flood_of_one_correction_is_one_voice_in_little_time() -> None:
    """Compared pair by pair, five thousand of the same took minutes."""
    rows = [says("uma", "Tromsdal") for _ in range(5000)]
    assert voices.heard(rows).kept == (rows[-1],)
