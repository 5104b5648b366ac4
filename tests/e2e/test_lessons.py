"""Documents, glossary terms and forget, on the real Open WebUI. The writer of questions is a
script."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from glue.clients import knowledge, open_webui, pages
from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.core.names import BASE
from learning.dataset.documents import from_documents
from learning.dataset.notebook import Notebook
from learning.dataset.prompt import PromptForm, source_context
from learning.examples import Example, Message
from rehearsal import team
from tests.e2e.conftest import Glue
from tests.learning import on_host

QUESTION = "In which hall is the lathe?"


@pytest.fixture
def form(site: Site) -> PromptForm:
    return PromptForm(site.settings["SYSTEM_PROMPT"], site.settings["RAG_TEMPLATE"])


def test_glue_s_search_finds_the_chat_s_passages(site: Site) -> None:
    person = on_host.talk(site)
    answer = person.ask([{"role": "user", "content": QUESTION}])
    collection = knowledge.current(person, site.state)
    found = knowledge.look_up(person, collection, QUESTION, site.settings.number("RAG_TOP_K"))
    assert source_context(found) == source_context(answer.sources) != ""


def test_questions_about_the_real_documents_are_asked_as_the_chat_would(
    site: Site, form: PromptForm, tmp_path: Path
) -> None:
    """The questions are from a stub: it copies a sentence of the passage."""
    person = on_host.talk(site)
    collection = knowledge.current(person, site.state)

    def scripted(task: str) -> str:
        passage = task.split("<passage>")[1]
        sentence = next(
            line for line in passage.replace("\n", " ").split(". ") if "stands in" in line
        ).strip()
        thing = sentence.split(" stands in")[0].split("The ")[-1]
        item = {
            "question": f"Where does the {thing} stand?",
            "answer": f"It {sentence.split(thing)[1].strip()}.",
            "evidence": sentence,
        }
        return json.dumps({"items": [item]})

    def look_up(question: str) -> list[dict[str, object]]:
        count = site.settings.number("RAG_TOP_K")
        return knowledge.look_up(person, collection, question, count)

    notebook = Notebook.open(tmp_path / "kept.jsonl", "passage", scripted, site.tell, 600)
    found = from_documents(knowledge.texts(person, collection), notebook, look_up, form, 2)
    assert len(found.examples) >= 4, found.rejected
    for example in found.examples:
        assert example.origin.note.removeprefix("proved by: ") in " ".join(
            example.prompt[0].content.split()
        )


def test_the_day_model_can_be_asked_and_counts_its_tokens(site: Site) -> None:
    served = on_host.served(site)
    assert served.complete(
        BASE, [{"role": "user", "content": "What is the code of the lathe?"}], 20
    )
    short, long = (
        Example((Message("user", "Hello?"),), "yes " * count, "test", "test") for count in (1, 50)
    )
    assert 0 < served.count_tokens(BASE, short) < served.count_tokens(BASE, long)


@pytest.fixture
def glossary(site: Site) -> Iterator[None]:
    path = site.state / "glossary.toml"
    path.write_text('[terms]\nMTBF = "MTBF is the mean time between two failures."\n')
    yield
    path.unlink()


def test_glossary_terms_are_in_the_data_set(site: Site, glue: Glue, glossary: None) -> None:
    card = json.loads(glue("dataset", "build", "--json").stdout)
    assert card["by_origin"]["term"] == 2
    assert "mean time between two failures" in Path(card["page"]).read_text()


def in_the_chat(site: Site) -> str:
    """All pages that administrators can read there."""
    person = site.administrator()
    paths = [f"/api/v1/files/{one}/content/html" for one in pages.uploaded(person)]
    return "".join(person.session.get(person.url + path, timeout=30).text for path in paths)


def test_a_forgotten_chat_is_in_no_data_set(site: Site, glue: Glue) -> None:
    password = "a-long-enough-password"  # pragma: allowlist secret
    site.administrator().ensure_user("Eve", "eve@rehearsal.local", password)
    eve: WebUI = open_webui.sign_in(site.settings.chat_url, "eve@rehearsal.local", password)
    marked = uuid.uuid4().hex
    team.correct(
        eve,
        f"Who is {marked}?",
        eve.ask([{"role": "user", "content": QUESTION}]),
        "Nobody that we know here.",
    )
    try:
        assert glue("forget", "--chat", "no-such-chat").returncode == 10
        assert glue("dataset", "build").returncode == 0
        page = site.state / "dataset" / "page.html"
        (chat,) = {
            row["meta"]["chat_id"]
            for row in on_host.talk(site).ratings()
            if row["user_id"] == eve.user["id"]
        }
        assert marked in page.read_text() and marked in in_the_chat(site)
        done = json.loads(glue("forget", "--chat", chat, "--json").stdout)
        assert done["rows_removed"] >= 1 and done["adapters_that_had_seen_it"] == []
        assert marked not in "".join(path.read_text() for path in page.parent.iterdir())
        assert marked not in in_the_chat(site)
        card = json.loads(glue("dataset", "build", "--json").stdout)
        assert card["rejected"]["forgotten, as was asked for"] == 1
        assert marked not in "".join(path.read_text() for path in page.parent.iterdir())
    finally:
        eve.call("DELETE", "/api/v1/evaluations/feedbacks")
