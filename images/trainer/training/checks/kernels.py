"""Checks the results of the compiled kernels on this machine. Run once after a build; takes about a
minute.

    python -m training.checks.kernels

Compiled code can be right on one architecture and wrong on another
(https://github.com/Dao-AILab/causal-conv1d/issues/105), so
each kernel is compared with plain PyTorch here, and samples in a pack with the same samples alone.
The last line is JSON:
every check with its error and its limit. Exits 1 if one is over.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

import torch
from causal_conv1d import causal_conv1d_fn
from mamba_ssm.ops.triton.ssd_combined import mamba_split_conv1d_scan_combined as fused_mamba
from torch.nn.functional import conv1d, pad, silu

from training import engine, packed_merge
from training.checks.compare import relative
from training.packed_weights import Packed

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

Tensor = torch.Tensor
DEVICE = "cuda"


# -----------------------------------------------------------------------------
# causal-conv1d


def convolution() -> float:
    """Compared with torch's convolution, in float32."""
    x = torch.randn(1, 1024, 700, device=DEVICE)
    weight, bias = torch.randn(1024, 4, device=DEVICE) * 0.3, torch.randn(1024, device=DEVICE)
    wanted = silu(conv1d(pad(x, (3, 0)), weight[:, None], bias, groups=1024))
    return relative(causal_conv1d_fn(x, weight, bias, activation="silu"), wanted)


# -----------------------------------------------------------------------------
# mamba-ssm


def mamba_inputs() -> tuple[Tensor, Callable[..., Tensor]]:
    """The projected input [1, 700, 2 * 512 + 2 * 2 * 128 + 8] of a layer with 8 heads of 64, and
    the layer itself."""
    heads, width, groups, states = 8, 64, 2, 128
    inner, channels = heads * width, heads * width + 2 * groups * states
    projected = (
        torch.randn(
            1, 700, 2 * inner + 2 * groups * states + heads, device=DEVICE, dtype=torch.bfloat16
        )
        * 0.5
    )
    fixed = {
        "D": torch.ones(heads, device=DEVICE),
        "chunk_size": 128,
        "activation": "silu",
        "headdim": width,
        "ngroups": groups,
        "rmsnorm_weight": torch.ones(inner, device=DEVICE),
        "rmsnorm_eps": 1e-5,
        "norm_before_gate": False,
        "outproj_weight": torch.randn(256, inner, device=DEVICE, dtype=torch.bfloat16) * 0.05,
        "outproj_bias": None,
    }
    weight = (torch.randn(channels, 4, device=DEVICE) * 0.3).bfloat16()
    bias = torch.randn(channels, device=DEVICE).bfloat16()
    dt_bias, a = torch.randn(heads, device=DEVICE), -torch.rand(heads, device=DEVICE) * 4 - 0.1
    return projected, lambda x, **more: fused_mamba(x, weight, bias, dt_bias, a, **fixed, **more)


def scan_boundary() -> float:
    """Two samples in one row, separated by seq_idx, compared with each alone. Raises if omitting
    seq_idx makes no difference."""
    projected, layer = mamba_inputs()
    index = torch.zeros(1, 700, dtype=torch.int32, device=DEVICE)
    index[:, 300:] = 1
    alone = torch.cat(
        [layer(projected[:, :300].contiguous()), layer(projected[:, 300:].contiguous())], 1
    )
    error = relative(layer(projected, seq_idx=index), alone)
    if relative(layer(projected), alone) < 10 * error:
        raise SystemExit("the samples do not depend on where they begin: this check proves nothing")
    return error


def scan_gradient() -> float:
    """The gradient of the packed row compared with those of the samples alone."""
    projected, layer = mamba_inputs()
    index = torch.zeros(1, 700, dtype=torch.int32, device=DEVICE)
    index[:, 300:] = 1

    def gradient(act: Callable[[Tensor], Tensor]) -> Tensor:
        x = projected.clone().requires_grad_()
        act(x).float().pow(2).sum().backward()
        assert x.grad is not None
        return x.grad

    packed = gradient(lambda x: layer(x, seq_idx=index))
    return relative(
        packed,
        gradient(
            lambda x: torch.cat([layer(x[:, :300].contiguous()), layer(x[:, 300:].contiguous())], 1)
        ),
    )


# -----------------------------------------------------------------------------
# packed weights


def dense_weights() -> float:
    """NVFP4 weights made dense by our own kernel: 1 unless they are plain torch's, bit for bit."""
    values = torch.randint(256, (8, 96, 672), dtype=torch.uint8, device=DEVICE)
    scales = (torch.rand(8, 96, 84, device=DEVICE) * 448).to(torch.float8_e4m3fn)
    weight = Packed(values, scales, torch.rand(8, device=DEVICE) * 1e-3)
    out = torch.full(weight.shape, float("nan"), dtype=torch.bfloat16, device=DEVICE)
    weight.write_dense(out)
    return float(not torch.equal(out, weight.dense(out.dtype)))


def merged_weights() -> float:
    """NVFP4 weights with an adapter, packed again and made dense: 1 unless they are plain torch's
    on a CPU, bit for bit, as a merged checkpoint is made there too."""
    values = torch.randint(256, (2, 96, 672), dtype=torch.uint8)
    scales = (torch.rand(2, 96, 84) * 440 + 1).to(torch.float8_e4m3fn)
    weight = Packed(values, scales, torch.rand(2) * 1e-3 + 1e-4)
    a, b = packed_merge.rounded(torch.randn(2, 16, 1344), torch.randn(2, 96, 16) * 1e-2, 2.0)
    wanted = packed_merge.Merged(weight, a, b).dense(torch.bfloat16)
    there = Packed(*(part.to(DEVICE) for part in (values, scales, weight.factors)))
    out = torch.full(weight.shape, float("nan"), dtype=torch.bfloat16, device=DEVICE)
    packed_merge.Merged(there, a.to(DEVICE), b.to(DEVICE)).write_dense(out)
    return float(not torch.equal(out.cpu(), wanted))


CHECKS: dict[str, tuple[Callable[[], float], float]] = {
    "causal-conv1d against torch": (convolution, 1e-3),
    "mamba: samples in a pack against alone": (scan_boundary, 2e-2),
    "mamba: their gradients": (scan_gradient, 3e-2),
    "NVFP4 made dense against torch": (dense_weights, 0.0),
    "NVFP4 with an adapter against torch": (merged_weights, 0.0),
}


def run(checks: dict[str, tuple[Callable[[], float], float]]) -> int:
    """Prints one line a check and the JSON. checks: name -> (a function that returns a relative
    error, its limit)."""
    rows = []
    for name, (check, limit) in checks.items():
        error = check()
        rows.append({"check": name, "error": error, "limit": limit, "ok": error <= limit})
        print(
            f"{'ok  ' if error <= limit else 'FAIL'} {name}: {error:.2e}, at most {limit:.0e}",
            flush=True,
        )
    capability = "".join(map(str, torch.cuda.get_device_capability()))
    print(
        json.dumps(
            {
                "architecture": f"sm_{capability}",
                "versions": engine.kernel_versions(),
                "checks": rows,
            }
        )
    )
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(run(CHECKS))
