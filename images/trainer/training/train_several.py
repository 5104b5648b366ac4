"""Several nights' trainings, one after another, without loading everything again for each.

    python -m training.several /nights/a/job.json /nights/b/job.json ...

Reads and writes for each what training.night does. Exits 0 once all were tried; each result.json
says how its own went.
For measurements of many small nights; a night that counts has a container of its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from training import engine, train

if __name__ == "__main__":
    for path in sys.argv[1:]:
        job = train.Job(**json.loads(Path(path).read_text(encoding="utf-8")))
        print(json.dumps(train.run(job, train.wrapped, engine.can_pack())), flush=True)
