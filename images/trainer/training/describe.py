"""The facts of a base model that an adapter must fit, and its "quantisation" (empty for none), as
JSON on the last line; {"refused": why} and exit 3 for a model that cannot be trained.

    python -m training.describe MODEL
"""

from __future__ import annotations

import json
import os
import sys

from training import families, merge_checkpoint, packed_checkpoint

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
REFUSED = 3  # exit code

if __name__ == "__main__":
    try:
        facts = families.facts(sys.argv[1], families.configuration(sys.argv[1]))
        folder = merge_checkpoint.folder_of(sys.argv[1])
        packing = {"quantisation": packed_checkpoint.quantisation(folder)}
        print(json.dumps(facts | packing))
    except families.Unsupported as error:
        print(json.dumps({"refused": str(error)}))
        sys.exit(REFUSED)
