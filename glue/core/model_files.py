"""A model by its file: its checkpoints, bytes and layers. TOML in env/models; nano.toml explains
each key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from glue.core import files, schema
from glue.core.errors import Invalid
from glue.core.schema import one_of, whole

Text = Annotated[str, Field(min_length=1, description="text that is not empty")]
Checkpoint = Annotated[
    str, Field(pattern=r"^([\w.-]+/[\w.-]+|/\S+)$", description="org/name, or a path from /")
]
Letters = Annotated[str, Field(pattern="^[ME*]+$", description="a letter M, E or * for each layer")]
Bytes = Annotated[int, whole(1)]
COMPUTED = "computed, not run on this size"
ADAPTER_SLOTS = 2  # --max-loras in compose.day.yaml
# of a day, beside weights, cache and slots: vLLM's engine and graphs, and the chat
ENGINE_BYTES = 6_900_000_000
# what vLLM demands to be free: --gpu-memory-utilization in compose.day.yaml, 0.28 of a GB10's 121.7
# GiB
LEAST_DAY_BYTES = 36_600_000_000
# of a night, beside a step: the trainer itself, and by what a step's plan may be wrong
TRAINER_BYTES, PLAN_ERROR_BYTES = 5_000_000_000, 3_000_000_000
BF16_BYTES = 2
PLANNED_BY = ("KV_CACHE_BYTES", "MAX_LORA_RANK", "TRAINING_MEMORY_BYTES", "MEMORY_RESERVE_BYTES")


@dataclass(frozen=True)
class Configuration:
    """What images/trainer/training/memory_plan.py, shape, reads of every model's config.json."""

    __pydantic_config__: ClassVar = ConfigDict(extra="ignore")
    model_type: Text
    vocab_size: Bytes
    hidden_size: Bytes
    num_attention_heads: Bytes
    head_dim: Annotated[int | None, whole(1)] = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Plain(Configuration):
    num_hidden_layers: Bytes
    intermediate_size: Bytes


@dataclass(frozen=True)
class Hybrid(Configuration):
    hybrid_override_pattern: Letters
    mamba_num_heads: Bytes
    mamba_head_dim: Bytes
    n_groups: Bytes
    ssm_state_size: Bytes
    moe_intermediate_size: Bytes
    moe_shared_expert_intermediate_size: Bytes
    n_routed_experts: Bytes
    num_experts_per_tok: Bytes
    moe_latent_size: Annotated[int | None, whole(1)] = None


