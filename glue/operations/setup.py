"""From a fresh clone to a machine that can have days and nights. Safe to run again: what is there
is left alone."""

from __future__ import annotations

import json
import os
import random
import re
import secrets
from dataclasses import asdict
from typing import Any

from glue.clients import chat_volume, host
from glue.clients.docker import MOUNTED, Stacks
from glue.clients.site import Site, Tell
from glue.core import commands, files, lock, recipes, settings
from glue.core.errors import GlueError, Misconfigured, PreconditionFailed
from glue.core.settings import REPOSITORY, SECRETS, Settings
from glue.machine import doctor, images
from glue.machine import models as machine_models
from glue.machine.checks import Grade
from glue.operations import airgap
from learning.dataset import split
from learning.examples import Example, Message
from training import world as worlds

BUILD_DEADLINE_SECONDS = 1800
SELFTEST_SECONDS = 1800
REPLAY_SEED = 11
OPEN_FOLDERS = ("adapters", "nights", "desk", "bench")
GENERAL_EXAMPLES = REPOSITORY / "env" / "replay.jsonl"


def ensure(profile: str | None, tell: Tell) -> Site:
    """Everything that `make day` and `make night` stand on. Returns the site with its secrets
    read."""
    # pre-flight: nothing but Docker itself is changed yet
    ensure_docker(tell)
    site = open_site(profile, tell)
    doctor.require(site, doctor.SETUP)
    require_its_secrets(site)
    # from here on things are made
    if not site.settings.rehearsal:
        settings.remember_spark()
    host.open_to_containers(MOUNTED)
    ensure_state(site.settings, tell)
    site = open_site(profile, tell)
    ensure_night_base_runs(site)
    ensure_images(site)
    site.stacks.ensure_volumes()
    machine_models.ensure_models(site)
    ensure_night_image(site)
    open_volumes(site)
    ensure_kernels(site)
    if site.settings.rehearsal:
        ensure_practice_model(site)
    ensure_general_examples(site)
    ensure_base_facts(site)
    # what a person still has to do, beside what was told at first
    rest = tuple(name for name in doctor.ALL if name not in doctor.SETUP)
    for found in doctor.examine(doctor.observe(site, rest), rest):
        if found.grade is not Grade.OK:
            tell(str(found))
    return site


def open_site(profile: str | None, tell: Tell) -> Site:
    chosen = settings.load(profile)
    return Site(chosen, Stacks(chosen), tell)


def require_its_secrets(site: Site) -> None:
    """Raises PreconditionFailed where the chat is there and the state folder has lost its secrets:
    with new ones nobody could
    sign in."""
    if "WEBUI_ADMIN_PASSWORD" in site.settings.values or not chat_volume.holds_people(
        site.settings, site.stacks
    ):
        return
    volume = site.stacks.volumes(chat_volume.VOLUME)[0]
    saw = (
        f"{site.settings.secrets_file} has no WEBUI_ADMIN_PASSWORD, and the volume {volume} holds a"
        " chat"
    )
    do = (
        "see that the disk of STATE_DIR is mounted, or that it is the right folder; or make"
        " restore REPLACE=1 FROM=<a backup>; or write WEBUI_ADMIN_PASSWORD=<the administrator's"
        " password> into that file, then make setup; or, to give the chat up: docker volume rm"
        f" {volume}"
    )
    raise PreconditionFailed("the secrets of this chat are gone", saw, do)


def ensure_docker(tell: Tell) -> None:
    """Runs scripts/install-docker.sh, which says what it does. Raises PreconditionFailed with its
    words."""
    script = REPOSITORY / "scripts" / "install-docker.sh"

    def hear(line: str) -> None:
        if line.startswith("docker:"):
            tell(line)

    code, last_lines = commands.stream(
        ["bash", str(script)], dict(os.environ), hear, BUILD_DEADLINE_SECONDS
    )
    if code != 0:
        raise told_by(last_lines) or PreconditionFailed(
            "Docker Engine and Compose v2 are needed", last_lines, f"bash {script}"
        )


