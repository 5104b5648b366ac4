"""Names that other programs share."""

from __future__ import annotations

# Open WebUI's preset points at one of these two; which one is all that promotion ever changes for
# it.
BASE = "team-base"
ADAPTER = "team-adapter"
# what a night judges, under its own name; nobody but glue may ask it
CANDIDATE = "team-candidate"


ASSISTANT = "team-assistant"


# The first words of every answer from here; datasets leave out answers that begin with them.
MARK = "🌙 **Night desk**"
