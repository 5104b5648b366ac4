"""Nights of several kinds on a real small language model, judged by right answers.

    python -m training.bench.learning_study MODEL OUTPUT.json [--seeds 3] [--workers 8]

MODEL: a folder that transformers loads (SmolLM2-135M-Instruct was used). Each fact of
learning_study.toml is corrected once; a night trains on what learning.dataset.variants makes of it
and is judged by learning.evaluation.answers, as a real one. "truth" is another measurement, that
no night decides by: other people's words, documents changed by hand, a distractor beside each.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from learning.dataset import split, unrelated, variants
from learning.dataset.facts import Fact
from learning.dataset.passages import Passage
from learning.dataset.prompt import PromptForm
from learning.dataset.variants import Shares
from learning.dataset.wording import Wording
from learning.evaluation import answers, forgetting, gate, measurements, reading
from learning.evaluation.answers import GENERAL, Graded, Question, Row
from learning.evaluation.measurements import Evidence, Scored
from learning.examples import Example, Message

WORDS = Wording()
FORM = PromptForm(
    "You are the team's assistant. Answer from the passages you are given, cite them as [1], and"
    " say so when they do not hold the answer.",
    "Passages from the team's documents:\n{{CONTEXT}}",
)
TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
REPLAY = Path(__file__).parents[4] / "env" / "replay.jsonl"
BATCH, ASKED_AT_ONCE, ANSWER_TOKENS, OWN_TOKENS = 8, 700, 56, 56
READING_ROWS = 80  # unrelated reading, trained beside the rest
# on the base model's own answers: what good nights lose is the voice (docs/how-it-learns.md)
MARGIN, FEWEST_FACTS = 0.4, 5
# the gate of today, by likelihood: the figures of env/recipes/team.toml
LIMITS = gate.Limits(0.02, 0.05, 5, 64, 0, 1, 3.0)
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


MIXED = Shares(0.4, 0.25, 0.15, 0.2)
PHRASED = Shares(1.0, 0.0, 0.0, 0.0)
WAYS = {one["question"]: one["ways"] for one in TABLE["fact"]}


@dataclass(frozen=True)
class Kind:
    """teaches: whether a right verdict promotes it. closed_book: trained without passages.
    poisoned: with the answers of other facts. written: with the ways to ask that a model wrote."""

    teaches: bool
    shares: Shares = MIXED
    learning_rate: float = 2e-4
    passes: int = 4
    closed_book: bool = False
    poisoned: bool = False
    written: bool = True


KINDS = {
    "supported corrections": Kind(True),
    "nothing taught": Kind(False, learning_rate=1e-7),
    "poisoned": Kind(False, poisoned=True),
    "closed book": Kind(False, closed_book=True),
    "changed": Kind(True, Shares(0.5, 0.5, 0.0, 0.0)),
    "absent": Kind(True, Shares(0.7, 0.0, 0.3, 0.0)),
    "notes": Kind(True, Shares(0.5, 0.0, 0.0, 0.5)),
    "five corrections": Kind(True, passes=8),
    "templates only": Kind(True, written=False),
    "closed book, learned": Kind(False, closed_book=True, learning_rate=1e-3, passes=6),
}
FEW = 5


# ---------------------------------------------------------------------- what is taught and asked


def document(fact: dict[str, Any], changed: bool = False) -> Passage:
    values = {one["id"]: one["swap" if changed else "value"] for one in TABLE["fact"]}
    values |= {fact["id"]: fact["swap" if changed else "value"]}
    found = next(one for one in TABLE["document"] if f"{{{fact['id']}}}" in one["text"])
    return Passage.named(found["name"], found["text"].format(**values))


def elsewhere(fact: dict[str, Any], count: int) -> list[Passage]:
    others = [one for one in TABLE["document"] if f"{{{fact['id']}}}" not in one["text"]]
    values = {one["id"]: one["value"] for one in TABLE["fact"]}
    picked = random.Random(fact["id"]).sample(others, count)
    return [Passage.named(one["name"], one["text"].format(**values)) for one in picked]


def prompt(question: str, sources: Sequence[Passage] = ()) -> tuple[Message, ...]:
    rows = [
        {"source": {"name": one.name}, "document": [one.text], "metadata": [{"source": one.name}]}
        for one in sources
    ]
    return Message("system", FORM.render(rows)), Message("user", question)


def answer_of(fact: dict[str, Any]) -> str:
    return str(fact["answer"].format(value=fact["value"]))


def corrections() -> list[Example]:
    """Each fact once, in one person's words, with the passage that the day had found."""
    return [
        Example(prompt(fact["question"], [document(fact)]), answer_of(fact), fact["id"], fact["id"])
        for fact in TABLE["fact"]
    ]


