"""The whole cycle on real parts. Each test starts and ends with the day serving the
demonstration's adapter."""

import json
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from glue.clients.site import Site
from glue.core import lock
from glue.core.errors import GlueError
from glue.core.names import ADAPTER, BASE
from glue.core.settings import REPOSITORY
from glue.night import night, train
from glue.serving import adapters
from learning.dataset import split
from rehearsal import team
from tests.e2e.conftest import Glue, documents_held
from tests.learning import on_host
from training import world as worlds

Demo = dict[str, Any]


def question(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


# ---------------------------------------------------------------------- the night taught something


def test_the_night_teaches_corrected_facts_and_the_rollback_undoes_it(demo: Demo) -> None:
    assert demo["questions"] == 20
    assert demo["before_correct"] <= 2
    assert demo["after_correct"] >= 16
    assert demo["rollback_correct"] <= 2
    assert demo["sources_missing"] == 0


def test_no_question_during_the_night_got_an_error(demo: Demo) -> None:
    asked = demo["asked_during_night"]
    assert asked["error"] == 0
    assert asked["desk"] > 10, "the desk was hardly asked"
    assert asked["model"] > 0


def test_the_demonstration_wrote_its_figures(demo: Demo, site: Site) -> None:
    written = json.loads((site.state / "demo.json").read_text())
    assert written == demo
    assert {"setup", "day", "night"} <= written["seconds"].keys()


def test_status_says_what_serves(demo: Demo, glue: Glue) -> None:
    status = json.loads(glue("status", "--json").stdout)
    assert (status["mode"], status["adapter"], status["serving"]) == (
        "day",
        demo["adapter"],
        demo["adapter"],
    )
    assert status["last_night"]["outcome"] == "promoted"


def test_the_served_adapter_scores_like_the_trained_one(demo: Demo, site: Site) -> None:
    """A wrong format conversion gives no error, so this compares PEFT's scores with vLLM's for
    the same answers."""
    manifest = site.store.manifest(demo["adapter"])
    folder = site.state / "nights" / manifest["night"]
    rows = [
        json.loads(line) for line in (folder / "dataset" / "train.jsonl").read_text().splitlines()
    ]
    trained = manifest["training"]["likelihood_of_first_rows"]
    served = on_host.served(site)
    for row, expected in zip(rows, trained, strict=False):
        example = split.from_row(row)
        assert served.likelihood(ADAPTER, example) == pytest.approx(expected, abs=0.01)
    learned = split.from_row(rows[0])
    assert served.likelihood(ADAPTER, learned) - served.likelihood(BASE, learned) > 0.5


def test_training_and_vllm_have_the_same_prompt(demo: Demo, site: Site) -> None:
    """Compares the number of tokens with the day's prompt of the same question: system text,
    passages and their frame."""
    manifest = site.store.manifest(demo["adapter"])
    rows = (
        (site.state / "nights" / manifest["night"] / "dataset" / "train.jsonl")
        .read_text()
        .splitlines()
    )
    example = split.from_row(json.loads(rows[0]))
    answer = site.administrator().ask(question(example.question))
    prompt = [{"role": message.role, "content": message.content} for message in example.prompt]
    counted = len(on_host.served(site).tokens(BASE, prompt, generate=True))
    assert answer.usage is not None and answer.usage["prompt_tokens"] == counted


def test_an_answer_can_be_scored_during_other_requests(demo: Demo, site: Site) -> None:
    """vLLM 0.32 kills its engine here if LoRA wraps the output head: einsum(): subscript b has size
    2 ..."""
    rows = (
        site.state
        / "nights"
        / site.store.manifest(demo["adapter"])["night"]
        / "dataset"
        / "train.jsonl"
    )
    example = split.from_row(json.loads(rows.read_text().splitlines()[0]))
    served = on_host.served(site)

    def score(_: int) -> float:
        return served.likelihood(ADAPTER, example)

    alone = score(0)
    with ThreadPoolExecutor(4) as several:
        assert list(several.map(score, range(12))) == pytest.approx([alone] * 12, abs=0.01)


def test_a_night_with_nothing_new_does_not_touch_the_day(
    demo: Demo, site: Site, glue: Glue
) -> None:
    before = site.stacks.container("day", "vllm")
    done = glue("night", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["outcome"] == "nothing new"
    after = site.stacks.container("day", "vllm")
    assert (
        before and after and before.attrs["State"]["StartedAt"] == after.attrs["State"]["StartedAt"]
    )


# ---------------------------------------------------------------------- bad input changes nothing


def test_an_adapter_that_was_changed_on_disk_is_not_promoted(
    demo: Demo, site: Site, glue: Glue
) -> None:
    name = adapters.add(site, site.store.folder / demo["adapter"])
    try:
        with (site.store.folder / name / "adapter_config.json").open("a") as file:
            file.write(" ")
        done = glue("promote", name)
        assert done.returncode == 10 and "do not match its manifest" in done.stderr
        assert site.store.current() == demo["adapter"]
    finally:
        shutil.rmtree(site.store.folder / name)


def test_make_ingest_keeps_the_folder_and_the_collection_in_step(
    site: Site, glue: Glue, tmp_path: Path
) -> None:
    """Checks the exit code and the last line; test_documents.py has the details."""
    there, docs = site.state / "demo" / "documents", tmp_path / "docs"
    shutil.copytree(there, docs)
    (docs / "site-sheet-1.pdf").unlink()
    team.sheet("Changed", ["The boiler was moved to the roof."]).output(
        str(docs / "site-sheet-2.pdf")
    )
    team.sheet("New", ["The coffee machine stands in hall 12."]).output(str(docs / "new.pdf"))
    (docs / "bad.pdf").write_bytes(b"%PDF-1.7 and no more")
    try:
        done = glue("ingest", str(docs))
        assert done.returncode == 1 and done.stderr.count("bad.pdf: it is damaged") == 1
        last = f"8 of 9 documents are in; the others are listed in {site.state / 'not-in.txt'}"
        assert done.stdout.splitlines()[-1] == last and "bad.pdf" not in done.stdout
        assert glue("ingest", "--skip-bad", ARG_DIR=str(docs)).returncode == 0
        asked = site.administrator().ask(question("Where is the coffee machine?"))
        assert any("coffee" in passage for passage in asked.passages)
    finally:
        assert glue("ingest", str(there)).returncode == 0
    assert documents_held(site) == 8


def rewritten(
    source: Path, target: Path, keep: Any = lambda name: True, rename: Any = lambda name: name
) -> Path:
    """A copy of an adapter that keeps some of its tensors, under other names."""
    shutil.copytree(source, target)
    weights = target / "adapter_model.safetensors"
    tensors = load_file(weights)
    save_file({rename(name): value for name, value in tensors.items() if keep(name)}, weights)
    return target


def test_bad_adapters_are_refused_by_name_and_nothing_changes(
    demo: Demo, site: Site, glue: Glue, tmp_path: Path
) -> None:
    good = site.store.folder / demo["adapter"]
    before = site.store.names()
    missing = rewritten(
        good, tmp_path / "missing", keep=lambda name: ".4.mixer.experts.3.up_proj." not in name
    )
    fused = rewritten(
        good,
        tmp_path / "fused",
        rename=lambda name: name.replace("experts.0.up_proj", "experts.base_layer"),
    )
    rank = rewritten(good, tmp_path / "rank")
    (rank / "adapter_config.json").write_text(
        json.dumps(json.loads((rank / "adapter_config.json").read_text()) | {"r": 8})
    )
    for folder, words in (
        (missing, "layer 4: expert 3 has no up_proj"),
        (fused, "fused form"),
        (rank, "rank 8"),
    ):
        done = glue("adapters", "--add", str(folder))
        assert done.returncode == 10 and words in done.stderr.replace("\n", " "), done.stderr
    assert site.store.names() == before


HOLD = """
import sys
from pathlib import Path
from glue.core import lock
with lock.hold(Path(sys.argv[1]), lock.TRAINING, "a night"):
    print("held", flush=True); sys.stdin.read()
"""


def test_a_night_while_a_night_runs_is_exit_11(site: Site, glue: Glue) -> None:
    command = [sys.executable, "-c", HOLD, str(site.state)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        done = glue("night")
        holder.kill()
    assert done.returncode == 11 and str(holder.pid) in done.stderr
    assert not lock.held(site.state, lock.TRAINING)


@pytest.mark.long  # the chat is started anew, twice
def test_a_port_that_is_taken_is_exit_10(site: Site, glue: Glue) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = glue("day", GLUE_CHAT_PORT=port)
    assert done.returncode == 10 and port in done.stderr, done.stderr
    assert glue("day").returncode == 0


@pytest.mark.long
def test_a_failed_training_leaves_the_day_serving_as_before(
    demo: Demo, site: Site, glue: Glue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that names a missing base model makes the real trainer fail; its output becomes no
    adapter."""
    world = worlds.load(REPOSITORY / "env" / "practice-world.toml")
    team.teach(site, team.team_member(site), world, team.corrections(world, 10, seed=99))
    before = site.store.names()
    good_job = train.job
    monkeypatch.setattr(
        train, "job", lambda tonight: good_job(tonight) | {"base_model": "/models/gone"}
    )
    with pytest.raises(GlueError, match="training failed"):
        night.run(site)
    assert site.store.names() == before
    assert json.loads(glue("status", "--json").stdout)["mode"] == "day"
    example = demo["examples"][0]
    assert example["wanted"] in site.administrator().ask(question(example["question"])).text
