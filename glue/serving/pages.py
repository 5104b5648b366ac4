"""The pages that administrators read in the chat: the last night, and what is learned."""

from __future__ import annotations

from pathlib import Path

from glue.clients import pages
from glue.clients.pages import Page
from glue.clients.site import Site
from glue.core import files, names
from glue.serving import last_night

NOTES = Path("notes", "page.html")


def ensure(site: Site) -> str:
    """The chat has what the state folder has now. Returns the address where people find it; empty
    if there is nothing. Raises GlueError if the chat does not answer."""
    path = pages.ensure(site.administrator(), site.state, wanted(site.state))
    return f"{site.settings.people_url}{path}" if path else ""


def links(site: Site) -> list[str]:
    """For a message: the chat, and the pages if there are any."""
    url, path = site.settings.people_url, pages.kept_path(site.state)
    return [f"The chat: {url}", *([f"For administrators: {url}{path}"] if path else [])]


def ensure_again(site: Site) -> None:
    """After something was removed from them; nothing if the chat never had any."""
    if pages.kept_path(site.state):
        ensure(site)


def wanted(state: Path) -> list[Page]:
    """Those of them that exist: of the last night, of `make dataset`, and the team's notes."""
    night = max(
        state.glob("nights/*/report.json"), default=state / "nights/none/report.json"
    ).parent
    found = [
        Page(night / "report.html", "The last night:", words_of(state, night)),
        Page(night / "dataset" / "page.html", "What it learned from:", "every example"),
        Page(state / "dataset" / "page.html", "What tonight would learn:", "as of make dataset"),
        Page(state / NOTES, "What it looks up beside the documents:", notes_in_words(state)),
    ]
    return [page for page in found if page.path.exists()]


def notes_in_words(state: Path) -> str:
    rows = files.read_json_if_whole(state / names.NOTES, {}).get("notes", [])
    served = sum(row["state"] == names.SERVED for row in rows)
    return f"{served} of {len(rows)} notes by the team"


def words_of(state: Path, night: Path) -> str:
    """How many answers are right, or how it ended."""
    outcome = files.read_json_if_whole(night / "report.json", {}).get("outcome")
    if not outcome:  # of an earlier version, or damaged
        return night.name
    report = last_night.read(state, {"night": night.name, "outcome": outcome})
    return f"{last_night.right_answers(report) or report.headline} ({night.name})"
