"""Minimal Office files; real ones have a few dozen more parts."""

import zipfile
from pathlib import Path

MAIN = "http://schemas.openxmlformats.org"
RELATIONS = f"{MAIN}/package/2006/relationships"
OFFICE = f"{MAIN}/officeDocument/2006/relationships"


def relations(*targets: tuple[str, str]) -> str:
    rows = (
        f'<Relationship Id="r{number}" Type="{OFFICE}/{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(targets, 1)
    )
    return f'<Relationships xmlns="{RELATIONS}">{"".join(rows)}</Relationships>'


def pack(path: Path, kinds: dict[str, str], parts: dict[str, str]) -> None:
    types = "".join(
        f'<Override PartName="/{name}" ContentType="application/vnd.openxmlformats-officedocument.'
        f'{kind}+xml"/>'
        for name, kind in kinds.items()
    )
    rels = "application/vnd.openxmlformats-package.relationships+xml"
    default = f'<Default Extension="rels" ContentType="{rels}"/>'
    content = f'<Types xmlns="{MAIN}/package/2006/content-types">{default}{types}</Types>'
    with zipfile.ZipFile(path, "w") as file:
        for name, text in ({"[Content_Types].xml": content} | parts).items():
            file.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>{text}')


def write_office(folder: Path) -> None:
    word = f"{MAIN}/wordprocessingml/2006/main"
    pack(
        folder / "letter.docx",
        {"word/document.xml": "wordprocessingml.document.main"},
        {
            "_rels/.rels": relations(("officeDocument", "word/document.xml")),
            "word/document.xml": f'<w:document xmlns:w="{word}"><w:body><w:p><w:r>'
            "<w:t>The letter is L1.</w:t></w:r></w:p></w:body></w:document>",
        },
    )
    sheet = f"{MAIN}/spreadsheetml/2006/main"
    pack(
        folder / "book.xlsx",
        {
            "xl/workbook.xml": "spreadsheetml.sheet.main",
            "xl/worksheets/sheet1.xml": "spreadsheetml.worksheet",
        },
        {
            "_rels/.rels": relations(("officeDocument", "xl/workbook.xml")),
            "xl/workbook.xml": f'<workbook xmlns="{sheet}" xmlns:r="{OFFICE}"><sheets>'
            '<sheet name="One" sheetId="1" r:id="r1"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": relations(("worksheet", "worksheets/sheet1.xml")),
            "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{sheet}"><sheetData><row r="1">'
            '<c r="A1" t="inlineStr"><is><t>The cell is X1.</t></is></c></row></sheetData>'
            "</worksheet>",
        },
    )
    write_deck(folder / "slides.pptx", [box("The slide is S1.")])


def box(text: str) -> str:
    return f"<p:sp><p:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"


def group(inside: str) -> str:
    return f"<p:grpSp>{inside}</p:grpSp>"


def table(*rows: tuple[str, ...]) -> str:
    cell = "<a:tc><a:txBody><a:p><a:r><a:t>{}</a:t></a:r></a:p></a:txBody></a:tc>"
    lines = (f"<a:tr>{''.join(map(cell.format, row))}</a:tr>" for row in rows)
    return (
        f"<p:graphicFrame><a:graphic><a:tbl>{''.join(lines)}</a:tbl></a:graphic></p:graphicFrame>"
    )


def write_deck(path: Path, slides: list[str], notes: str = "") -> None:
    """slides: what each holds, in the order of their files; they are shown in reverse. notes: of
    the first file's."""
    slide, draw = f"{MAIN}/presentationml/2006/main", f"{MAIN}/drawingml/2006/main"
    spaces = f'xmlns:p="{slide}" xmlns:a="{draw}" xmlns:r="{OFFICE}"'
    shown = (f'<p:sldId id="{256 + n}" r:id="r{n}"/>' for n in range(len(slides), 0, -1))
    names = [f"ppt/slides/slide{number}.xml" for number in range(1, len(slides) + 1)]
    relative = [("slide", name.removeprefix("ppt/")) for name in names]
    parts = {
        name: f"<p:sld {spaces}><p:cSld><p:spTree>{inside}</p:spTree></p:cSld></p:sld>"
        for name, inside in zip(names, slides, strict=True)
    }
    if notes:
        parts["ppt/slides/_rels/slide1.xml.rels"] = relations(("notesSlide", "../notes/one.xml"))
        parts["ppt/notes/one.xml"] = f"<p:notes {spaces}>{box(notes)}</p:notes>"
    kinds = dict.fromkeys(names, "presentationml.slide")
    pack(
        path,
        kinds | {"ppt/presentation.xml": "presentationml.presentation.main"},
        parts
        | {
            "_rels/.rels": relations(("officeDocument", "ppt/presentation.xml")),
            "ppt/presentation.xml": f"<p:presentation {spaces}><p:sldIdLst>{''.join(shown)}"
            "</p:sldIdLst></p:presentation>",
            "ppt/_rels/presentation.xml.rels": relations(*relative),
        },
    )
