"""The demonstration's company: its documents hold what is asked, once, and nothing else does."""

from pathlib import Path

import pytest
from pypdf import PdfReader

from learning.dataset import facts
from rehearsal import company

SEEDS = range(5)


def texts(folder: Path) -> list[str]:
    """One of each document, as people read it."""
    return [
        " ".join(page.extract_text() for page in PdfReader(path).pages)
        if path.suffix == ".pdf"
        else path.read_text()
        for path in sorted(folder.iterdir())
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_each_value_is_in_one_document_and_in_the_team_s_answer(seed: int, tmp_path: Path) -> None:
    told = company.load(seed)
    company.write_documents(told.values, tmp_path)
    read = texts(tmp_path)
    for fact in told.facts:
        assert sum(facts.says(text, fact.right) for text in read) == 1, fact
        assert facts.says(fact.answer, fact.right), fact
        assert fact.asked != fact.team and not facts.says(fact.asked, fact.right), fact
    assert not any(facts.says(text, told.note.right) for text in read)


def test_a_second_demonstration_has_other_values_and_the_same_one_the_same() -> None:
    first, second = company.load(0), company.load(1)
    assert company.load(0) == first
    other = [fact.id for fact in first.facts if fact.right != second.values[fact.id]]
    assert len(other) >= 8  # as many new examples as the recipe wants


def test_a_changed_document_has_the_new_value_and_no_old_file_stays(tmp_path: Path) -> None:
    told = company.load(0)
    (tmp_path / "left over.md").write_text("old")
    company.write_documents(told.values | {told.change.fact: told.change.new}, tmp_path)
    read = texts(tmp_path)
    assert len(read) == 3
    assert any(facts.says(text, told.change.new) for text in read)
    assert not any(facts.says(text, told.change.old) for text in read)
