"""The night's training as glue runs it, on a small model with random weights: stopped, continued
and judged."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import NemotronHForCausalLM

from training import engine, loop, night_rows, practice_model, train, vllm_format, world

WORLD = world.load(Path(__file__).parents[3] / "env" / "practice-world.toml")
DEADLINE_SECONDS = 240


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("base")
    model = NemotronHForCausalLM(practice_model.configuration())
    practice_model.wake(model)
    model.save_pretrained(folder)
    practice_model.build_tokenizer(WORLD).save_pretrained(folder)
    return folder


def write_job(folder: Path, base: Path, **changes: Any) -> Path:
    choose = practice_model.random.Random(2)
    rows = []
    for item in list(WORLD.codes)[:8]:
        *prompt, answer = conversation(item, choose)
        rows.append({"prompt": prompt, "completion": [answer]})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = {
        "base_model": str(base),
        "served_model": "served",
        "train_file": str(folder / "train.jsonl"),
        "output_folder": str(folder),
        "deadline_time": time.time() + 3600,
        "steps": 4,
        "rows_per_step": 4,
        "tokens_per_step": 512,
        "memory_bytes": 10**10,
        "learning_rate": 5e-3,
        "rank": 8,
        "alpha": 16,
        "longest_tokens": 256,
        "layers": [],
        "target_modules": [
            "q_proj",
            "k_proj",
            "v_proj",
            "o_proj",
            "in_proj",
            "up_proj",
            "down_proj",
        ],
        "target_parameters": ["mixer.experts.up_proj", "mixer.experts.down_proj"],
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job | changes))
    return path


def conversation(item: str, choose: Any) -> list[dict[str, str]]:
    return world.conversation(WORLD, item, 0, choose, passage=False)


def run(path: Path) -> dict[str, Any]:
    return train.run(train.Job(**json.loads(path.read_text())), train.wrapped, pack=False)


def start(path: Path) -> subprocess.Popen[bytes]:
    code = "from training import train; train.main(train.wrapped, False)"
    return subprocess.Popen([sys.executable, "-c", code, str(path)], env=os.environ)


def wait_for_step(folder: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    """Until progress.jsonl has the step. Fails if the trainer ends before."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    last = 0
    while last < step:
        assert time.monotonic() < deadline, f"step {last} after {DEADLINE_SECONDS} s, wanted {step}"
        assert process.poll() is None, f"the trainer ended at step {last}"
        time.sleep(0.2)
        last = max((row.get("step", 0) for row in progress(folder)), default=0)


def progress(folder: Path) -> list[dict[str, Any]]:
    path = folder / "progress.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def test_a_night_changes_every_tensor_of_its_adapter(base: Path, tmp_path: Path) -> None:
    done = run(write_job(tmp_path, base))
    assert done["outcome"] == "trained" and done["steps"] == 4 and done["packed"] is False, done
    assert done["rows_left_out"] == 0
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert len(tensors) == done["adapter_tensors"]
    assert all(tensor.any() for tensor in tensors.values())


def test_a_night_can_continue_an_adapter(base: Path, tmp_path: Path) -> None:
    first = run(write_job(tmp_path / "first", base))
    path = write_job(
        tmp_path / "second", base, begin_from=str(tmp_path / "first" / "adapter"), steps=2
    )
    model = train.wrapped(train.Job(**json.loads(path.read_text())))
    rows = train.first_rows(train.Job(**json.loads(path.read_text())))
    tokenizer = practice_model.PreTrainedTokenizerFast.from_pretrained(base)
    assert train.likelihoods(model, tokenizer, rows) == pytest.approx(
        first["likelihood_of_first_rows"], abs=1e-4
    )
    assert run(path)["loss_first"] < first["loss_first"]


def test_an_adapter_without_out_proj_can_be_continued(base: Path, tmp_path: Path) -> None:
    """A served file of the case study's targets has no out_proj: Mamba's fused kernel bypasses
    its adapter."""
    modules = json.loads(write_job(tmp_path, base).read_text())["target_modules"]
    model = train.wrapped(
        train.Job(
            **json.loads(
                write_job(tmp_path, base, target_modules=[*modules, "out_proj"]).read_text()
            )
        )
    )
    first = train.wrapped(train.Job(**json.loads(write_job(tmp_path, base).read_text())))
    first.save_pretrained(tmp_path / "peft")
    size = first.config
    served = vllm_format.per_expert(
        load_file(tmp_path / "peft" / "adapter_model.safetensors"),
        size.n_routed_experts,
        size.hidden_size,
        size.moe_intermediate_size,
    )
    assert not any("out_proj" in name for name in served)
    engine.begin_from(model, {name: tensor + 1 for name, tensor in served.items()})
    factors = {name: value for name, value in model.named_parameters() if "lora_B" in name}
    assert all(value.any() != ("out_proj" in name) for name, value in factors.items())


def test_an_adapter_with_a_missing_tensor_cannot_be_continued(base: Path, tmp_path: Path) -> None:
    model = train.wrapped(train.Job(**json.loads(write_job(tmp_path, base).read_text())))
    with pytest.raises(KeyError, match="lora_A"):
        engine.begin_from(model, {})


