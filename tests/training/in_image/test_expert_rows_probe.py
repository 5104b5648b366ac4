"""The kernels between grouped products are used only where they compute what plain torch does. No
GPU is here: the rule is tested on the CPU, with plain torch and a wrong form in their place."""

from dataclasses import replace

import pytest
import torch

from training import expert_lora, expert_rows_probe
from training.expert_rows import PLAIN

CPU = torch.device("cpu")


def test_plain_torch_agrees_with_itself() -> None:
    assert expert_rows_probe.agree(PLAIN, CPU)


def test_a_last_bit_too_much_is_seen() -> None:
    wrong = replace(PLAIN, activated=lambda z, u, s: PLAIN.activated(z, u, s) * (1 + 2**-7))
    assert not expert_rows_probe.agree(wrong, CPU)


@pytest.mark.parametrize("fails", [True, False], ids=["raises", "computes something else"])
def test_kernels_that_do_not_run_cost_no_night(
    fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(products: expert_lora.Products) -> expert_lora.Products:
        if fails:
            raise ValueError("no such instruction")
        return replace(products, name="kernels")

    monkeypatch.setattr(expert_lora, "fused", broken)
    monkeypatch.setattr(expert_rows_probe, "agree", lambda *_: False)
    found = expert_rows_probe.faster(expert_lora.TORCH, torch.device("cuda"))
    assert found is expert_lora.TORCH
