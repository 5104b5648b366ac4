"""These tests run in the trainer image, where torch is: tests/compose/test_training_image.py runs
them there."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]
