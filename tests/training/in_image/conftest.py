"""These tests run in the trainer image, which has torch; tests/compose/test_training_image.py
starts them."""

import importlib.util
from pathlib import Path

import pytest

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain model's folder."""
    from tests.training.in_image import test_plain  # needs torch, which the host does not have

    return test_plain.save_base(tmp_path_factory.mktemp("llama"))
