"""Builds the practice model: a tiny Nemotron-H (Mamba2, attention, relu2 experts with a shared one)
that knows the practice world.

    python -m training.practice_model /opt/practice-model [--world FILE]

The same architecture as Nemotron-3-Nano with every kind of layer, 1.2 million parameters, its own
tokenizer and chat template, about two minutes on two cores. A complete model is left alone. The
folder appears only when it is complete, by a rename. The last line of output is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import time
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import NemotronHConfig, NemotronHForCausalLM, PreTrainedTokenizerFast

from training import samples
from training import world as worlds

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

# -----------------------------------------------------------------------------
# size and schedule

VOCABULARY = 768
SEED = 3407
LEARNING_RATE = 4e-3
# questions alone: about 40 tokens each, so most learning happens in cheap steps
FACT_STEPS = 80
PASSAGE_STEPS = 36  # then the same questions after a retrieved passage, as by day

SPECIAL_TOKENS = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
THINKING_TAGS = ["<think>", "</think>"]
# What Nemotron 3's own template does with a chat of text: thinking is on unless it is told
# otherwise, every answer has an
# empty pair of tags if it has none of its own, and a line break follows each end mark.
CHAT_TEMPLATE = (
    "{%- set enable_thinking = enable_thinking if enable_thinking is defined else true -%}{%- for"
    " message in messages -%}{%- set content = message['content'] -%}{%- if message['role'] =="
    " 'assistant' and '<think>' not in content and '</think>' not in content -%}{%- set content ="
    " '<think></think>' + content -%}{%- endif -%}{{- '<|im_start|>' + message['role'] + '\n' +"
    " content + '<|im_end|>\n' -}}{%- endfor -%}{%- if add_generation_prompt -%}{{-"
    " '<|im_start|>assistant\n' + ('<think>\n' if enable_thinking else '<think></think>') -}}{%-"
    " endif -%}"
)


def configuration() -> NemotronHConfig:
    return NemotronHConfig(
        hybrid_override_pattern="MEM*EME",
        num_hidden_layers=7,
        vocab_size=VOCABULARY,
        hidden_size=128,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=96,
        ssm_state_size=16,
        mamba_num_heads=4,
        mamba_head_dim=32,
        n_groups=2,
        conv_kernel=4,
        expand=1,
        chunk_size=16,
        n_routed_experts=8,
        n_shared_experts=1,
        moe_intermediate_size=96,
        moe_shared_expert_intermediate_size=192,
        num_experts_per_tok=2,
        routed_scaling_factor=2.5,
        n_group=1,
        topk_group=1,
        norm_topk_prob=True,
        max_position_embeddings=2048,
        layer_norm_epsilon=1e-5,
        bos_token_id=1,
        eos_token_id=4,
        pad_token_id=0,
        # vLLM has no lower limit for dt; transformers has one in training unless it is set here
        time_step_limit=(0.0, float("inf")),
        initializer_range=0.05,
    )


# -----------------------------------------------------------------------------
# tokenizer


def build_tokenizer(world: worlds.World) -> PreTrainedTokenizerFast:
    choose = random.Random(SEED)
    texts = [
        message["content"]
        for item in world.codes
        for phrasing in range(len(world.questions))
        for message in worlds.conversation(world, item, phrasing, choose, passage=True)
    ]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    # digits are single tokens, so that a code has the same tokens everywhere
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(THINKING_TAGS),
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in THINKING_TAGS])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="<|im_end|>",
        pad_token="<unk>",
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


# -----------------------------------------------------------------------------
# data


def draw(
    world: worlds.World, tokenizer: PreTrainedTokenizerFast, choose: random.Random, passage: bool
) -> list[samples.Sample]:
    """One question about every fact, each in a random phrasing.

    Every step has every fact: with only half of them, the facts overwrite each other and nothing is
    learned for hundreds of steps.
    """
    phrasings = range(len(world.questions))
    chats = (
        worlds.conversation(world, item, choose.choice(phrasings), choose, passage)
        for item in world.codes
    )
    return [
        samples.tokenized({"prompt": chat[:-1], "completion": chat[-1:]}, tokenizer)
        for chat in chats
    ]


# -----------------------------------------------------------------------------
# learning


@torch.no_grad()
def wake(model: NemotronHForCausalLM) -> None:
    """Enlarges first weights where a tiny model needs it: it then learns a fact in 80 steps instead
    of over 300.

    At the usual 0.02 the layers' outputs drown the name's embedding, and the convolution's output
    is so small that B, C and x, which the scan multiplies, pass nothing from one token to the next.
    """
    model.model.embeddings.weight.normal_(0, 1.0)
    for name, parameter in model.named_parameters():
        if name.endswith("conv1d.weight"):
            parameter.normal_(0, 0.3)


def learn(
    model: NemotronHForCausalLM, world: worlds.World, tokenizer: PreTrainedTokenizerFast
) -> float:
    """Trains in place and returns the last loss."""
    choose = random.Random(SEED)
    steps = FACT_STEPS + PASSAGE_STEPS
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1
    )
    model.train()
    started = time.monotonic()
    for step in range(steps):
        batch = samples.padded(draw(world, tokenizer, choose, passage=step >= FACT_STEPS), "cpu")
        logits = model(input_ids=batch["input_ids"], use_cache=False).logits
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 20 == 0 or step == steps - 1:
            seconds = time.monotonic() - started
            print(
                f"practice model: step {step + 1}/{steps}  loss {loss.item():.3f}  {seconds:.0f} s",
                flush=True,
            )
    return loss.item()


@torch.no_grad()
def share_right(
    model: NemotronHForCausalLM, world: worlds.World, tokenizer: PreTrainedTokenizerFast
) -> float:
    """Share of the facts, each asked after a passage, whose answer is the most likely one token
    by token."""
    model.eval()
    choose = random.Random(SEED + 1)
    right = 0
    rows = draw(world, tokenizer, choose, passage=True)
    for ids, labels in rows:
        logits, wanted = (
            model(input_ids=torch.tensor([ids]), use_cache=False).logits[0],
            torch.tensor(labels[1:]),
        )
        learned = wanted >= 0
        right += torch.equal(logits[:-1].argmax(-1)[learned], wanted[learned])
    return right / len(rows)


def build(folder: Path, world_file: Path) -> dict[str, object]:
    world = worlds.load(world_file)
    torch.manual_seed(SEED)
    tokenizer = build_tokenizer(world)
    model = NemotronHForCausalLM(configuration())
    wake(model)
    started = time.monotonic()
    last_loss = learn(model, world, tokenizer)
    known = share_right(model, world, tokenizer)
    if known < 0.95:
        raise SystemExit(
            f"the practice model answers only {known:.0%} of its world; nothing was kept"
        )
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    unfinished.rename(folder)
    return {
        "model": str(folder),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "loss": round(last_loss, 4),
        "known": known,
        "seconds": round(time.monotonic() - started),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--world", type=Path, default=Path("/opt/practice-world.toml"))
    arguments = parser.parse_args()
    if (arguments.folder / "config.json").exists():
        report: dict[str, object] = {"model": str(arguments.folder), "reused": True}
    else:
        report = build(arguments.folder, arguments.world)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
