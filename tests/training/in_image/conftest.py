"""These tests run in the trainer image, which has torch; tests/compose/test_training_image.py
starts them."""

import importlib.util
import json
from pathlib import Path

import pytest

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]


@pytest.fixture(scope="session")
def practice_nvfp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base, adapter, merged and nvfp4 of one tiny model, packed once."""
    import torch

    from tests.training.in_image.test_merge import EVERYTHING, build_base, train_adapter
    from training import merge_checkpoint, quantise_checkpoint

    folder = tmp_path_factory.mktemp("nvfp4")
    base = build_base(folder / "base", torch.bfloat16)
    adapter = train_adapter(base, folder / "adapter", **EVERYTHING)
    merge_checkpoint.merge(base, adapter, folder / "merged")
    result = quantise_checkpoint.export(base, adapter, folder / "nvfp4", None)
    (folder / "result.json").write_text(json.dumps(result))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain model's folder."""
    from tests.training.in_image import test_plain  # needs torch, which the host does not have

    return test_plain.save_base(tmp_path_factory.mktemp("llama"))
