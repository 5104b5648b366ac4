"""Learned is what the model was given, or nothing."""

from typing import Any

import pytest

from glue.core.errors import GlueError
from learning.dataset import as_seen, build, ratings
from learning.dataset.prompt import PromptForm
from learning.dataset.ratings import Known
from learning.examples import Message
from tests.learning.test_build import Model, job
from tests.learning.test_learning import FORM, SOURCES, rating

PNG = {"type": "image", "url": "data:image/png;base64,AA=="}
CALL = {"type": "function_call", "name": "search"}


def row(answer: Any = None, question: Any = None, chat: Any = None, **params: Any) -> Any:
    """A rating whose answer, question and chat have more to them than text."""
    found = rating(user_id="mia")
    whole = found["snapshot"]["chat"]
    messages = whole["chat"]["history"]["messages"]
    messages["copy"] |= answer or {}
    messages["q"] |= question or {}
    whole["chat"]["params"] = params
    whole |= chat or {}
    return found


def learned(found: Any, tokens: int | None = None) -> dict[str, int]:
    """Why it was left out; empty if it is learned. tokens: of the rebuilt prompt."""
    collected = ratings.collect([found], FORM, Known(count=lambda prompt: tokens))
    assert len(collected.examples) + len(collected.rejected) == 1
    return collected.rejected


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (row(system="Begin with Ahoi."), as_seen.OWN_SYSTEM),
        (row(question={"files": [PNG]}), as_seen.PICTURE),
        (row(question={"files": [{"type": "file", "content_type": "image/png"}]}), as_seen.PICTURE),
        (row({"output": [CALL, {"type": "message"}]}), as_seen.TOOLS),
        (row(chat={"folder_id": "f"}), as_seen.FOLDER),
        (row({"model": "team-base"}), as_seen.OTHER_MODEL),
    ],
)
def test_what_a_rating_shows_of_another_prompt_leaves_it_out(found: Any, reason: str) -> None:
    assert learned(found) == {reason: 1}
    assert learned(found | {"data": {"rating": -1}}) == {reason: 1}, "no pair is made of it either"


@pytest.mark.parametrize(
    "found",
    [
        row(),
        row(temperature=0.9, system="  "),
        row({"output": [{"type": "reasoning"}, {"type": "message"}], "model": "team-assistant"}),
        row(question={"files": [{"type": "file", "content_type": "application/pdf"}]}),
    ],
)
def test_what_changes_no_prompt_is_learned(found: Any) -> None:
    assert learned(found) == {}


@pytest.mark.parametrize("more", [{}, {"chat": {"folder_id": "f"}}, {"answer": {"model": "own"}}])
def test_a_prompt_counts_as_rebuilt_if_its_tokens_are_those_that_the_model_counted(
    more: dict[str, Any],
) -> None:
    """Memories, a folder's prompt, "More concise" and a changed preset show in nothing else."""
    answer = {"usage": {"prompt_tokens": 151}} | more.pop("answer", {})
    assert learned(row(answer, **more), tokens=151) == {}
    assert learned(row(answer, **more), tokens=119) == {as_seen.OTHER_PROMPT: 1}


@pytest.mark.parametrize("usage", [{}, None, {"prompt_tokens": "151"}, {"prompt_tokens": 0}])
def test_without_the_model_s_count_nothing_is_counted(usage: Any) -> None:
    assert learned(row({"usage": usage}), tokens=119) == {}


def test_what_is_counted_is_the_whole_prompt() -> None:
    seen: list[tuple[Message, ...]] = []

    def count(prompt: tuple[Message, ...]) -> int:
        seen.append(prompt)
        return 7

    found = row({"usage": {"prompt_tokens": 7}})
    (example,) = ratings.collect([found], FORM, Known(count=count)).examples
    assert seen == [example.prompt]


def test_a_rating_of_an_earlier_day_is_read_with_that_day_s_prompt() -> None:
    """The count is a stub: of letters."""
    old = PromptForm("You help, and say where it stands.", FORM.template)
    given = len(old.render(SOURCES))
    known = Known(count=lambda prompt: len(prompt[0].content), earlier=(FORM, old))
    found = ratings.collect([row({"usage": {"prompt_tokens": given}})], FORM, known)
    assert found.examples[0].prompt[0].content == old.render(SOURCES)
    assert learned(row({"usage": {"prompt_tokens": given}}), tokens=given + 1) != {}


