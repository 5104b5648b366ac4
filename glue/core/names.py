"""Names that other programs share."""

from __future__ import annotations

# Open WebUI's preset points at one of these two; promotion changes only which.
BASE = "team-base"
ADAPTER = "team-adapter"
CANDIDATE = "team-candidate"  # under evaluation; only glue may ask it
ASSISTANT = "team-assistant"
# the first words of every answer of the night desk; data sets leave such answers out
MARK = "🌙 **Night desk**"
