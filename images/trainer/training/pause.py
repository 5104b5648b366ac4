"""NIGHT=beside: the trainer waits while the vLLM beside it answers somebody.

glue renews a file in the job's folder every second meanwhile and removes it afterwards
(glue/night/beside.py). The trainer looks at it before every forward pass. A file that nobody
renews any more was left by a glue that died, and pauses nothing.
"""

from __future__ import annotations

import time
from pathlib import Path

from training.places import PAUSE

LOOK_SECONDS = 0.1
# A look of glue asks Docker, which may take seconds on a busy machine.
STALE_SECONDS = 30.0
HEARTBEAT_SECONDS = 60.0  # glue stops a trainer that writes no line for 20 minutes


def wanted(folder: Path) -> bool:
    try:
        age = time.time() - (folder / PAUSE).stat().st_mtime
    except FileNotFoundError:
        return False
    return abs(age) < STALE_SECONDS  # in the future where the clock was set back