def told_by(last_lines: str) -> PreconditionFailed | None:
    """The error that a script of ours printed in three lines; None where it printed none."""
    found = re.search(r"^ERROR 10: (.*)\n  saw:  (.*)\n  do:   (.*)", last_lines, re.MULTILINE)
    return PreconditionFailed(*found.groups()) if found else None


def ensure_state(chosen: Settings, tell: Tell) -> None:
    """The state folder, and secrets that only its owner can read."""
    for name in OPEN_FOLDERS:
        files.make_folder(chosen.state / name)
        (chosen.state / name).chmod(0o755)  # containers run as others and read here
    missing = [key for key in SECRETS if key not in chosen.values]
    if missing:
        kept = settings.read_env_file(chosen.secrets_file) if chosen.secrets_file.exists() else {}
        kept |= {key: secrets.token_urlsafe(32) for key in missing}
        files.write(
            chosen.secrets_file,
            "".join(f"{key}={value}\n" for key, value in kept.items()),
            mode=0o600,
        )
        tell(f"secrets written to {chosen.secrets_file}, readable by their owner only")


def ensure_images(site: Site) -> None:
    """All of them, but for the night's on a Spark, which is built once the models are on their way
    in."""
    if airgap.are_loaded(site):
        return
    if site.settings.rehearsal:
        images.build_rehearsal_images(site.settings, site.tell)
        return
    for reference in site.stacks.missing_images(site.settings.images):
        if reference != site.settings["TRAINER_IMAGE"]:
            images.pull(reference, site.tell)


def ensure_night_base_runs(site: Site) -> None:
    """One kernel in the image that the night's is built on, before 80 GB are fetched: its CUDA may
    be newer than the driver's.

    NVIDIA's own start-up script would say so
    (https://github.com/eugr/spark-vllm-docker/issues/266), and a night does not
    start by it. CUDA 13.2 on driver 580: https://github.com/NVIDIA/nvbandwidth/issues/61. Raises
    PreconditionFailed.
    """
    base = site.settings["NIGHT_BASE_IMAGE"]
    if site.settings.rehearsal or not site.stacks.missing_images(
        (site.settings.image("TRAINER_IMAGE"),)
    ):
        return
    if site.stacks.missing_images((base,)):
        images.pull(base, site.tell)
    site.tell(f"running a kernel in {base}")
    code, last_lines = images.run_kernel(base)
    if code != 0:
        other = f"NIGHT_BASE_IMAGE={site.settings['CUDA_13_0_BASE_IMAGE']} in env/site.env"
        do = (
            f"set {other} (CUDA 13.0), or update the driver: nvidia-smi shows the CUDA version that"
            " it supports. Then make setup"
        )
        raise PreconditionFailed(
            "the night's base image cannot use this machine's GPU", f"{base}: {last_lines}", do
        )
    site.tell(last_lines.rpartition("\n")[2])


def ensure_night_image(site: Site) -> None:
    """Built where it is not there: its tag in env/images.env is another one whenever images/trainer
    is."""
    reference = site.settings.image("TRAINER_IMAGE")
    if site.stacks.missing_images((reference,)):
        images.build_night_image(site.settings, site.tell)


def ensure_kernels(site: Site) -> None:
    """Compiled code can be right on one GPU and wrong on another, so a new image's is tried where
    it runs, until it passes."""
    if site.settings.rehearsal:
        return
    passed = site.state / "kernels-passed.json"
    image = site.stacks.image_id(site.settings.image("TRAINER_IMAGE"))
    if files.read_json_if_whole(passed, {}) == {"image": image}:
        return
    for checks in ("training.checks.kernels", "training.checks.exactness"):
        run_checks(site, checks)
    files.write_json(passed, {"image": image})


def run_checks(site: Site, module: str) -> None:
    lines: list[str] = []
    site.tell(f"comparing the new kernels with plain PyTorch: {module}")
    with lock.hold(
        site.state, lock.NIGHT, "the kernels' tests"
    ):  # or the watch takes them for a trainer by day
        code = site.stacks.run_trainer(module, tell=lines.append, timeout_seconds=SELFTEST_SECONDS)
    if code != 0:
        raise GlueError(
            "the night's kernels do not compute what they should",
            "\n".join(lines[-10:]),
            "see docs/administrator.md, Setup",
        )


