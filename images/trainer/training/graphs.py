"""A model's layers for packs of one size, as two CUDA graphs, forward and backward.

A small step waits for the CPU: it launches some ten thousand kernels one after another. A graph is
launched at once, with the same kernels in the same order. The head, the loss and the optimizer stay
outside.

Off unless record() is called. A batch of another size takes the plain way. A layer must not be
checkpointed, because what it computes again depends on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft import PeftModel
from transformers.modeling_outputs import BaseModelOutput

from training import packed_weights
from training.samples import Batch

Tensor = torch.Tensor
Replay = Callable[[], None]
# computes something once, and gives its result and a way to compute it again into the same tensors
Recorder = Callable[[Callable[[], Any]], tuple[Any, Replay]]

WARM_UP = 3  # kernels are compiled and tuned, and the order of packed weights is learned


def of_size(batch: Batch) -> Batch:
    """What the layers read of a batch: tensors on the GPU, and a longest sample that no pack of
    this size exceeds."""
    ids = batch["input_ids"]
    tensors = {
        name: value.to(ids.device)
        for name, value in batch.items()
        if isinstance(value, Tensor) and name != "labels"
    }
    return tensors | {"max_length_q": ids.shape[1], "max_length_k": ids.shape[1]}


class Layers(torch.autograd.Function):
    """The recorded layers, whose gradients go to the trained parameters."""

    @staticmethod
    def forward(ctx: Any, recorded: Recorded, *_: Tensor) -> Tensor:
        ctx.recorded = recorded
        recorded.replay(recorded.forward)
        return recorded.out.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        recorded = ctx.recorded
        recorded.grad.copy_(grad)
        recorded.replay(recorded.backward)
        return None, *(None if one is None else one.detach() for one in recorded.gradients)


class Recorded:
    def __init__(self, model: PeftModel, batch: Batch, record: Recorder) -> None:
        self.backbone = model.get_base_model().model
        self.plain = self.backbone.forward
        self.scratches = packed_weights.scratches(model)
        self.inputs = {
            name: value.clone() if isinstance(value, Tensor) else value
            for name, value in of_size(batch).items()
        }
        self.parameters = [one for one in model.parameters() if one.requires_grad]
        self.out, self.forward = record(self.settled(self.computed))
        self.grad = torch.zeros_like(self.out)
        self.gradients, self.backward = record(self.settled(self.differentiated))

    def computed(self) -> Tensor:
        out: Tensor = self.plain(**self.inputs, use_cache=False).last_hidden_state
        return out

    def differentiated(self) -> tuple[Tensor | None, ...]:
        return torch.autograd.grad(self.out, self.parameters, self.grad, allow_unused=True)

    def settle(self) -> None:
        for scratch in self.scratches:
            scratch.settle()

    def settled(self, act: Callable[[], Any]) -> Callable[[], Any]:
        def whole() -> Any:
            found = act()
            self.settle()
            return found

        return whole

    def replay(self, graph: Replay) -> None:
        self.settle()
        graph()
        self.settle()

    def fits(self, given: Batch) -> bool:
        return all(
            given[name].shape == value.shape
            for name, value in self.inputs.items()
            if isinstance(value, Tensor)
        )

    def __call__(self, **batch: Any) -> Any:
        given = of_size(batch) if "cu_seq_lens_q" in batch else {}
        if not given or not self.fits(given):
            return self.plain(**batch)
        for name, value in self.inputs.items():
            if isinstance(value, Tensor):
                value.copy_(given[name])
        return BaseModelOutput(last_hidden_state=Layers.apply(self, *self.parameters))


def record(model: PeftModel, batch: Batch) -> Recorded:
    """From now on packs of this batch's size and number of samples are computed by the graphs."""
    warm_up(model, batch)
    pool = torch.cuda.graph_pool_handle()

    def captured(act: Callable[[], Any]) -> tuple[Any, Replay]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            found = act()
        return found, graph.replay

    recorded = Recorded(model, batch, captured)
    recorded.backbone.forward = recorded
    return recorded


def stop(recorded: Recorded) -> None:
    recorded.settle()
    recorded.backbone.__dict__.pop("forward", None)


def warm_up(model: PeftModel, batch: Batch) -> None:
    """On another stream, as a capture needs it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            Recorded(model, batch, lambda act: (act(), lambda: None))
    torch.cuda.current_stream().wait_stream(stream)
    for scratch in packed_weights.scratches(model):
        scratch.settle()
