"""Telling people how the night went: the page, the short text, and the line above every chat."""

from __future__ import annotations

from glue import morning
from glue.site import Site


def tell(site: Site, night: str) -> None:
    """Never the reason why a night fails: what could not be told is said, and that is all."""
    try:
        found = morning.write(site.state, night, site.settings.chat_url)
        morning.keep_banner(site.state, found)
        if found.outcome == "promoted":
            site.administrator().ensure_banner(**morning.kept_banner(site.state, site.releases.current()))
        site.tell(f"{found.headline} The page: {site.state / 'nights' / night / 'report.html'}")
    except Exception as error:  # whatever it is, the day serves and the night has its end in the journal
        site.tell(f"the morning page could not be written: {error}")
