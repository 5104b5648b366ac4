"""Documents of public reports in the real Open WebUI: nothing of them is changed, lost or left
behind."""

import unicodedata
from pathlib import Path
from typing import Any

import openpyxl

from glue.clients import knowledge
from glue.clients.site import Site
from glue.operations import documents
from tests.e2e.test_documents import fault, found, held, up_to_date, write
from tests.operations.office import box, group, table, write_deck


def collection(site: Site) -> tuple[Any, str]:
    person = site.administrator()
    return person, knowledge.current(person, site.state) or ""


def test_people_find_what_is_written(apart: Site, folder: Path) -> None:
    """https://github.com/langchain-ai/langchain/issues/40071 and what documents_text.py names"""
    (folder / "tabs.txt").write_text("Pump\tP3\t900\nLeave is 28\u00a0days.")
    (folder / "german.txt").write_bytes("Prüfung der Größe – 5 €".encode("cp1252"))
    (folder / "page.html").write_text("<table><tr><td>Gate G9</td><td>open</td></tr></table>")
    write_deck(folder / "deck.pptx", [table(("Valve", "V8")) + group(box("Crane C5"))], "Note N7")
    book = openpyxl.Workbook()
    for row in (["Name", "Phone", "Part"], ["Mia", 4915112345678, "0042"], ["Bo", None, "0043"]):
        book.active.append(row)
    book.save(folder / "book.xlsx")
    done = documents.ingest(apart, folder)
    passages = " ".join(found(apart, question) for question in ("pump", "Größe", "gate", "phone"))
    for words in ("P3\t900", "28\u00a0days", "Prüfung der Größe – 5 €", "Gate G9 | open"):
        assert words in passages
    for words in ("Valve | V8", "Crane C5", "Note N7", "4915112345678 | 0042"):
        assert words in passages
    assert "german.txt: it does not say" in "\n".join(documents.lines(done))
    assert up_to_date(apart, folder)


def test_a_share_that_is_not_mounted_takes_nothing_away(apart: Site, folder: Path) -> None:
    """https://github.com/openmediavault/openmediavault/issues/86, open-webui/oikb/issues/38"""
    (folder / "share").mkdir()
    write(folder / "share" / "plan.pdf", "Gate G9.")
    write(folder / "rules.pdf", "The leave is 28 days.")
    documents.ingest(apart, folder)
    (folder / "share" / "plan.pdf").unlink()
    told = documents.lines(documents.ingest(apart, folder, yes=True))
    assert held(apart) == ["rules.pdf", "share/plan.pdf"] and "share/plan.pdf: kept" in told[0]
    (folder / "share").rmdir()
    documents.ingest(apart, folder)
    assert held(apart) == ["rules.pdf"]


def test_a_lost_index_is_seen_and_made_again(apart: Site, folder: Path) -> None:
    """https://github.com/open-webui/open-webui/issues/12600 and /11279"""
    write(folder / "plan.pdf", "Gate G9.")
    documents.ingest(apart, folder)
    person, own = collection(apart)
    (one,) = knowledge.held(person, own)
    body = {"collection_name": own, "file_id": one.id}
    person.call("POST", "/api/v1/retrieval/delete", json=body)
    assert held(apart) == ["plan.pdf"] and fault(apart) == knowledge.UNSEARCHABLE
    assert documents.ingest(apart, folder)["in"] == 1
    assert "G9" in found(apart, "gate") and not fault(apart)


def test_a_file_deleted_in_the_page_comes_back(apart: Site, folder: Path) -> None:
    """https://github.com/open-webui/open-webui/issues/7181"""
    write(folder / "plan.pdf", "Gate G9.")
    write(folder / "door.pdf", "Door D4.")
    documents.ingest(apart, folder)
    person, own = collection(apart)
    gone = next(one.id for one in knowledge.held(person, own) if one.name == "plan.pdf")
    person.call("DELETE", f"/api/v1/files/{gone}")
    assert "G9" not in found(apart, "gate")
    assert documents.ingest(apart, folder)["added"] == ["plan.pdf"]
    assert found(apart, "gate").count("G9") == 1


def test_nothing_is_left_of_refused_doubled_and_old_versions(apart: Site, folder: Path) -> None:
    """https://github.com/open-webui/oikb/issues/106: 1,300 copies of a file that is refused"""
    (folder / "bad.pdf").write_bytes(b"%PDF-1.7 and no more")
    write(folder / "a.pdf", "Gate G8.")
    write(folder / "b.pdf", "Gate G8.", title="the same")
    documents.ingest(apart, folder)
    person = apart.administrator()
    before = person.call("GET", "/api/v1/files/count")
    for number in range(2):
        write(folder / "a.pdf", f"Gate G{number}.")
        write(folder / "b.pdf", f"Gate G{number}.", title="the same")
        documents.ingest(apart, folder)
    assert person.call("GET", "/api/v1/files/count") == before


def test_names_that_file_systems_tell_apart_stay_apart(apart: Site, folder: Path) -> None:
    """https://github.com/open-webui/open-webui/issues/25954 and owncloud/client/issues/6338"""
    composed = unicodedata.normalize("NFC", "Prüfung.pdf")
    names = [composed, unicodedata.normalize("NFD", composed), "PLAN.pdf", "plan.pdf"]
    for number, name in enumerate([*names, "ü" * 125 + ".pdf", "x" * 251 + ".pdf"]):
        write(folder / name, f"This is sheet {number}.")
    assert documents.ingest(apart, folder)["in"] == 6
    assert len(held(apart)) == 6 and up_to_date(apart, folder)
