"""Whether the kernels between the grouped products compute here what plain torch does, before a
night uses them: 1.13 times the tokens a second on an H200
(docs/measurements/nvfp4-levers-h200.json)."""

from __future__ import annotations

import torch

from training import expert_lora
from training.expert_rows import PLAIN, Between, Routing

TOKENS, EXPERTS_PER_TOKEN, EXPERTS, INNER, HIDDEN = 64, 6, 128, 1856, 2688  # Nano's widths
MOST_DIFFERENCE = 1e-5  # of the routing weights' gradient, a float32 sum in another order


def faster(products: expert_lora.Products, device: torch.device) -> expert_lora.Products:
    """With the kernels where they are right; the products as they are where they are not."""
    if device.type != "cuda" or products is expert_lora.LOOP:
        return products
    try:
        found = expert_lora.fused(products)
        wrong = "" if agree(found.between, device) else "they compute something else"
    except Exception as error:
        wrong = f"{type(error).__name__}: {error}"
    if wrong:
        print(f"the kernels between products do not run here: {wrong}", flush=True)
        return products
    return found


def agree(kernels: Between, device: torch.device) -> bool:
    """With and without an update of the rows, bit for bit but for MOST_DIFFERENCE."""
    torch.manual_seed(0)
    options = {"device": device, "dtype": torch.bfloat16}
    scores = torch.rand(TOKENS, EXPERTS, device=device)
    routing = Routing.of(scores.topk(EXPERTS_PER_TOKEN, -1).indices, EXPERTS)
    z, update, gradient = (torch.randn(len(routing.order), INNER, **options) for _ in range(3))
    y, wide = (torch.randn(len(routing.order), HIDDEN, **options) for _ in range(2))
    weights = torch.rand(TOKENS, EXPERTS_PER_TOKEN, device=device)
    for one, other in ((update, wide), (None, None)):
        found, wanted = (
            (
                between.activated(copy := z.clone(), one, 2.0),
                *between.turned(gradient.clone(), one, 2.0, copy, weights, routing),
                between.summed(y.clone(), other, 2.0, weights, routing),
                between.summed(y.clone(), other, 2.0, None, routing),
            )
            for between in (kernels, PLAIN)
        )
        dots = (found[3] - wanted[3]).norm() / wanted[3].norm()
        same = (torch.equal(found[i], wanted[i]) for i in (0, 1, 2, 4, 5))
        if not all(same) or dots > MOST_DIFFERENCE:
            return False
    return True