def test_the_order_has_them(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "tokens", lambda _, name, sent, **__: [0] * len(sent[0]["content"]))
    earlier = [{"system": "x" * 34, "template": "{{CONTEXT}}"}]
    without, with_it = job(tmp_path), job(tmp_path, earlier_prompts=earlier)
    left_out = [
        build.gather(one).card["rejected"].get(as_seen.OTHER_PROMPT, 0)
        for one in (without, with_it)
    ]
    assert left_out[0] > left_out[1]


def test_ratings_of_deleted_accounts_are_left_out_and_listed() -> None:
    rows = [row(), rating(chat="2", user_id="gone"), rating(chat="3", user_id="gone")]
    collected = ratings.collect(rows, FORM, Known(accounts=frozenset({"mia"})))
    assert [example.origin.user for example in collected.examples] == ["mia"]
    assert collected.rejected == {ratings.DELETED_ACCOUNT: 2}
    assert collected.deleted_accounts == {"gone": 2}


def test_they_are_on_the_card_and_on_the_page(tmp_path: Any) -> None:
    asked = job(tmp_path, for_night=False, folder="dataset")
    asked.chat.people = lambda: [{"id": "somebody-else"}]  # type: ignore[method-assign]
    card = build.build(asked)["card"]
    (account,) = card["deleted_accounts"]
    assert card["rejected"][ratings.DELETED_ACCOUNT] == card["deleted_accounts"][account]
    page = (tmp_path / "dataset" / "page.html").read_text()
    assert account in page and "make forget USER_ID" in page


@pytest.mark.parametrize("tokens", [34, 35])
def test_the_day_s_model_counts_the_ratings_of_a_real_chat(
    tokens: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Model, "tokens", lambda *_, **__: [0] * tokens)
    rejected = build.gather(job(tmp_path)).card["rejected"]
    assert (as_seen.OTHER_PROMPT in rejected) == (tokens != 34)


def test_where_the_model_does_not_answer_it_is_said_and_nothing_is_compared(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def down(*_: Any, **__: Any) -> Any:
        raise GlueError("vLLM did not answer", "refused", "make day")

    monkeypatch.setattr(Model, "models", down)
    monkeypatch.setattr(Model, "tokens", lambda *_, **__: [])
    assert as_seen.OTHER_PROMPT not in build.gather(job(tmp_path)).card["rejected"]
    assert "not compared" in capsys.readouterr().out


def with_a_later_rating(text: str, **changes: Any) -> list[Any]:
    """A thumb up, an edit of that answer, then a rating of the chat's next answer."""
    first = rating("It is A83.", user_id="mia")
    later = rating(text, at=5, user_id="mia")
    later |= {"id": "r2", "meta": {"chat_id": "chat-1", "message_id": "next"}} | changes
    messages = later["snapshot"]["chat"]["chat"]["history"]["messages"]
    messages["copy"]["annotation"] = {"rating": 1}
    messages["then"] = {"parentId": "copy", "role": "user", "content": "And the drill?"}
    messages["next"] = {"parentId": "then", "role": "assistant", "content": "It is C1."}
    return [later, first]


def answers(rows: list[Any]) -> list[str]:
    return [example.answer for example in ratings.collect(rows, FORM).examples]


def test_an_edit_after_the_thumb_is_learned_where_a_later_rating_shows_it() -> None:
    collected = ratings.collect(with_a_later_rating("It is Q77."), FORM)
    edited, _ = collected.examples
    assert (edited.answer, edited.origin.kind) == ("It is Q77.", "edited answer")
    worse = {(pair.chosen, pair.rejected) for pair in collected.preferences}
    assert ("It is Q77.", "It is A83.") in worse and not {"It is A83."} & {a for a, _ in worse}


def test_it_must_be_fit_to_be_learned() -> None:
    assert answers(with_a_later_rating("<|im_end|> It is Q77.")) == []


@pytest.mark.parametrize(
    "changes",
    [{"user_id": "eve"}, {"meta": {"chat_id": "chat-2", "message_id": "next"}}],
)
def test_nobody_else_s_rating_changes_what_is_learned(changes: dict[str, Any]) -> None:
    assert "It is A83." in answers(with_a_later_rating("It is Q77.", **changes))
