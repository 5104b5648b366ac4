"""The facts of a base model that an adapter must fit, as JSON on the last line.   python -m
training.describe
MODEL"""

from __future__ import annotations

import json
import os
import sys

from transformers import AutoConfig

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

if __name__ == "__main__":
    configuration = AutoConfig.from_pretrained(sys.argv[1])
    kinds = configuration.layers_block_type
    facts = {
        "name": sys.argv[1],
        "expert_count": configuration.n_routed_experts,
        "expert_layers": [layer for layer, kind in enumerate(kinds) if kind == "moe"],
        "layers": len(kinds),
        "hidden_size": configuration.hidden_size,
    }
    print(json.dumps(facts))
