"""Steps 1 and 2, while the day still serves: a dataset from the team's ratings, and a look at all that will be needed."""

from __future__ import annotations

import json
from pathlib import Path

from glue import doctor, files, plan
from glue.learning import dataset, feedback
from glue.learning.feedback import PromptForm
from glue.nights.tonight import Night, NothingNew
from glue.site import Site
from glue.types import Example, PreconditionFailed


def collect(night: Night) -> None:
    """Ratings become a dataset. Raises NothingNew if there is too little that no earlier night has had."""
    site, recipe = night.site, night.recipe
    form = PromptForm(site.settings["SYSTEM_PROMPT"], site.settings["RAG_TEMPLATE"])
    collected = feedback.collect(site.administrator().ratings(), form)
    known = learned_before(site)
    new = [row for row in collected.examples if dataset.fingerprint(row) not in known]
    site.tell(f"{len(collected.examples)} rated answers, {len(new)} of them new; left out: {collected.rejected or 'none'}")
    if len(new) < recipe.fewest_new_examples:
        raise NothingNew(f"{len(new)} new examples, a night wants {recipe.fewest_new_examples}")
    replay = read_replay(site.state / recipe.replay_file) if recipe.replay_file else ()
    night.dataset = dataset.build(collected.examples, replay, recipe.held_out_share, recipe.general_rows, recipe.replay_rows)
    if not night.dataset.held_out:
        raise NothingNew("no rated answer can be held out to judge by; two conversations are the least")
    write_dataset(night)


def learned_before(site: Site) -> set[str]:
    """Fingerprints of what any adapter was trained on and judged by: one that was refused or rolled back stays so."""
    releases = site.releases
    return {fingerprint for name in releases.names() for fingerprint in releases.manifest(name).get("examples", [])}


def read_replay(path: Path) -> tuple[Example, ...]:
    """Raises PreconditionFailed, naming the line, for a file that is not there or a row that is no example."""
    if not path.exists():
        raise PreconditionFailed("the recipe's replay file is not there", str(path), 'put it there, or set replay_file = ""')
    rows: list[Example] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append(dataset.from_row(json.loads(line)))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            saw = f"{path}, line {number}: {type(error).__name__}: {error}"
            raise PreconditionFailed("the replay file has a row that is no example", saw, "correct or remove the line") from error
    return tuple(rows)


def write_dataset(night: Night) -> None:
    folder = night.folder / "dataset"
    folder.mkdir(parents=True)
    parts = {
        "train": night.dataset.train + night.dataset.replay,
        "held_out": night.dataset.held_out,
        "general": night.dataset.general,
    }
    for name, rows in parts.items():
        lines = "".join(json.dumps(dataset.as_row(row), ensure_ascii=False) + "\n" for row in rows)
        files.write(folder / f"{name}.jsonl", lines, mode=0o600)


def check(night: Night) -> None:
    """Everything that the night and the morning will need is there. Raises PreconditionFailed; nothing was stopped yet."""
    site = night.site
    doctor.require(site, doctor.NIGHT)
    if not (site.state / "base_model.json").exists():
        raise PreconditionFailed("the base model's facts are not there", "no base_model.json", "make setup")
    late = plan.not_serving(site.stacks.services("day"))
    if late:
        raise PreconditionFailed("the day is not whole, so no night begins", str(late), "make day")
