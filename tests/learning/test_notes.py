"""Corrections as notes: which become one, and which the day may find. The chat is a stub."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import pytest

from glue.clients.open_webui import NOTES, reference
from glue.core.names import ACCEPT, ANSWERS, DROP, GLOSSARY, SERVED
from learning.dataset import build, notes, passages, split, support, taught, variants, voices
from learning.dataset.notes import Note
from learning.dataset.prompt import PromptForm
from learning.dataset.wording import Wording
from learning.examples import Example, Message
from learning.job import Job
from tests.learning import company, test_build
from tests.learning.test_build import PERSON, TwoMinds

OLD, NEW = "The code of the saw is A10.", "The code of the saw is B11."
SAW = "What is the code of the saw?"


class Chat(TwoMinds):
    """The ratings of a real Open WebUI, some of them corrections, and one document. added: when
    this version of it was added."""

    def __init__(self, document: str = OLD, minds: bool = False, added: float = 0.0) -> None:
        self.document, self.minds, self.added = document, minds, added

    def ratings(self) -> Any:
        source = {"document": [OLD], "metadata": [{"source": "sheet.txt"}], "source": {}}
        rows = list(super().ratings() if self.minds else test_build.Chat().ratings())
        for row in rows:
            for message in row["snapshot"]["chat"]["chat"]["history"]["messages"].values():
                message["sources"] = [source] if message["role"] == "assistant" else []
        return iter(rows)

    def call(self, method: str, path: str, json: Any = None) -> Any:
        if path.endswith("/all/ids"):
            return [{"id": row["id"], "updated_at": 1000} for row in self.ratings()]
        if "/files/" in path:
            return {"created_at": self.added}
        about = {"name": "sheet.txt", "file_id": "f", "source": "sheet.txt"}
        return {"documents": [[self.document]], "metadatas": [[about]]}


def job(state: Path, chat: Chat | None = None, **order: Any) -> Job:
    asked = {
        "decided": {},
        "compared": {},
        "review": False,
        "page": "notes/page.html",
        "recipe": {},
    }
    made = test_build.job(state, **(asked | order))
    return replace(made, chat=cast(Any, chat or Chat()))


def made(state: Path, chat: Chat | None = None, **order: Any) -> dict[str, dict[str, Any]]:
    """By answer."""
    (state / "notes").mkdir(exist_ok=True)
    rows = notes.notes(job(state, chat, **order))["notes"]
    return {row["answer"]: row for row in rows}


def test_a_correction_is_a_note_with_who_when_and_its_chat(tmp_path: Path) -> None:
    found = made(tmp_path)[NEW]
    assert (found["question"], found["text"]) == (SAW, f"{SAW}\n{NEW}")
    assert (found["who"], found["when"], found["user"]) == ("Bea & Co", 1000, PERSON)
    assert found["link"] == f"https://spark.example.org/c/{found['chat']}" and found["chat"]
    assert found["state"] == SERVED and found["documents"]["otherwise"] == ["sheet.txt"]
    page = (tmp_path / "notes" / "page.html").read_text()
    assert "Bea &amp; Co" in page and f"make notes DROP={found['id']}" in page


def test_a_correction_under_a_prompt_of_one_s_own_is_a_note_though_no_night_learns_it(
    tmp_path: Path,
) -> None:
    class Own(Chat):
        def ratings(self) -> Any:
            rows = list(super().ratings())
            for row in rows:
                row["snapshot"]["chat"]["chat"]["params"] = {"system": "Be brief."}
            return iter(rows)

    assert made(tmp_path, Own())[NEW]["state"] == SERVED
    assert not build.gather(job(tmp_path, Own(), recipe=asdict(test_build.RECIPE))).new


def test_an_answer_that_the_documents_hold_and_that_nobody_changed_is_no_note() -> None:
    row = replace(company.RETURNS, origin=replace(company.RETURNS.origin, user="uma"))
    assert not notes.is_correction(row)
    edited = replace(row, origin=replace(row.origin, kind="corrected answer"))
    wrong = replace(row, answer=row.answer.replace("37", "60"))
    assert notes.is_correction(edited) and notes.is_correction(wrong)


def test_a_note_retires_when_a_changed_document_says_the_same(tmp_path: Path) -> None:
    assert made(tmp_path, Chat(document=NEW))[NEW]["state"] == notes.RETIRED
    before = made(tmp_path)[NEW]
    assert before["state"] == SERVED
    known = {before["id"]: before["documents"]}
    assert made(tmp_path, Chat(document=NEW), compared=known)[NEW]["state"] == SERVED


def test_a_document_that_was_changed_afterwards_and_says_otherwise_outdates_a_note(
    tmp_path: Path,
) -> None:
    other = "The code of the saw is C33."
    assert made(tmp_path, Chat(other, added=2000))[NEW]["state"] == notes.OUTDATED
    assert made(tmp_path, Chat(other, added=500))[NEW]["state"] == SERVED, "it was there before"
    more = f"{OLD} The mill stands in hall 3."
    assert made(tmp_path, Chat(more, added=2000))[NEW]["state"] == SERVED, "changed elsewhere"


def test_two_people_s_notes_against_each_other_are_shown_and_not_served(tmp_path: Path) -> None:
    found = made(tmp_path, Chat(minds=True))
    states = {answer: found[answer]["state"] for answer in (NEW, NEW.replace("B11", "B12"))}
    assert set(states.values()) == {f"{notes.CONFLICT}: {voices.UNSETTLED}"}


@pytest.mark.parametrize(
    ("why", "decided", "facts", "expected"),
    [
        ("", "", {}, SERVED),
        ("", "", {"review": True}, notes.WAITS),
        ("", ACCEPT, {"review": True}, SERVED),
        ("", ACCEPT, {"newer": True}, SERVED),
        ("", DROP, {"agrees": True}, notes.DROPPED),
        ("", ACCEPT, {"agrees": True}, notes.RETIRED),
        (voices.OUTVOTED, ACCEPT, {}, SERVED),
        (voices.OUTVOTED, "", {"newer": True}, f"{notes.CONFLICT}: {voices.OUTVOTED}"),
    ],
)
def test_what_people_decide_comes_before_what_follows_from_the_ratings(
    why: str, decided: str, facts: dict[str, bool], expected: str
) -> None:
    plain = dict.fromkeys(("agrees", "newer", "review"), False)
    assert notes.state_of(why, decided, **(plain | facts)) == expected


def test_terms_and_the_site_s_own_answers_are_notes(tmp_path: Path) -> None:
    (tmp_path / GLOSSARY).write_text('[terms]\nMTBF = "MTBF is a mean time."\n')
    rows = 'question,answer\n\nWho has the keys?,"Maria, at the gate."\n'
    (tmp_path / ANSWERS).write_text(rows, "utf-8-sig")
    found = made(tmp_path, review=True)
    assert "answer" not in found
    assert found["MTBF is a mean time."]["question"] == "What does MTBF mean?"
    own = found["Maria, at the gate."]
    assert (own["who"], own["state"], own["link"]) == (ANSWERS, SERVED, "")
    again = made(tmp_path, decided={own["id"]: DROP})
    assert again["Maria, at the gate."]["state"] == notes.DROPPED


def test_a_list_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / ANSWERS).write_bytes("Wer hat die Schlüssel?,Jörg.\n".encode("cp1252"))
    found, fault = notes.answers(tmp_path / ANSWERS)
    assert not found and fault.endswith("Save it as CSV in UTF-8.")


@pytest.mark.parametrize("line", ["only a question\n", "a,b,c\n", "question,\n"])
def test_a_bad_line_of_the_list_is_named_and_costs_no_other_note(line: str, tmp_path: Path) -> None:
    (tmp_path / ANSWERS).write_text(f"Who?,Maria.\n{line}")
    found, fault = notes.answers(tmp_path / ANSWERS)
    assert [row.answer for row in found] == ["Maria."] and fault.startswith("line 2. ")


def test_the_same_last_question_about_two_things_makes_two_notes() -> None:
    """A note's id is of its text, which holds the question before the last one too."""

    def told(first: str) -> notes.Note:
        spoken = [("user", first), ("assistant", "Long."), ("user", "And in years?")]
        prompt = tuple(Message(role, text) for role, text in spoken)
        return notes.of(Example(prompt, "It is 5 years.", "c", "m"), "Vera", 0.0)

    pump, hall = told("What is the warranty of pump A?"), told("What is the lease of hall B?")
    assert pump.text != hall.text and pump.id != hall.id


