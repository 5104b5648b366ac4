"""One machine, two modes: chat over the team's documents by day, training by night."""

import sys
from pathlib import Path

__version__ = "0.1.0"

# data set and evaluation live with the trainer's image; until they run there as jobs, glue imports
# them. What reads
# the chat's volume lives with Open WebUI's image, and its way of counting is used on both sides.
sys.path += [
    str(Path(__file__).resolve().parents[1] / "images" / name) for name in ("trainer", "open-webui")
]