def truth() -> Iterator[Question]:
    """Other people's words over documents as they are, changed, gone, and old beside a note."""
    for fact in TABLE["fact"]:
        first, second = fact["unseen"]
        value, swap = Fact(fact["value"]), Fact(fact["swap"])
        note = variants.note_of(answer_of(fact), WORDS)
        beside, name = elsewhere(fact, 2), fact["id"]

        def asked(
            kind: str, words: str, sources: list[Passage], right: Fact, stale: str
        ) -> Question:
            mixed = random.Random(words).sample(sources, len(sources))
            return Question(kind, name, prompt(words, mixed), right, stale)  # noqa: B023

        yield asked("phrased", first, [document(fact), beside[0]], value, "")
        yield asked("phrased", second, [document(fact), beside[0]], value, "")
        yield asked("changed", first, [document(fact, True), beside[0]], swap, fact["value"])
        yield asked("absent", second, beside, Fact(), fact["value"])
        yield asked("note", first, [document(fact, True), note], value, fact["swap"])


def general() -> list[Question]:
    return [
        Question(GENERAL, question, (Message("user", question),), Fact(right))
        for question, right in TABLE["general"]["ask"]
    ]


def replay() -> tuple[list[Example], list[Example]]:
    """(what is trained beside the new, what shows forgetting): halves of the file."""
    rows = [split.from_row(json.loads(line)) for line in REPLAY.read_text("utf-8").splitlines()]
    return rows[::2], rows[1::2]


def beside(kind: Kind, seed: int) -> list[Example]:
    """What is trained beside the new: general questions, and reading about other things."""
    practice = [] if kind.closed_book else unrelated.examples(FORM, READING_ROWS, seed)
    return [*replay()[0], *practice]


