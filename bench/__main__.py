from bench.cli import bench
from glue.cli.main import main

if __name__ == "__main__":
    main(bench)
