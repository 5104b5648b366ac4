"""What glue reads of a document itself, because Open WebUI takes it and changes it."""

import datetime
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from glue.operations.documents_text import OLDER_OR_CLOSED, Unreadable, text_of
from tests.operations.office import box, group, table, write_deck

GERMAN = "Prüfung der Größe: 28 Tage – „Pumpe“, 5 €"


def read(path: Path) -> str:
    found = text_of(path)
    assert found is not None
    return found[0]


@pytest.mark.parametrize(
    ("text", "encoding", "guessed"),
    [
        (GERMAN, "utf-8", ""),
        (GERMAN, "utf-8-sig", ""),
        (GERMAN, "utf-16", ""),
        (GERMAN, "utf-32", ""),
        (GERMAN, "cp1252", "cp1252"),
        ("Straße", "cp1252", "cp1252"),
        ("L'été dure 28 jours à Orléans", "cp1252", "cp1252"),
        ("Zażółć gęślą jaźń. Urlop wynosi 28 dni w roku.", "cp1250", "cp1250"),
        ("Отпуск составляет 28 дней в году.", "cp1251", "cp1251"),
        ("年次休暇は28日です。ポンプの点検", "shift_jis", "cp932"),
        ("The yearly leave is 28 days.", "utf-16-le", ""),
    ],
)
def test_a_text_is_read_in_its_encoding_and_a_guess_is_told(
    text: str, encoding: str, guessed: str, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    found = text_of(tmp_path / "a.txt")
    assert found is not None and found[0] == text
    assert (f"read as {guessed};" in found[1]) == bool(guessed)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(Unreadable, match="no text, whatever its name says"):
        text_of(tmp_path / "a.txt")
    (tmp_path / "b.md").write_text(" \n")
    with pytest.raises(Unreadable, match="holds no text"):
        text_of(tmp_path / "b.md")


def test_cells_and_blocks_of_a_page_stay_apart(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        "<html><head><title>Pumps</title><style>p{}</style><script>a = '<td>'</script></head>"
        "<body><table><tr><th>Pump P3</th><td>900</td></tr><tr><td>Leave<td>28&nbsp;days</table>"
        "<p>In C:\\Users.<p>a<br>b &lt;x&gt; <b>bo</b>ld</body></html>"
    )
    lines = ["Pumps", "Pump P3 | 900", "Leave | 28 days", "In C:\\Users.", "a", "b <x> bold"]
    assert read(tmp_path / "a.html").split("\n") == lines


def test_a_show_is_read_with_its_tables_groups_and_notes(tmp_path: Path) -> None:
    first = box("Prices") + table(("Pump", "Price"), ("P3", "900 EUR"))
    write_deck(tmp_path / "a.pptx", [first, group(group(box("Gate G9")))], "Discount: 7 %")
    shown = ["Slide 1:", "Gate G9", "", "Slide 2:", "Prices", "Pump | Price", "P3 | 900 EUR"]
    assert read(tmp_path / "a.pptx").split("\n") == [*shown, "Discount: 7 %"]


def test_a_book_is_read_as_it_is_written(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet: Any = book.active
    sheet.append(["Name", "Phone", "Part", "Share", "Since"])
    sheet.append(["Mia", 4915112345678, "0042", 0.1 + 0.2, datetime.datetime(2026, 1, 2)])
    sheet.append(["Bo\nOtt", None, "0043"])
    book.create_sheet("Empty")
    book.save(tmp_path / "a.xlsx")
    assert read(tmp_path / "a.xlsx").split("\n") == [
        "Sheet Sheet:",
        "Name | Phone | Part | Share | Since",
        "Mia | 4915112345678 | 0042 | 0.3 | 2026-01-02",
        "Bo Ott |  | 0043",
    ]


@pytest.mark.parametrize("suffix", [".docx", ".pptx", ".xlsx"])
def test_an_office_file_with_a_password_is_named_as_such(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a{suffix}").write_bytes(OLDER_OR_CLOSED + bytes(100))
    with pytest.raises(Unreadable, match="password"):
        text_of(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", [".pptx", ".xlsx"])
def test_a_broken_one_is_refused(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"PK and no more")
    with pytest.raises(Unreadable, match=f"not a whole {suffix} file"):
        text_of(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("name", ["a.pdf", "b.docx"])
def test_open_webui_reads_the_others(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK")
    assert text_of(tmp_path / name) is None
