"""Trains several nights, one after another, in one process, so that libraries are loaded once.

    python -m training.train_several /nights/a/job.json /nights/b/job.json ...

For each it reads and writes the same as training.train. Exits 0 when all were tried; each
result.json has its own outcome. For measurements of many small nights; a real night has its own
container.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from training import train

if __name__ == "__main__":
    for path in sys.argv[1:]:
        job = train.Job(**json.loads(Path(path).read_text(encoding="utf-8")))
        print(json.dumps(train.run(job)), flush=True)
