"""The cells of a .xlsx file as people see them."""

from __future__ import annotations

import datetime
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from openpyxl.reader.excel import ExcelReader

PADDED = re.compile(r"0{2,}")  # as of part numbers: 0000
PERCENT = re.compile(r"[#,]*0(?:\.(0+))?%")
# A formula without the value that a spreadsheet program stores with it. An empty text is a value
UNCALCULATED = re.compile(
    rb'<(?:\w+:)?c\b(?![^>]*\bt="str")[^>]*?\br="(\w+)"[^>]*>\s*'
    rb"<(?:\w+:)?f\b[^>]*?(?:/>|>[^<]*</(?:\w+:)?f>)\s*"
    rb"(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v></|</(?:\w+:)?c>)"
)


def sheet_texts(archive: zipfile.ZipFile, notes: list[str]) -> Iterator[str]:
    """Each sheet's rows, with " | " between the cells. notes: gets what cannot be shown."""
    reader = ExcelReader(archive.filename, read_only=True, data_only=True)
    reader.archive.close()
    reader.archive = archive  # what load_workbook does, with the limit of this one
    reader.read()
    for sheet in reader.wb.worksheets:
        cells = UNCALCULATED.findall(archive.read(sheet._worksheet_path))
        if cells:
            where = f"sheet {sheet.title}, the first in {cells[0].decode()}"
            notes.append(f"{len(cells)} formulas have no stored value ({where}); save it in Excel")
        sheet.reset_dimensions()  # some programs write wrong ones
        lines = (" | ".join(map(shown, row)).rstrip(" |") for row in sheet.iter_rows())
        if rows := [line for line in lines if line]:
            yield "\n".join([f"Sheet {sheet.title}:", *rows])


def shown(cell: Any) -> str:
    """A cell on one line."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, datetime.timedelta):
        return duration(value, style_of(cell))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(value, style_of(cell))
    return " ".join(str(value).removesuffix(" 00:00:00").split())


def style_of(cell: Any) -> str:
    """Some programs write a number of a format that they do not define."""
    try:
        return str(cell.number_format)
    except IndexError:
        return "General"


def number(value: float, style: str) -> str:
    if PADDED.fullmatch(style):
        return f"{value:0{len(style) + (value < 0)}.0f}"
    if found := PERCENT.fullmatch(style):
        return f"{value:.{len(found[1] or '')}%}"
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def duration(value: datetime.timedelta, style: str) -> str:
    """Hours above 24 stay hours: 30:00, and 30:00:15 if the format has seconds."""
    seconds = round(abs(value).total_seconds())
    sign = "-" if value < datetime.timedelta() else ""
    minutes = f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}"
    return f"{minutes}:{seconds % 60:02}" if "s" in style.lower() else minutes