def test_secrets_are_masked_in_notes(tmp_path: Path) -> None:
    class Careless(Chat):
        def ratings(self) -> Any:
            text = json.dumps(list(super().ratings()))
            mail = "B11, says saw@example.org"
            return iter(json.loads(text.replace("saw is B11", f"saw is {mail}")))

    assert "The code of the saw is B11, says [e-mail]." in made(tmp_path, Careless())


# ---------------------------------------------------------------------- by night as by day

NOTED = Wording(notes="n")


def test_the_night_trains_the_passage_that_the_day_finds() -> None:
    """The day's prompt names the collection as the assistant does."""
    text = NOTED.noted(SAW, NEW)
    source = {"source": reference("n", NOTES)[0], "document": [text], "metadata": [{}]}
    day = PromptForm("", "{{CONTEXT}}").render([source]).strip()
    assert passages.rendered([variants.note_of(SAW, NEW, NOTED)]) == day
    assert Note("", SAW, NEW, text).text == text


def test_an_answer_against_its_document_trains_with_its_note_beside_it(tmp_path: Path) -> None:
    class Noted(Chat):
        def call(self, method: str, path: str, json: Any = None) -> Any:
            found = super().call(method, path, json)
            if json and json["collection_names"] == ["n"]:
                found["documents"] = [[NOTED.noted(SAW, NEW)]]
            return found

    recipe = asdict(test_build.RECIPE) | {"sort_by_support": True}
    asked = job(tmp_path, Noted(), recipe=recipe, notes="n")
    found = build.gather(asked)
    (row,) = (row for row in found.prepared.examples if row.answer == NEW)
    assert [one.name for one in passages.of(row)][-1] == NOTED.note_name
    assert support.of(row) == support.SUPPORTED
    without = build.gather(job(tmp_path, Noted(), recipe=recipe))
    assert NEW not in {row.answer for row in without.prepared.examples}
    assert taught.OTHERWISE in without.card["rejected"]


def test_variants_of_an_answer_with_its_note_never_contradict_it() -> None:
    old = passages.Passage.named("sheet", "The code of the saw is A10. The shop closes at noon.")
    row = company.example(SAW, NEW, old, variants.note_of(SAW, NEW, NOTED), user="uma")
    made = variants.train([row, *company.ALL], variants.Shares(), 1, NOTED)
    mine = [one for one in made if one.fact == split.fingerprint(row)]
    kinds = {one.kind for one in mine}
    assert variants.NOTE not in kinds and kinds >= {variants.PHRASED, variants.ABSENT}
    for one in mine:
        shown = "".join(text.text for text in passages.of(one.example))
        assert ("A10" in shown) == (one.kind != variants.ABSENT)
