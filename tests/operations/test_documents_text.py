"""What glue reads of a document itself, because Open WebUI takes it and changes it."""

import codecs
import datetime
import re
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from glue.operations import documents_text
from glue.operations.documents_sheets import UNCALCULATED
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


LONG = "Zażółć gęślą jaźń. Urlop wynosi 28 dni w roku. " * 20


@pytest.mark.parametrize(
    ("data", "text", "lost"),
    [
        (LONG.encode() + b"\x9f and more", f"{LONG}\ufffd and more", 1),
        (b"\xff" + LONG.encode() + b"\xe4 \xfc", f"\ufffd{LONG}\ufffd \ufffd", 3),
        (LONG.encode() + "ż".encode()[:1], f"{LONG}\ufffd", 1),
        ("Größe in m³".encode() + "€".encode()[:2], "Größe in m³\ufffd", 1),
        (b"The leave is 28 days. " * 9 + b"\x81", "The leave is 28 days. " * 9 + "\ufffd", 1),
        (f"{LONG}\ufffd".encode() + b"\xff", f"{LONG}\ufffd\ufffd", 1),
        (codecs.BOM_UTF16_LE + LONG.encode("utf-16-le") + b"z", f"{LONG}\ufffd", 1),
    ],
)
def test_a_damaged_text_keeps_the_rest(data: bytes, text: str, lost: int, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(data)
    found = text_of(tmp_path / "a.md")
    assert found is not None and found[0] == text
    assert found[1].startswith(f"{lost} of its {len(text)} characters could not be read as utf-")


@pytest.mark.parametrize("text", ["Café", "Leave: 28 days. " * 99 + "5 €, Müller"])
def test_a_western_text_with_few_umlauts_is_no_damaged_one(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode("cp1252"))
    assert read(tmp_path / "a.txt") == text


@pytest.mark.parametrize(
    ("head", "encoding", "text"),
    [
        ('<meta charset="windows-1250">', "cp1250", "gőzfűrész"),
        (
            "<META content='text/html; charset=ISO-8859-2'>",
            "iso8859-2",
            "gőz",
        ),
        ('<?xml version="1.0" encoding="windows-1251"?>', "cp1251", "Отпуск"),
        ("<meta charset=iso-8859-1>", "cp1252", "5 €"),
        ("<meta charset=Shift_JIS>", "cp932", "年次休暇は28日です"),
        ("<meta charset=iso-2022-jp>", "iso2022_jp", "年次休暇"),
        ("<!-- <meta charset=koi8-r> --><meta charset=windows-1250>", "cp1250", "gőzfűrész"),
        ("<meta charset=windows-1250>", "utf-8-sig", "gőzfűrész"),
        ("<meta charset=windows-1250>", "utf-16", "gőzfűrész"),
        ("<meta charset=windows-1250>", "utf-8", "gőzfűrész"),
        ("<meta charset=utf-16>", "utf-8", "gőzfűrész"),
        ("<meta charset=rot13>", "utf-8", "gőzfűrész"),
    ],
)
def test_a_page_is_read_in_the_encoding_that_it_names(
    head: str, encoding: str, text: str, tmp_path: Path
) -> None:
    (tmp_path / "a.html").write_bytes(f"{head}<p>{text}".encode(encoding))
    assert text_of(tmp_path / "a.html") == (text, "")


def test_a_page_that_names_a_wrong_encoding_is_read_in_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(f"<meta charset=utf-8><p>{GERMAN}".encode("cp1252"))
    found = text_of(tmp_path / "a.html")
    assert found is not None and found[0] == GERMAN and "read as cp1252" in found[1]


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


def test_a_cell_is_read_as_its_format_shows_it(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet: Any = book.active
    hours = datetime.timedelta(hours=30, seconds=15)
    cells = [(42, "0000"), (0.19, "0%"), (0.195, "0.0%"), (hours, "[h]:mm"), (hours, "[h]:mm:ss")]
    cells += [(42, "General"), (0.5, "0.00"), (True, "00"), (12345, "0000"), (-7, "000")]
    for column, (value, style) in enumerate(cells, 1):
        sheet.cell(1, column, value).number_format = style
    book.save(tmp_path / "a.xlsx")
    shown = "0042 | 19% | 19.5% | 30:00 | 30:00:15 | 42 | 0.5 | True | 12345 | -007"
    assert text_of(tmp_path / "a.xlsx") == (f"Sheet Sheet:\n{shown}", "")


def test_a_cell_whose_format_is_not_defined_is_read(tmp_path: Path) -> None:
    """openpyxl writes no such file: the style of the cell is changed afterwards."""
    write_one(tmp_path / "a.xlsx", "word")
    with zipfile.ZipFile(tmp_path / "a.xlsx") as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    cell = b'<c r="B1" s="77"><v>42</v></c></row>'
    name = "xl/worksheets/sheet1.xml"
    parts[name] = parts[name].replace(b"</row>", cell)
    with zipfile.ZipFile(tmp_path / "b.xlsx", "w") as other:
        for part, data in parts.items():
            other.writestr(part, data)
    assert read(tmp_path / "b.xlsx") == "Sheet Sheet:\nword | 42"


def test_a_formula_without_a_stored_value_is_named(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet: Any = book.active
    sheet.append(["Sum", "=1+1", "=2+2"])
    book.save(tmp_path / "a.xlsx")
    why = "2 formulas have no stored value (sheet Sheet, the first in B1); save it in Excel"
    assert text_of(tmp_path / "a.xlsx") == ("Sheet Sheet:\nSum", why)
    sheet["A1"] = None
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(Unreadable, match="holds no text; 2 formulas have no stored value"):
        text_of(tmp_path / "a.xlsx")


@pytest.mark.parametrize(
    ("cell", "count"),
    [
        ('<c r="A1"><f>1+1</f><v>2</v></c>', 0),
        ('<c r="A1" t="str"><f>""</f><v></v></c>', 0),
        ('<c r="A1"><v>2</v></c><c r="B1" s="1"><f t="shared" si="0"/></c>', 1),
        ('<x:c r="A1"><x:f>1+1</x:f></x:c>', 1),
    ],
)
def test_only_a_formula_without_a_value_counts(cell: str, count: int) -> None:
    assert len(UNCALCULATED.findall(cell.encode())) == count


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


@pytest.mark.parametrize("suffix", [".pptx", ".xlsx"])
def test_parts_of_any_name_are_limited_and_pictures_are_not(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small limit, so that the test stays fast."""
    path, renamed = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write_one(path, "word " * 5000)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("media/film.mp4", bytes(100_000))
    monkeypatch.setattr(documents_text, "LARGEST_CHARACTERS", 50_000)
    assert "word word" in read(path)
    rename_parts(path, renamed)
    assert "word word" in read(renamed)
    monkeypatch.setattr(documents_text, "LARGEST_CHARACTERS", 20_000)
    with pytest.raises(Unreadable, match="too long"):
        text_of(renamed)


def write_one(path: Path, text: str) -> None:
    if path.suffix == ".pptx":
        return write_deck(path, [box(text)])
    book = openpyxl.Workbook()
    sheet: Any = book.active
    sheet.append([text])
    book.save(path)
    return None


def rename_parts(path: Path, renamed: Path) -> None:
    """The slide, or the sheet and its strings, as .bin, everywhere."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(renamed, "w") as other:
        for entry in archive.infolist():
            data = archive.read(entry)
            for part in (b"slide1", b"sheet1", b"sharedStrings"):
                data = data.replace(part + b".xml", part + b".bin")
            name = re.sub(r"(slide1|sheet1|sharedStrings)\.xml$", r"\1.bin", entry.filename)
            name = name.replace("1.xml.rels", "1.bin.rels")
            other.writestr(name, data)


@pytest.mark.parametrize("name", ["a.pdf", "b.docx"])
def test_open_webui_reads_the_others(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK")
    assert text_of(tmp_path / name) is None
