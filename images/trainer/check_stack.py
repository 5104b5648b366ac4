"""Imports everything that a night needs, in the image that it runs in.   check_stack.py build|skip

skip: the image was built without the CUDA kernels; their absence is then expected, and said.
"""

import importlib
import importlib.metadata
import sys

NIGHT = ("torch", "transformers", "peft", "trl", "datasets", "accelerate", "safetensors")
KERNELS = ("causal_conv1d", "mamba_ssm")


def imported(name: str) -> str:
    importlib.import_module(name)
    return f"{name} {importlib.metadata.version(name)}"


def main(kernels: str) -> None:
    # Unsloth first: it patches the others as they are imported, and must also not break them
    for name in ("unsloth", *NIGHT, *(KERNELS if kernels == "build" else ())):
        print(imported(name), flush=True)
    if kernels != "build":
        print(f"left out, as asked: {', '.join(KERNELS)}")


if __name__ == "__main__":
    main(sys.argv[1])