def open_volumes(site: Site) -> None:
    """A new volume is root's, and caches are yesterday's owner's; trainer and vLLM run as the state
    folder's owner of today."""
    # root has no power of its own in these containers: FOWNER is for the chmod of what an earlier
    # setup gave to the owner
    rights = [
        part for right in ("CHOWN", "DAC_READ_SEARCH", "FOWNER") for part in ("--cap-add", right)
    ]
    run = ("run", "--rm", "--no-TTY", "--user", "0:0", *rights)
    site.stacks.compose(
        "night", *run, "--entrypoint", "chmod", "trainer", "1777", "/cache", "/models"
    )
    caches = (
        "--volume",
        f"{site.settings['PROJECT']}-serving-cache:/serving-cache",
        "--entrypoint",
        "chown",
    )
    site.stacks.compose(
        "night", *run, *caches, "trainer", "-R", site.stacks.owner(), "/cache", "/serving-cache"
    )


def ensure_practice_model(site: Site) -> None:
    """Copies the practice model into its volume once, and writes what it knows as general
    examples."""
    if not airgap.are_loaded(site):  # a bundle brings its models
        images.copy_practice_model(site.settings)
    ensure_replay(site)


def ensure_replay(site: Site) -> None:
    """What the practice model knows, as general examples: a site gives a file of its own in the
    same form."""
    world = worlds.load(REPOSITORY / "env" / "practice-world.toml")
    choose = random.Random(REPLAY_SEED)
    rows = [
        split.as_row(world_example(world, item, phrasing, choose))
        for item in world.codes
        for phrasing in range(world.questions_seen_at_night)
    ]
    files.write(site.state / "replay.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def world_example(world: worlds.World, item: str, phrasing: int, choose: random.Random) -> Example:
    *prompt, answer = worlds.conversation(world, item, phrasing, choose, passage=True)
    messages = tuple(Message(row["role"], row["content"]) for row in prompt)
    return Example(messages, answer["content"], "practice world", f"practice {item} {phrasing}")


def ensure_general_examples(site: Site) -> None:
    """The few that come with the release, where the site has given none of its own: they are never
    written over."""
    own = site.state / "replay.jsonl"
    if not own.exists():
        files.write(own, GENERAL_EXAMPLES.read_text(encoding="utf-8"))
        site.tell(
            f"general examples written to {own}: few and neutral; a larger file of your own keeps"
            " more of what the model knows"
        )


def ensure_base_facts(site: Site) -> None:
    """state/base_model.json: what an adapter must fit."""
    path = site.state / "base_model.json"
    if files.read_json_if_whole(path, {}).get("name") == site.settings["TRAINED_MODEL"]:
        return
    lines: list[str] = []
    site.tell("reading the base model's shape")
    with lock.hold(site.state, lock.NIGHT, "a look at the base model"):
        code = site.stacks.run_trainer(
            "training.describe",
            site.settings["TRAINED_MODEL"],
            tell=lines.append,
            timeout_seconds=300,
        )
    if code != 0:
        raise GlueError("the base model cannot be read", "\n".join(lines[-10:]), "make setup")
    files.write_json(path, json.loads(lines[-1]))


COUNT_SECONDS = 300
TARGETS = ("rank", "target_modules", "target_parameters", "layers")


def show(site: Site, name: str) -> dict[str, Any]:
    """Raises Misconfigured for a recipe of which a target or a layer names nothing in the model."""
    recipe = asdict(recipes.load(REPOSITORY / "env" / "recipes", name))
    lines: list[str] = []
    targets = json.dumps({key: recipe[key] for key in TARGETS})
    site.stacks.run_trainer(
        "training.count_parameters", targets, tell=lines.append, timeout_seconds=COUNT_SECONDS
    )
    try:
        facts: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError) as error:
        raise GlueError(
            "the recipe could not be counted", "\n".join(lines[-10:]), "make setup"
        ) from error
    if facts["unmatched"]:
        raise Misconfigured(
            "a recipe has targets that the model has not",
            f"{name}: {facts['unmatched']}",
            "correct the recipe",
        )
    kept = {key: recipe[key] for key in ("name", "engine", "serve", "rank")}
    return kept | {key: facts[key] for key in ("total_parameters", "trainable_parameters")}
