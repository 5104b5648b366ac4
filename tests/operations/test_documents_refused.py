"""Every refusal of a document says what was seen and what to do, before any words of a library."""

from pathlib import Path

import pytest
from pypdf import PdfReader, PdfWriter
from pypdf.errors import FileNotDecryptedError

from glue.operations.documents_refused import by_open_webui, cannot_open, refusal

EMPTY = "The content provided is empty. Please ensure that there is text or data present before"
PRINT = "print it to a new PDF"


def a_pdf(path: Path, password: str = "") -> Path:
    writer = PdfWriter()
    writer.add_blank_page(100, 100)
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    writer.write(path)
    return path


@pytest.mark.parametrize(
    ("words", "seen", "do", "repeated"),
    [
        (EMPTY, "it holds no text", "OCR", False),
        ("File has not been decrypted", "opens with a password", "without a password", False),
        ("only Standard PDF encryption handler is available", "certificate", "protection", False),
        ("Stream has ended unexpectedly", "its end is missing", PRINT, False),
        ("startxref not found", "its end is missing", "copy it again", False),
        ("EOF marker not found", "its end is missing", PRINT, False),
        ("Read stream length of 112 exceeds maximum allowed length", "larger", "split", False),
        ("jbig2dec binary is not available.", "pictures in the format JBIG2", PRINT, False),
        ("Detected cyclic page references.", "it is damaged", PRINT, True),
        ("Trailer not found or does not point to a document", "it is damaged", PRINT, True),
        ("'NullObject' object is not subscriptable", "it is damaged", PRINT, True),
        ("'utf-16-be' codec can't decode byte 0x1e", "it is damaged", PRINT, True),
        ("words of\na later version", "it is damaged", PRINT, True),
        ("Duplicate content", "in the index only", "Reindex", False),
    ],
)
def test_a_refused_pdf_says_what_was_seen_and_what_to_do(
    words: str, seen: str, do: str, repeated: bool, tmp_path: Path
) -> None:
    """The words are Open WebUI's, and pypdf's about PDFs of test suites (docs/measurements)."""
    saw, _, rest = by_open_webui(words, a_pdf(tmp_path / "a.pdf")).partition("; ")
    assert seen in saw and do in rest
    assert rest.endswith(f" ({' '.join(words.split())})") == repeated


def test_the_words_of_a_library_are_short_and_on_one_line() -> None:
    assert refusal("a", "b", "c\n d") == "a; b (c d)"
    assert len(refusal("a", "b", "c" * 500)) < 140
    assert refusal("a", "b") == "a; b"


@pytest.mark.parametrize("name", ["a.pdf", "a.docx"])
def test_another_kind_of_file_under_this_name_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("<html>Sign in to download")
    refused = by_open_webui("Stream has ended unexpectedly", path)
    assert f"it is no {path.suffix} file" in refused and "its own type" in refused
    path.write_bytes(b"PK%PDF-")
    assert "whatever its name says" not in by_open_webui("Stream has ended unexpectedly", path)
    path.unlink()
    assert "its end is missing" in by_open_webui("Stream has ended unexpectedly", path), "is gone"


def test_a_text_that_open_webui_does_not_take_leads_to_its_log(tmp_path: Path) -> None:
    refused = by_open_webui("expecting embedding with dimension of 384", tmp_path / "a.txt")
    assert refused.startswith("Open WebUI does not take its text; make logs SERVICE=open-webui")


@pytest.mark.parametrize(
    ("filters", "only_attachments"),
    [
        ({"/StmF": "/Identity", "/StrF": "/Identity", "/EFF": "/StdCF"}, True),
        ({"/EFF": "/StdCF"}, True),  # without a name, a filter is Identity
        ({"/StmF": "/StdCF", "/StrF": "/Identity"}, False),
        ({"/StmF": "/Identity", "/StrF": "/StdCF"}, False),
    ],
)
def test_a_pdf_whose_attachments_alone_are_encrypted_is_named_as_such(
    filters: dict[str, str], only_attachments: bool, tmp_path: Path
) -> None:
    """As encrypted-attachment.pdf and auth-event-ef-open.pdf of pdf.js. pypdf writes no filters:
    they are put into the dictionary that it wrote."""
    path = a_pdf(tmp_path / "a.pdf", "secret")
    table = " ".join(f"{key} {value}" for key, value in filters.items())
    crypt = f"/V 4\n/CF << /StdCF << /CFM /AESV2 /Length 16 >> >> {table}".encode()
    path.write_bytes(path.read_bytes().replace(b"/V 2", crypt))
    with pytest.raises(FileNotDecryptedError) as error:
        PdfReader(path).pages[0].extract_text()
    refused = by_open_webui(str(error.value), path)
    assert ("only its attachments are encrypted" in refused) == only_attachments
    assert ("opens with a password" in refused) != only_attachments
    path.unlink()
    assert "opens with a password" in by_open_webui(str(error.value), path)


def test_what_cannot_be_opened_leads_to_its_rights_or_its_disk() -> None:
    denied, broken = PermissionError(13, "Permission denied"), OSError(5, "Input/output error")
    assert "let this user read it (Permission denied)" in cannot_open(denied)
    assert "disk or share (Input/output error)" in cannot_open(broken)