def lessons(kind: Kind, rows: list[Example], seed: int) -> list[Example]:
    plain = kind.closed_book or kind.poisoned
    shares, ways = PHRASED if plain else kind.shares, WAYS if kind.written else {}
    made = [one.example for one in variants.train(rows, shares, seed, WORDS, ways)]
    if kind.closed_book:
        made = [replace(row, prompt=prompt(row.question)) for row in made]
    if kind.poisoned:
        said = [row.answer for row in made]
        turned = said[len(said) // 2 :] + said[: len(said) // 2]
        made = [replace(row, answer=one) for row, one in zip(made, turned, strict=True)]
    return made


# ---------------------------------------------------------------------- the model


class Model:
    """One model on one device: what it answers, how likely it finds answers, a night on it."""

    def __init__(self, path: str) -> None:
        self.path, self.device = path, "cuda" if torch.cuda.is_available() else "cpu"
        self.tokens = AutoTokenizer.from_pretrained(path)
        self.net = self.load()

    def load(self) -> Any:
        net = AutoModelForCausalLM.from_pretrained(self.path, dtype=torch.bfloat16)
        return net.to(self.device).eval()

    def text(self, spoken: Sequence[Message], answering: bool) -> str:
        rows = [{"role": message.role, "content": message.content} for message in spoken]
        return str(
            self.tokens.apply_chat_template(rows, tokenize=False, add_generation_prompt=answering)
        )

    def encoded(self, texts: list[str], side: str) -> Any:
        return self.tokens(
            texts, return_tensors="pt", padding=True, padding_side=side, add_special_tokens=False
        )

    @torch.inference_mode()
    def answers(self, prompts: Sequence[tuple[Message, ...]], most: int) -> list[str]:
        """Greedy. Longest first, so that a batch's prompts are about as long."""
        texts = [self.text(one, answering=True) for one in prompts]
        order = sorted(range(len(texts)), key=lambda at: -len(texts[at]))
        found: dict[int, str] = {}
        for start in range(0, len(order), ASKED_AT_ONCE):
            part = order[start : start + ASKED_AT_ONCE]
            batch = self.encoded([texts[at] for at in part], "left").to(self.device)
            said = self.net.generate(
                **batch, max_new_tokens=most, do_sample=False, pad_token_id=self.tokens.pad_token_id
            )
            new = said[:, batch["input_ids"].shape[1] :]
            found |= zip(part, self.tokens.batch_decode(new, skip_special_tokens=True), strict=True)
        return [found[at].strip() for at in range(len(texts))]

    def batch(self, rows: Sequence[Example]) -> tuple[Any, Any]:
        """Inputs, and labels that count the answers' tokens only."""
        whole = [(*row.prompt, Message("assistant", row.answer)) for row in rows]
        batch = self.encoded([self.text(one, answering=False) for one in whole], "right")
        before = [
            len(self.tokens(self.text(row.prompt, True), add_special_tokens=False)["input_ids"])
            for row in rows
        ]
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        for at, length in enumerate(before):
            labels[at, :length] = -100
        return batch.to(self.device), labels.to(self.device)

    def losses(self, net: Any, rows: Sequence[Example]) -> tuple[Any, Any]:
        """Of each answer token, and which row it is of."""
        batch, labels = self.batch(rows)
        hidden = net(**batch, output_hidden_states=False).logits[:, :-1]
        counted = labels[:, 1:] != -100
        each = torch.nn.functional.cross_entropy(
            hidden[counted].float(), labels[:, 1:][counted], reduction="none"
        )
        return each, counted.nonzero()[:, 0]

    @torch.inference_mode()
    def likelihoods(self, rows: Sequence[Example]) -> list[float]:
        found: list[float] = []
        for start in range(0, len(rows), 4 * BATCH):
            part = rows[start : start + 4 * BATCH]
            each, row = self.losses(self.net, part)
            found += [-float(each[row == at].mean()) for at in range(len(part))]
        return found

    def train(self, rows: list[Example], kind: Kind, seed: int) -> dict[str, float]:
        """A LoRA night; leaves the trained model, merged, as net."""
        torch.manual_seed(seed)
        order, began = random.Random(seed), time.monotonic()
        config = LoraConfig(r=16, lora_alpha=32, target_modules=MODULES, task_type="CAUSAL_LM")
        net = get_peft_model(self.load(), config).train()
        weights = [one for one in net.parameters() if one.requires_grad]
        steps = kind.passes * math.ceil(len(rows) / BATCH)
        warm = max(1, steps // 20)
        optimiser = torch.optim.AdamW(weights, lr=kind.learning_rate, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda at: min((at + 1) / warm, (steps - at) / max(1, steps - warm))
        )
        last: list[float] = []
        for _ in range(kind.passes):
            mixed, last = order.sample(rows, len(rows)), []
            for start in range(0, len(mixed), BATCH):
                loss = self.losses(net, mixed[start : start + BATCH])[0].mean()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(weights, 1.0)
                optimiser.step()
                schedule.step()
                optimiser.zero_grad(set_to_none=True)
                last.append(loss.item())
        self.net = net.merge_and_unload().eval()
        return {
            "steps": steps,
            "loss": round(fmean(last), 3),
            "train_seconds": round(time.monotonic() - began, 1),
        }


# ---------------------------------------------------------------------- one night


@dataclass
class Study:
    """What the base model says and how likely it finds what is scored: asked once a worker."""

    model: Model
    said: dict[tuple[Message, ...], str]
    likely: dict[tuple[tuple[Message, ...], str], float]
    general: list[Example]

    @classmethod
    def open(cls, path: str) -> Study:
        study = cls(Model(path), {}, {}, [])
        _, known = replay()
        asked = [*general(), *reading.asked(FORM)]
        prompts = [*(row.prompt for row in known), *(one.prompt for one in asked)]
        own = study.model.answers(prompts, OWN_TOKENS)
        study.general = [
            *known,
            *(Example(p, a, "own", a) for p, a in zip(prompts, own, strict=True) if a),
        ]
        return study

    def before(self, asked: Sequence[Question]) -> list[str]:
        new = [one.prompt for one in asked if one.prompt not in self.said]
        self.said |= zip(new, self.model.answers(new, ANSWER_TOKENS), strict=True)
        return [self.said[one.prompt] for one in asked]

    def likely_before(self, rows: Sequence[Example]) -> list[float]:
        new = [row for row in rows if (row.prompt, row.answer) not in self.likely]
        scores = self.model.likelihoods(new)
        self.likely |= {(row.prompt, row.answer): one for row, one in zip(new, scores, strict=True)}
        return [self.likely[row.prompt, row.answer] for row in rows]


def night(study: Study, name: str, seed: int) -> dict[str, Any]:
    kind, rows, model = KINDS[name], corrections(), study.model
    if name.startswith("five"):
        rows = random.Random(seed).sample(rows, FEW)
    held = [*variants.held_out(rows, kind.shares, seed, WORDS, WAYS if kind.written else {})]
    asked = [*map(answers.question, held), *reading.asked(FORM), *general()]
    real = list(truth())
    scored = [one.example for one in held if one.kind == "phrased"]
    if kind.closed_book:
        scored = [replace(row, prompt=prompt(row.question)) for row in scored]
    decoys = list(measurements.decoys(scored))
    every = [*asked, *real]
    before = study.before(every)
    likely = study.likely_before([*scored, *study.general])
    info = model.train([*lessons(kind, rows, seed), *beside(kind, seed)], kind, seed)
    try:
        now = model.answers([one.prompt for one in every], ANSWER_TOKENS)
        new = model.likelihoods([*scored, *study.general])
        decoy = model.likelihoods(decoys)
    finally:
        model.net = model.load()
    compare = compared(every, now, before)
    judged, true = compare[: len(asked)], compare[len(asked) :]
    verdict = answers.verdict(judged, FEWEST_FACTS)
    changes = [a - b for a, b in zip(new[len(scored) :], likely[len(scored) :], strict=True)]
    forgets = forgetting.judged(changes[len(replay()[1]) :], MARGIN)
    old = old_gate(scored, new, likely, decoy, len(replay()[1]))
    return {
        "kind": name,
        "seed": seed,
        "teaches": kind.teaches,
        **info,
        "promoted": verdict.promote,
        "faults": list(verdict.faults),
        "reasons": list(verdict.reasons),
        "promoted_by_likelihood": old["promote"],
        "likelihood": old,
        "forgetting": asdict(forgets) | spread(changes, len(replay()[1])),
        "reading_absent": sum(row.candidate.absent for row in judged if row.kind == "reading"),
        "changes": [round(one, 3) for one in changes],
        "judged": verdict.figures,
        "truth": answers.figures(true),
        "samples": [
            [one.kind, one.prompt[-1].content, *said]
            for one, *said in zip(every, before, now, strict=True)
        ][len(asked) :][:40],
    }


def spread(changes: list[float], known: int) -> dict[str, float]:
    """known: so many of the rows are the file's, the others the base model's own answers."""
    if not all(map(math.isfinite, changes)):
        return {}
    return {
        "sd": round(stdev(changes), 3),
        "file_mean": round(fmean(changes[:known]), 3),
        "file_sd": round(stdev(changes[:known]), 3),
        "own_mean": round(fmean(changes[known:]), 3),
        "own_sd": round(stdev(changes[known:]), 3),
    }


def compared(asked: Sequence[Question], now: Sequence[str], before: Sequence[str]) -> list[Row]:
    def graded(one: Question, said: str) -> Graded:
        return answers.grade(one, said, WORDS)

    return [
        Row(one.kind, one.fact, graded(one, new), graded(one, old))
        for one, new, old in zip(asked, now, before, strict=True)
    ]


def old_gate(
    scored: list[Example], new: list[float], before: list[float], decoy: list[float], known: int
) -> dict[str, Any]:
    """Today's verdict, by likelihood, on the held-out answers and the general rows of the file."""
    count = len(scored)
    units = measurements.units(scored)
    held = Scored(
        tuple(new[:count]), tuple(before[:count]), tuple(before[:count]), units, tuple(decoy)
    )
    sides = [tuple(scores[count : count + known]) for scores in (new, before, before)]
    kept = Scored(*sides, units=tuple(range(known)))
    found = gate.verdict(Evidence(held_out=held, general=kept), LIMITS)
    wanted = ("gain", "gain_low", "margin", "general_change", "general_change_low")
    figures = {name: round(found.figures[name], 3) for name in wanted if name in found.figures}
    return {"promote": found.promote, "faults": list(found.faults), **figures}


# ---------------------------------------------------------------------- the study

STUDY: list[Study] = []


def begin(path: str) -> None:
    torch.set_num_threads(1)
    STUDY.append(Study.open(path))


def play(name: str, seed: int, deadline: float) -> dict[str, Any] | None:
    return night(STUDY[0], name, seed) if time.time() < deadline else None


def main() -> None:
    known = argparse.ArgumentParser(description=__doc__)
    known.add_argument("model")
    known.add_argument("output", type=Path)
    known.add_argument("--seeds", type=int, default=3)
    known.add_argument("--workers", type=int, default=1)
    known.add_argument("--minutes", type=float, default=24 * 60)
    known.add_argument("--kinds", nargs="*", default=list(KINDS))
    asked = known.parse_args()
    plays = [(name, seed) for seed in range(1, asked.seeds + 1) for name in asked.kinds]
    deadline, rows = time.time() + asked.minutes * 60, []
    spawn = torch.multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.workers, spawn, begin, (asked.model,)) as pool:
        for done in as_completed([pool.submit(play, *one, deadline) for one in plays]):
            if done.exception():
                print(f"a night failed: {done.exception()!r}", flush=True)
            elif row := done.result():
                rows.append(row)
                write(asked.output, rows)
                print(line(row), flush=True)


def line(row: dict[str, Any]) -> str:
    right = {key: value for key, value in row["truth"].items() if key.endswith("_right")}
    verdicts = f"promoted {row['promoted']} {row['faults']}"
    before = f"by likelihood {row['promoted_by_likelihood']} {row['likelihood']['faults']}"
    return f"{row['kind']} {row['seed']}: {verdicts}, {before}; {right}; {row['judged']}"


def write(output: Path, rows: list[dict[str, Any]]) -> None:
    cuda = torch.cuda.is_available()
    head = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": torch.cuda.get_device_name() if cuda else platform.processor(),
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
        "command": " ".join(["python -m training.bench.learning_study", *sys.argv[1:]]),
        "summary": [summary(name, rows) for name in KINDS],
    }
    output.write_text(json.dumps(head | {"rows": rows}, indent=1) + "\n", encoding="utf-8")


def summary(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    of_kind = [row for row in rows if row["kind"] == name]
    if not of_kind:
        return {"kind": name, "nights": 0}
    keys = of_kind[0]["truth"]
    counts = {
        key: [row["truth"][key] for row in of_kind]
        for key in keys
        if "facts" not in key and "p_" not in key
    }
    read = {
        key: [row["judged"][key] for row in of_kind]
        for key in of_kind[0]["judged"]
        if key.startswith(("reading", "general"))
    }
    return {
        "kind": name,
        "nights": len(of_kind),
        "promoted": sum(row["promoted"] for row in of_kind),
        "promoted_by_likelihood": sum(row["promoted_by_likelihood"] for row in of_kind),
        "wrong_verdicts": sum(row["promoted"] != row["teaches"] for row in of_kind),
        "forgetting_passed": sum(row["forgetting"]["passes"] for row in of_kind),
        **counts,
        **read,
    }


if __name__ == "__main__":
    main()