@dataclass(frozen=True)
class Model:
    """trains_served: whether the trainer can read the served checkpoint. packed_model: what nights
    train in place of the served model, in a rehearsal. draft_tokens: how many the model's own
    multi-token head drafts, which then takes draft_memory_bytes. configuration: of config.json,
    what shapes the layers; empty where only the downloaded checkpoint says."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    name: str
    computed: Annotated[bool, Field(strict=True, description="true or false")]
    served_model: Checkpoint
    served_revision: Text
    trained_model: Checkpoint
    trained_revision: Text
    trains_served: Annotated[bool, Field(strict=True, description="true or false")]
    served_download_bytes: Bytes
    trained_download_bytes: Bytes
    served_memory_bytes: Bytes
    adapter_bytes_per_rank: Bytes
    kv_bytes_per_token: Bytes
    parameters: Bytes
    kv_cache_dtype: Annotated[str, one_of("fp8", "bfloat16", "auto")]
    tool_call_parser: Text
    reasoning_parser: Annotated[str, Field(description="a name, or empty")] = ""
    packed_model: Annotated[str, Field(description="a folder")] = ""
    draft_tokens: Annotated[int, whole(0)] = 0
    draft_memory_bytes: Annotated[int, whole(0)] = 0
    configuration: Annotated[dict[str, Any], Field(description="a table")] = field(
        default_factory=dict
    )

    def settings(self, values: Mapping[str, str]) -> dict[str, str]:
        """What glue and the compose files read as settings. values: those that are set."""
        cache, rank, step, reserve = (int(values[key]) for key in PLANNED_BY)
        slots = ADAPTER_SLOTS * rank * self.adapter_bytes_per_rank
        drafts = self.draft_memory_bytes if self.draft_tokens else 0
        day = self.served_memory_bytes + drafts + cache + slots + ENGINE_BYTES
        packed = {"PACKED_MODEL": self.packed_model} if self.packed_model else {}
        return packed | {
            "SERVED_MODEL": self.served_model,
            "SERVED_MODEL_REVISION": self.served_revision,
            "TRAINED_MODEL": self.trained_model,
            "TRAINED_MODEL_REVISION": self.trained_revision,
            "MODEL_FLAGS": self.flags(values.get("MODEL_FLAGS", "")),
            "DAY_FREE_BYTES": str(max(day, LEAST_DAY_BYTES)),
            "NIGHT_FREE_BYTES": str(step + TRAINER_BYTES + PLAN_ERROR_BYTES + reserve),
        }

    def flags(self, own: str) -> str:
        """Of vLLM, for the model: the attention cache's type, and how it writes tool calls and
        thoughts, if any. own: the site's for the latter, which may set the former."""
        thoughts = self.reasoning_parser and f"--reasoning-parser={self.reasoning_parser}"
        forms = own.split() or [thoughts, f"--tool-call-parser={self.tool_call_parser}"]
        cache = "" if "--kv-cache-dtype" in own else f"--kv-cache-dtype={self.kv_cache_dtype}"
        drafts = f'{{"method":"mtp","num_speculative_tokens":{self.draft_tokens}}}'
        more = f"--speculative-config={drafts}" if self.draft_tokens else ""
        return " ".join(filter(None, [*forms, cache, more]))

    @property
    def download_bytes(self) -> dict[str, int]:
        """By the setting that names the checkpoint."""
        served, trained = self.served_download_bytes, self.trained_download_bytes
        return {"SERVED_MODEL": served, "TRAINED_MODEL": trained}

    def untrainable(
        self, base: str, steps: Mapping[str, int], packings: Mapping[str, str] | None = None
    ) -> str:
        """Why no night with this base can train it; empty if one may. steps: the most bytes of a
        step, by base. packings: how weights are packed that no night can train on, by base."""
        packing = (packings or {}).get(base, "")
        if packing or (base == "served" and not self.trains_served):
            why = "of packed weights nights train only on NVFP4 layers of a Nemotron-H, and it "
            why += f"is {packing}" if packing else "has FP8 layers"
            if base == "bf16":
                return why
            other = self.untrainable("bf16", steps, packings)
            remedy = f"and in BF16: {other}" if other else 'a recipe with base = "bf16" can'
            return f"{why}; {remedy}"
        step_bytes = steps[base]
        weights = BF16_BYTES * self.parameters if base == "bf16" else self.served_memory_bytes
        if weights < step_bytes:
            return ""
        room = f"a training step may take {step_bytes / 1e9:.1f} GB (TRAINING_MEMORY_BYTES)"
        form = "BF16" if base == "bf16" else "packed"
        return f"its {form} weights take {weights / 1e9:.1f} GB, {room}"


def load(folder: Path, name: str, source: str = "env/", hub_only: bool = False) -> Model:
    """source: the file that names it. hub_only: not a model that is made on this machine. Raises
    Misconfigured, naming the file, the key, the value and what is expected."""
    path = folder / f"{name}.toml"
    if not path.exists() or (hub_only and made_here(path)):
        there = sorted(p.stem for p in folder.glob("*.toml") if not (hub_only and made_here(p)))
        do = f"Expected one of: {', '.join(there)}."
        raise Invalid(f"Invalid value for MODEL in {source}", repr(name), do)
    table = schema.read_toml(path)
    if "name" in table:
        raise Invalid(f"Unknown key in {path}", "name", "A model is named by its file's name.")
    schema.check(Model, table | {"name": name}, str(path))
    if said := table.get("configuration"):
        kind = Hybrid if said.get("model_type") == "nemotron_h" else Plain
        kinds = {"hybrid_override_pattern": "M"} if "layers_block_type" in said else {}
        schema.check(kind, kinds | said, f"[configuration] of {path}")
    return Model(name=name, **table)


def made_here(path: Path) -> bool:
    return str(schema.read_toml(path).get("served_model")).startswith("/")


def commit_of(state: Path, name: str) -> str:
    """Of a downloaded model; empty for one that was made on this machine."""
    known = files.read_json_if_whole(state / "models.json", {})
    return str(known.get(name, {}).get("commit", ""))
