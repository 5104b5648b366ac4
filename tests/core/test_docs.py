"""Links in pages have targets, README links to every page, and pages name only existing things."""

from __future__ import annotations

import re
from pathlib import Path

from glue.core import settings
from glue.core.setting_keys import Keys
from glue.core.settings import REPOSITORY

READERS = {"administrator.md", "team-member.md", "contributor.md"}
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
TEXT = {page: page.read_text(encoding="utf-8") for page in PAGES}
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
SCREENS_LINES, LINE_CHARACTERS = 120, 140


def links(page: Path) -> set[tuple[Path, str]]:
    """Each linked file of this repository, and its headings."""
    return {
        ((page.parent / path).resolve() if path else page, heading)
        for path, heading in LINK.findall(TEXT[page])
    }


def headings(page: Path) -> set[str]:
    """As GitHub writes them in links."""
    found = re.findall(r"^#+ (.+)$", TEXT[page], re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in found}


def test_every_link_has_a_target() -> None:
    every = [(page, path, heading) for page in PAGES for path, heading in links(page)]
    assert not [(page.name, str(path)) for page, path, _ in every if not path.exists()]
    assert not [(p.name, h) for p, path, h in every if h and h not in headings(path)]


def test_there_is_one_page_a_reader_and_the_readme_links_to_all() -> None:
    assert {page.name for page in (REPOSITORY / "docs").glob("*.md")} == READERS
    seen, left = set(), {REPOSITORY / "README.md"}
    while left:
        seen |= left
        left = {path for page in left for path, _ in links(page) if path in TEXT} - seen
    assert seen == set(PAGES)


def test_the_readme_is_two_screens() -> None:
    lines = TEXT[REPOSITORY / "README.md"].splitlines()
    assert len(lines) <= SCREENS_LINES
    assert not [line for line in lines if len(line) > LINE_CHARACTERS and not line.startswith("|")]


def test_pages_name_every_make_target_and_no_other() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    quoted = set(re.findall(r"`[^`\n]*?make ([a-z-]+)[^`\n]*`", joined()))
    named = set(re.findall(r"make ([a-z-]+)", joined()))
    assert not quoted - targets and not targets - {"help"} - named


def test_pages_explain_every_setting_that_has_no_default() -> None:
    without = {key for key, field in Keys.model_fields.items() if not field.is_required()}
    assert not {key for key in without - set(settings.SECRETS) if f"`{key}" not in joined()}


def test_every_file_of_the_repository_that_a_page_names_exists() -> None:
    roots = "glue|env|images|tests|bench|rehearsal|docs|scripts"
    named = set(re.findall(rf"`((?:{roots})/[\w./-]+)`", joined()))
    ours = {"env/site.env"}  # of the site
    assert named and not [name for name in named - ours if not (REPOSITORY / name).exists()]


def joined() -> str:
    return "\n".join(TEXT.values())
