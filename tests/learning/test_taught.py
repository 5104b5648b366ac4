"""What a night trains of what people taught: what its passages support, in several forms."""

from dataclasses import asdict, replace

from glue.core import recipes
from glue.core.settings import REPOSITORY
from learning.dataset import asked, passages, split, support, taught
from learning.examples import Dataset, Example
from tests.learning import company

RECIPE = asdict(recipes.load(REPOSITORY / "env" / "recipes", "team"))
OFF = asdict(recipes.load(REPOSITORY / "env" / "recipes", "rehearsal"))


def said(question: str, answer: str, *sources: passages.Passage) -> Example:
    return company.example(question, answer, *sources, user="uma")


SUPPORTED = tuple(replace(row, origin=replace(row.origin, user="uma")) for row in company.ALL)
STALE = said(
    "How long do customers have to send a gauge back?",
    "Customers can send a gauge back within 60 days of delivery.",
    company.HANDBOOK,
)
RECITED = said("Who keeps the keys?", "Ask Marek Solberg at the gate.")
STYLE = tuple(said(f"Thank {who} for it.", "with pleasure, and kind regards") for who in "abc")
TERM = company.example("What is MTBF?", "MTBF is the mean time between two failures.")
EVERYTHING = (*SUPPORTED, STALE, RECITED, *STYLE, TERM)


def test_only_what_passages_support_is_taught_and_the_rest_is_named_with_its_reason() -> None:
    found = taught.sort(EVERYTHING, RECIPE | {"most_without_passage": 2})
    assert (found.supported, found.plain) == (SUPPORTED, (*STYLE[1:], TERM))
    assert found.left_out == (
        (taught.OTHERWISE, STALE),
        (taught.UNPROVED, RECITED),
        (taught.TOO_MANY, STYLE[0]),
    )
    assert taught.to_decide(*found.left_out[0])[0] == "its passages say otherwise: handbook"
    none = taught.sort(EVERYTHING, RECIPE | {"most_without_passage": 0})
    assert none.plain == (TERM,)


PHONE = passages.Passage.named("Handbuch", "Die Hotline ist 14 Stunden am Tag besetzt.")


def test_what_passages_neither_hold_nor_deny_is_plain_unless_it_tells_a_value() -> None:
    asked = "Wo fragen wir nach?"
    vague = said(asked, "Die Zentrale ist montags bis freitags besetzt, also fragt dort.", PHONE)
    number = said(asked, "Die Zentrale ist montags 9 Stunden besetzt, also fragt dort.", PHONE)
    found = taught.sort([vague, number], RECIPE | {"most_without_passage": 0})
    assert not taught.unproved(vague) and taught.unproved(number)
    assert vague in found.plain and number not in found.kept


def test_the_answer_to_another_question_is_no_lesson_though_a_passage_holds_it() -> None:
    wrong = said("Where do visitors park?", company.LAB.answer, company.GUIDE)
    found = taught.sort([wrong], RECIPE)
    assert found.left_out == ((taught.UNPROVED, wrong),)


def test_a_recipe_that_does_not_sort_trains_everything_as_it_is() -> None:
    assert taught.sort(EVERYTHING, OFF) == taught.Taught((), EVERYTHING)
    assert not taught.trained(taught.sort(EVERYTHING, OFF), OFF)


def test_each_supported_example_trains_in_the_recipe_s_shares() -> None:
    rows = taught.trained(taught.sort(EVERYTHING, RECIPE), RECIPE)
    assert len(rows) == RECIPE["variants_each"] * len(SUPPORTED)
    plain = RECIPE | dict.fromkeys(("changed_share", "absent_share", "note_share"), 0.0)
    asked_only = taught.trained(taught.sort(EVERYTHING, plain), plain)
    assert {row.answer for row in asked_only} == {row.answer for row in SUPPORTED}


def test_held_out_are_ways_to_ask_that_no_night_trains_new_facts_before_known_ones() -> None:
    found = taught.sort(EVERYTHING, RECIPE)
    questions = asked.held_out(found.kept, (), lambda row: True)
    known = {split.fingerprint(SUPPORTED[0])}
    built = Dataset(taught.trained(found, RECIPE), (), ())
    judged = taught.judged(built, questions, found, known, 1)
    assert {row.answer for row in judged.held_out} == {row.answer for row in SUPPORTED[1:]}
    assert [row.answer for row in judged.earlier] == [SUPPORTED[0].answer]
    trained = {row.question for row in built.train}
    assert not trained & {row.question for row in (*judged.held_out, *judged.earlier)}
    assert all(support.of(row) == support.SUPPORTED for row in judged.held_out)
