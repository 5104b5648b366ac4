from pathlib import Path

from fpdf import FPDF

from glue.operations.documents import why_unreadable
from rehearsal.demo import sheet


def test_a_pdf_with_text_is_readable(tmp_path: Path) -> None:
    sheet("Title", ["The saw is in hall 3."]).output(str(tmp_path / "good.pdf"))
    assert why_unreadable(tmp_path / "good.pdf") == ""


def test_what_is_wrong_with_a_pdf_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty.pdf").write_bytes(b"")
    (tmp_path / "corrupt.pdf").write_bytes(b"%PDF-1.7\n1 0 obj << /Type")
    blank = FPDF()
    blank.add_page()
    blank.rect(10, 10, 50, 50, style="F")
    blank.output(str(tmp_path / "image-only.pdf"))
    assert why_unreadable(tmp_path / "empty.pdf") == "it is empty"
    assert why_unreadable(tmp_path / "corrupt.pdf").startswith("it is damaged or protected")
    assert "OCR" in why_unreadable(tmp_path / "image-only.pdf")
