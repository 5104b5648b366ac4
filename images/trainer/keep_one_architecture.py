"""Leaves one GPU architecture in the setup.py of causal-conv1d or mamba-ssm.

keep_one_architecture.py
                                                                                SETUP.PY 121

Both hard-code up to nine (https://github.com/state-spaces/mamba/blob/v2.3.2.post1/setup.py), and
since their flags hold the
word "arch", torch's cpp_extension ignores TORCH_CUDA_ARCH_LIST. Nine architectures take nine times
as long.
"""

import re
import sys
from pathlib import Path

APPEND = re.compile(
    r'^(\s*)cc_flag\.append\("-gencode"\)\n\s*cc_flag\.append\("arch=compute_(\d+),code=sm_\2"\)\n',
    re.MULTILINE,
)


def keep(source: str, architecture: str) -> str:
    """Raises SystemExit unless the architecture is one of those that source knows."""
    known = [match[2] for match in APPEND.finditer(source)]
    if architecture not in known:
        raise SystemExit(
            f"no sm_{architecture} in this setup.py; it knows {', '.join(known) or 'none'}"
        )
    return APPEND.sub(
        lambda match: match[0] if match[2] == architecture else f"{match[1]}pass\n", source
    )


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(keep(path.read_text(encoding="utf-8"), sys.argv[2]), encoding="utf-8")
