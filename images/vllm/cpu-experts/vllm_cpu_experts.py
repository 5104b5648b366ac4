"""A vLLM plug-in: relu2 mixture-of-experts layers, with LoRA, on a CPU. For the small models of the
rehearsal and the demonstration only.

Written against vLLM 0.32.0, where two things keep Nemotron-H from a CPU:

- `FusedMoEConfig.__post_init__` ends by refusing experts without a gate ("is_act_and_mul=False is
supported only for
  CUDA, XPU and ROCm"), and the CPU experts class refuses them too;
- as soon as LoRA is on, the unquantized oracle picks the Triton experts, also where there is no
Triton.

This removes the refusal and uses plain-torch experts. A third thing makes any adapter slow: vLLM
copies an adapter's matrices once for each token (lora/ops/torch_ops/lora_ops.py), which triples the
time of a prompt of SmolLM2. Here each adapter is one product for all of its tokens. On a GPU
`register` does nothing.
"""

from __future__ import annotations

import torch


def relu2(hidden: torch.Tensor) -> torch.Tensor:
    return torch.relu(hidden) ** 2


def register() -> None:
    """vLLM calls this in each of its processes before a model is built."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    _allow_experts_without_gate()
    _choose_plain_experts()
    _multiply_each_adapter_once()


def _allow_experts_without_gate() -> None:
    from vllm.model_executor.layers.fused_moe.config import FusedMoEConfig

    checked = FusedMoEConfig.__post_init__

    def post_init(self: object) -> None:
        try:
            checked(self)
        except (
            NotImplementedError
        ) as error:  # raised by the method's last statement: everything else is set
            if "is_act_and_mul=False" not in str(error):
                raise

    FusedMoEConfig.__post_init__ = post_init


def _choose_plain_experts() -> None:
    from vllm.model_executor.layers.fused_moe import unquantized_fused_moe_method as method
    from vllm.model_executor.layers.fused_moe.oracle.unquantized import UnquantizedMoeBackend

    select = method.select_unquantized_moe_backend
    experts = _plain_experts_class()

    def select_with_plain_experts(moe_config: object) -> tuple[object, object]:
        if moe_config.is_lora_enabled or not moe_config.is_act_and_mul:
            return UnquantizedMoeBackend.CPU, experts
        return select(moe_config)

    method.select_unquantized_moe_backend = select_with_plain_experts


def _plain_experts_class() -> type:
    from vllm.model_executor.layers.fused_moe.activation import MoEActivation
    from vllm.model_executor.layers.fused_moe.experts.cpu_moe import CPUUnquantizedExperts
    from vllm.model_executor.layers.fused_moe.experts.lora_experts_mixin import LoRAExpertsMixin

    class PlainExperts(LoRAExpertsMixin, CPUUnquantizedExperts):
        """y = sum over a token's experts of weight * (relu2(x up + lora) down + lora), one
        expert after another."""

        @staticmethod
        def _supports_no_act_and_mul() -> bool:
            return True

        @staticmethod
        def _supports_activation(activation: MoEActivation) -> bool:
            return activation == MoEActivation.RELU2_NO_MUL

        def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
            return

        # fmt: off
        def apply(self, output, hidden_states, w1, w2, topk_weights, topk_ids, activation,
                  global_num_experts,
                  expert_map, a1q_scale, a2_scale, workspace13, workspace2, expert_tokens_meta,
                  apply_router_weight_on_input):
            # fmt: on
            lora = self._lora_context
            adapters = None
            if lora is not None:
                adapters = lora.punica_wrapper.token_lora_indices[: len(hidden_states)].long()
            summed = torch.zeros(hidden_states.shape, dtype=torch.float32)
            for expert in torch.unique(topk_ids).tolist():
                token, choice = torch.where(topk_ids == expert)
                rows, slots = hidden_states[token], None if adapters is None else adapters[token]
                up = rows @ w1[expert].t()
                _add_lora(up, rows, slots, lora, "w13", expert)
                inner = relu2(up)
                down = inner @ w2[expert].t()
                _add_lora(down, inner, slots, lora, "w2", expert)
                weight = 1.0
                if not apply_router_weight_on_input:
                    weight = topk_weights[token, choice].float().unsqueeze(1)
                summed.index_add_(0, token, down.float() * weight)
            output.copy_(summed.to(output.dtype))

    return PlainExperts


def _add_lora(result, rows, slots, lora, which: str, expert: int) -> None:
    """Adds each row's own adapter in place. slots: one adapter slot a row, -1 for none."""
    if slots is None:
        return
    stacked_a = getattr(lora, f"{which}_lora_a_stacked")[0]
    stacked_b = getattr(lora, f"{which}_lora_b_stacked")[0]
    for slot in torch.unique(slots).tolist():
        if slot < 0 or not int(lora.adapter_enabled[slot]):
            continue
        mine = slots == slot
        # an adapter that shares one A (or B) among all experts has a single row there
        a = stacked_a[slot, expert if stacked_a.shape[1] > 1 else 0]
        b = stacked_b[slot, expert if stacked_b.shape[1] > 1 else 0]
        result[mine] += (rows[mine] @ a.t()) @ b.t()


def _multiply_each_adapter_once() -> None:
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    def bgmv_shrink(inputs, weights, output, slots, scaling=1.0):
        product = _by_slot(inputs, weights, slots, output.dtype)
        output[:, : product.shape[1]] = scaling * product

    def bgmv_expand(inputs, weights, output, slots, add_inputs=True):
        # adapter and model may pad their outputs differently
        size = min(weights.shape[-2], output.shape[1])
        bgmv_expand_slice(inputs, weights, output, slots, 0, size, add_inputs)

    def bgmv_expand_slice(inputs, weights, output, slots, offset, size, add_inputs=True):
        product = _by_slot(inputs, weights, slots, output.dtype)[:, :size]
        part = output[:, offset : offset + size]
        part.copy_(part + product if add_inputs else product)

    for replacement in (bgmv_shrink, bgmv_expand, bgmv_expand_slice):
        for module in (lora_ops, punica_cpu):
            setattr(module, replacement.__name__, replacement)


def _by_slot(inputs, weights, slots, dtype: torch.dtype) -> torch.Tensor:
    """inputs [tokens, in] times the matrix of each token's slot, -1 for none: [tokens, out].
    weights: [slots, 1, out, in] or [slots, out, in]."""
    inputs, matrices = inputs.to(dtype), weights.reshape(len(weights), *weights.shape[-2:])
    result = inputs.new_zeros(len(inputs), weights.shape[-2])
    for slot in torch.unique(slots).tolist():
        if slot >= 0:
            mine = slots == slot
            result[mine] = inputs[mine] @ matrices[slot].to(dtype).t()
    return result