def test_sigterm_saves_what_was_learned(base: Path, tmp_path: Path) -> None:
    process = start(write_job(tmp_path, base, steps=100_000))
    wait_for_step(tmp_path, 3, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_SECONDS) == 0
    done = result(tmp_path)
    assert (
        done["outcome"] == "trained"
        and done["stopped_by_deadline"]
        and 3 <= done["steps"] < 100_000
    )
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize(("pack", "steps", "size"), [(False, 22, 3), (True, 21, 204)])
def test_few_rows_make_small_steps_and_not_few(
    base: Path, tmp_path: Path, pack: bool, steps: int, size: int
) -> None:
    """Eight rows of 64 tokens, at most four rows or 512 tokens a step, at most eight passes."""
    job = train.Job(**json.loads(write_job(tmp_path, base, steps=500, most_passes=8).read_text()))
    small = loop.schedule(job, [64] * 8, pack)
    assert (small.steps, small.size) == (steps, size)
    large = loop.schedule(job, [64] * 8000, pack)
    assert (large.steps, large.size) == (500, 512 if pack else 4)


def test_a_night_of_one_step_learns(base: Path, tmp_path: Path) -> None:
    done = run(write_job(tmp_path, base, steps=1))
    assert done["outcome"] == "trained" and done["steps"] == 1, done
    assert all(
        tensor.any()
        for tensor in load_file(tmp_path / "adapter" / "adapter_model.safetensors").values()
    )
    assert not list((tmp_path / "scratch").glob("checkpoint-*")), "nothing resumes one"


def test_a_night_trains_complete_rows_masked_up_to_the_answer(base: Path, tmp_path: Path) -> None:
    job = train.Job(**json.loads(write_job(tmp_path, base, steps=1).read_text()))
    tokenizer = practice_model.PreTrainedTokenizerFast.from_pretrained(base)
    rows = [json.loads(line) for line in Path(job.train_file).read_text().splitlines()]
    wanted = {row["completion"][0]["content"] + "<|im_end|>" for row in rows}
    made = [sample for _, sample in night_rows.read(Path(job.train_file), tokenizer)]
    for pack in (False, True):
        step = next(loop.batches(made, 8 if not pack else 4096, pack, seed=1))
        learned = {
            tokenizer.decode([token for token in labels if token >= 0]) for _, labels in step
        }
        assert learned == wanted


def test_a_pass_has_every_row_once_and_whole() -> None:
    rows = [
        ([number] * count, [number] * count) for number, count in enumerate((40, 64, 30, 9, 50))
    ]
    packs = loop.packs(rows, 64)
    assert sorted(len(ids) for pack in packs for ids, _ in pack) == [9, 30, 40, 50, 64]
    assert sorted(sum(len(ids) for ids, _ in pack) for pack in packs) == [30, 40, 59, 64]


def test_a_row_longer_than_a_pack_is_left_out(base: Path, tmp_path: Path) -> None:
    changes = {"longest_tokens": 256, "tokens_per_step": 64}
    job = train.Job(**json.loads(write_job(tmp_path, base, **changes).read_text()))
    rows = [({}, ([1] * count, [1] * count)) for count in (40, 64, 65, 200)]
    assert [len(ids) for _, (ids, _) in night_rows.fitting(rows, job, pack=True)] == [40, 64]
    assert [len(ids) for _, (ids, _) in night_rows.fitting(rows, job, pack=False)] == [
        40,
        64,
        65,
        200,
    ]


def test_a_row_with_a_wrong_rendering_is_refused_by_number(base: Path, tmp_path: Path) -> None:
    path = write_job(tmp_path, base)
    lines = (tmp_path / "train.jsonl").read_text().splitlines()
    lines[2] = lines[2].replace('"content": "The code', '"content": "<think>so</think>The code')
    (tmp_path / "train.jsonl").write_text("".join(line + "\n" for line in lines))
    done = run(path)
    assert done["outcome"] == "failed" and "row 3 of train.jsonl" in done["reason"]


def test_a_deadline_before_any_learning_is_a_failure(base: Path, tmp_path: Path) -> None:
    """A long run warms up, and its first step learns nothing."""
    done = run(write_job(tmp_path, base, steps=100, deadline_time=0.0))
    assert done["outcome"] == "failed" and "before it learned anything" in done["reason"]


def test_a_tensor_that_does_not_learn_fails_the_night_by_name(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def frozen(job: train.Job) -> Any:
        model = train.wrapped(job)
        for name, parameter in model.named_parameters():
            if "layers.3.mixer.v_proj.lora_B" in name:
                parameter.register_hook(torch.zeros_like)
        return model

    job = train.Job(**json.loads(write_job(tmp_path, base).read_text()))
    done = train.run(job, frozen, pack=False)
    assert done["outcome"] == "failed" and "layers.3.mixer.v_proj.lora_B" in done["reason"]


def test_too_long_rows_are_left_out_and_no_rows_left_is_a_failure(
    base: Path, tmp_path: Path
) -> None:
    done = run(write_job(tmp_path, base, longest_tokens=16))
    assert done["outcome"] == "failed" and "longest_tokens = 16" in done["reason"]
