"""Runs two kernels on this machine's GPU: one from PyTorch, and one that Triton compiles here, as
in a night.

python3 first_kernel.py      the last line names the CUDA version and the GPU; exit code other than
                             0: they do not run
"""

import torch
import triton
import triton.language as tl


@triton.jit
def double(source, target, count: tl.constexpr):
    index = tl.arange(0, count)
    tl.store(target + index, 2 * tl.load(source + index))


def main() -> None:
    ones = torch.ones(64, 64, device="cuda")
    assert (ones @ ones).sum().item() == 64**3
    row = torch.arange(64, device="cuda")
    doubled = torch.empty_like(row)
    double[(1,)](row, doubled, 64)
    assert doubled.tolist() == list(range(0, 128, 2))
    print(f"CUDA {torch.version.cuda} runs on {torch.cuda.get_device_name()}")


if __name__ == "__main__":
    main()
