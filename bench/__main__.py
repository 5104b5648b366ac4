import os
import shlex
import sys

from bench.cli import bench
from glue.cli.main import main

if __name__ == "__main__":
    sys.argv += shlex.split(os.environ.get("ARG_ARGS", ""))  # make bench-training ARGS="..."
    main(bench)
