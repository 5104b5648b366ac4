"""One machine, two modes: chat over the team's documents by day, training by night."""

import sys
from pathlib import Path

__version__ = "0.1.0"

# data sets and evaluation are with the trainer's image, and glue imports parts of them. The reader
# of the chat's volume is with Open WebUI's image, and both sides count by it.
sys.path += [
    str(Path(__file__).resolve().parents[1] / "images" / name) for name in ("trainer", "open-webui")
]
