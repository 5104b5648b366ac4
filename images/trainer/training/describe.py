"""The facts of a base model that an adapter must fit, as JSON on the last line; {"refused": why}
and exit 3 for a model that cannot be trained.   python -m training.describe MODEL"""

from __future__ import annotations

import json
import os
import sys

from training import families

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
REFUSED = 3  # exit code

if __name__ == "__main__":
    try:
        print(json.dumps(families.facts(sys.argv[1], families.configuration(sys.argv[1]))))
    except families.Unsupported as error:
        print(json.dumps({"refused": str(error)}))
        sys.exit(REFUSED)
