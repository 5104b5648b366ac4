"""Imports everything that a night needs, in the image that runs it.   check_stack.py build|skip

skip: the image was built without the CUDA kernels, so it prints that they are missing.
"""

import importlib
import importlib.metadata
import sys

NIGHT = ("torch", "transformers", "peft", "trl", "datasets", "accelerate", "safetensors")
# packages of the jobs that build data sets, judge and draw pages
LEARNING = {
    "detect_secrets": "detect-secrets",  # pragma: allowlist secret
    "dotenv": "python-dotenv",
    "ijson": "ijson",
    "jinja2": "jinja2",
    "matplotlib.figure": "matplotlib",
    "ml_dtypes": "ml-dtypes",
    "phonenumbers": "phonenumbers",
    "rapidfuzz": "rapidfuzz",
    "stdnum": "python-stdnum",
    "tenacity": "tenacity",
}
KERNELS = ("causal_conv1d", "mamba_ssm")


def imported(module: str, package: str) -> str:
    importlib.import_module(module)
    return f"{package} {importlib.metadata.version(package)}"


def main(kernels: str) -> None:
    # Unsloth first: it patches the others when they are imported, and must not break them
    names = ("unsloth", *NIGHT, *(KERNELS if kernels == "build" else ()))
    for module, package in {**{name: name for name in names}, **LEARNING}.items():
        print(imported(module, package), flush=True)
    if kernels != "build":
        print(f"left out as requested: {', '.join(KERNELS)}")


if __name__ == "__main__":
    main(sys.argv[1])
