"""Prepares a fresh clone for days and nights. Every step leaves alone what is complete, so setup
can be repeated at any time."""

from __future__ import annotations

import json
import os
import random
import re
import secrets
from dataclasses import asdict
from typing import Any

from glue.clients import chat_volume, host, one_shot
from glue.clients.docker import MOUNTED, Stacks
from glue.clients.site import Site, Tell
from glue.core import commands, files, lock, recipes, settings
from glue.core.errors import Misconfigured, PreconditionFailed
from glue.core.settings import REPOSITORY, SECRETS, Settings
from glue.machine import doctor, images
from glue.machine import models as machine_models
from glue.machine.checks import Grade
from glue.operations import airgap
from training import world as worlds

INSTALL_DEADLINE_SECONDS = 1800
KERNEL_CHECKS = ("training.checks.kernels", "training.checks.exactness")
KERNEL_CHECKS_SECONDS = 1800
READ_MODEL_SECONDS = 300
REPLAY_SEED = 11
OPEN_FOLDERS = ("adapters", "nights", "desk", "bench")
GENERAL_EXAMPLES = REPOSITORY / "env" / "replay.jsonl"


def ensure(profile: str | None, tell: Tell) -> Site:
    """Everything that `make day` and `make night` need. Returns the site with its secrets read."""
    # checks first: until they pass, only Docker itself may be installed
    ensure_docker(tell)
    site = open_site(profile, tell)
    doctor.require(site, doctor.SETUP)
    require_its_secrets(site)
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
        ensure_small_model(site)
    ensure_general_examples(site)
    ensure_base_facts(site)
    tell_what_is_left(site)
    return site


def tell_what_is_left(site: Site) -> None:
    """Prints the doctor's other findings: what a person still has to do."""
    rest = tuple(name for name in doctor.ALL if name not in doctor.SETUP)
    for found in doctor.examine(doctor.observe(site, rest), rest):
        if found.grade is not Grade.OK:
            site.tell(str(found))


def open_site(profile: str | None, tell: Tell) -> Site:
    chosen = settings.load(profile)
    return Site(chosen, Stacks(chosen), tell)


def require_its_secrets(site: Site) -> None:
    """Raises PreconditionFailed if there is a chat and its secrets are lost: new ones would lock
    everyone out."""
    if "WEBUI_ADMIN_PASSWORD" in site.settings.values:
        return
    if not chat_volume.holds_people(site.settings, site.stacks):
        return
    volume = site.stacks.volumes(chat_volume.VOLUME)[0]
    file = site.settings.secrets_file
    saw = f"the volume {volume} holds a chat, and {file} has no WEBUI_ADMIN_PASSWORD"
    do = (
        "check that the disk of STATE_DIR is mounted and is the right folder;"
        " or make restore REPLACE=1 FROM=<a backup>;"
        " or write WEBUI_ADMIN_PASSWORD=<the administrator's password> into that file, then make"
        f" setup; or delete the chat: docker volume rm {volume}"
    )
    raise PreconditionFailed("the secrets of this chat are missing", saw, do)


def ensure_docker(tell: Tell) -> None:
    """Runs scripts/install-docker.sh. Raises PreconditionFailed with the script's own error."""
    script = REPOSITORY / "scripts" / "install-docker.sh"

    def hear(line: str) -> None:
        if line.startswith("docker:"):
            tell(line)

    command, environment = ["bash", str(script)], dict(os.environ)
    code, last_lines = commands.stream(command, environment, hear, INSTALL_DEADLINE_SECONDS)
    if code != 0:
        raise told_by(last_lines) or PreconditionFailed(
            "Docker Engine and Compose v2 are needed", last_lines, f"bash {script}"
        )


def told_by(last_lines: str) -> PreconditionFailed | None:
    """The error that one of our scripts printed in three lines; None where it printed none."""
    found = re.search(r"^ERROR 10: (.*)\n  saw:  (.*)\n  do:   (.*)", last_lines, re.MULTILINE)
    return PreconditionFailed(*found.groups()) if found else None


def ensure_state(chosen: Settings, tell: Tell) -> None:
    """The state folder, and secrets that only its owner can read."""
    for name in OPEN_FOLDERS:
        files.make_folder(chosen.state / name)
        (chosen.state / name).chmod(0o755)  # containers read here as other users
    missing = [key for key in SECRETS if key not in chosen.values]
    if not missing:
        return
    kept = settings.read_env_file(chosen.secrets_file) if chosen.secrets_file.exists() else {}
    kept |= {key: secrets.token_urlsafe(32) for key in missing}
    text = "".join(f"{key}={value}\n" for key, value in kept.items())
    files.write(chosen.secrets_file, text, mode=0o600)
    tell(f"secrets written to {chosen.secrets_file}, readable by their owner only")


# ---------------------------------------------------------------------- images


def ensure_images(site: Site) -> None:
    """All of them; but on a Spark the trainer's, which ensure_night_image builds."""
    if airgap.are_loaded(site):
        return
    if site.settings.rehearsal:
        images.build_rehearsal_images(site.settings, site.tell)
        return
    for reference in site.stacks.missing_images(site.settings.images):
        if reference != site.settings["TRAINER_IMAGE"]:
            images.pull(reference, site.tell)


def ensure_night_base_runs(site: Site) -> None:
    """Runs one kernel in the trainer's base image before 80 GB are fetched: its CUDA may be newer
    than the driver's. Raises PreconditionFailed.

    NVIDIA's start-up script would say so, but a night does not run it
    (https://github.com/eugr/spark-vllm-docker/issues/266). CUDA 13.2 on driver 580:
    https://github.com/NVIDIA/nvbandwidth/issues/61.
    """
    base = site.settings["NIGHT_BASE_IMAGE"]
    trainer = site.settings.image("TRAINER_IMAGE")
    if site.settings.rehearsal or not site.stacks.missing_images((trainer,)):
        return
    if site.stacks.missing_images((base,)):
        images.pull(base, site.tell)
    site.tell(f"running a kernel in {base}")
    code, last_lines = images.run_kernel(base)
    if code != 0:
        other = f"NIGHT_BASE_IMAGE={site.settings['CUDA_13_0_BASE_IMAGE']} in env/site.env"
        do = (
            f"set {other} (CUDA 13.0), or update the driver (nvidia-smi shows the CUDA version that"
            " it supports); then make setup"
        )
        what = "the trainer's base image cannot use this machine's GPU"
        raise PreconditionFailed(what, f"{base}: {last_lines}", do)
    site.tell(last_lines.rpartition("\n")[2])


def ensure_night_image(site: Site) -> None:
    """Builds it if it is missing: its tag in env/images.env changes with images/trainer."""
    if site.stacks.missing_images((site.settings.image("TRAINER_IMAGE"),)):
        images.build_night_image(site.settings, site.tell)


def ensure_kernels(site: Site) -> None:
    """Tests a new image's compiled code on this GPU until it passes: what is right on one can be
    wrong on another."""
    if site.settings.rehearsal:
        return
    passed = site.state / "kernels-passed.json"
    image = site.stacks.image_id(site.settings.image("TRAINER_IMAGE"))
    if files.read_json_if_whole(passed, {}) == {"image": image}:
        return
    for module in KERNEL_CHECKS:
        site.tell(f"comparing the new kernels with plain PyTorch: {module}")
        what = "the trainer's kernels compute wrong results on this GPU"
        run_job(site, module, what=what, do="docs/administrator.md", seconds=KERNEL_CHECKS_SECONDS)
    files.write_json(passed, {"image": image})


def run_job(site: Site, *command: str, what: str, do: str, seconds: float) -> dict[str, Any]:
    """Under the night's lock: without it, reconcile would stop the trainer."""
    with lock.hold(site.state, lock.TRAINING, command[0]):
        return one_shot.run(site.stacks, *command, what=what, do=do, timeout_seconds=seconds)


# ---------------------------------------------------------------------- volumes and models


def open_volumes(site: Site) -> None:
    """The trainer and vLLM can write their caches: a new volume belongs to root, an old one to the
    state folder's owner of then."""
    # the container's root has no privileges: FOWNER is for chmod on what has another owner
    capabilities = ("CHOWN", "DAC_READ_SEARCH", "FOWNER")
    rights = [part for name in capabilities for part in ("--cap-add", name)]
    run = ("run", "--rm", "--no-TTY", "--user", "0:0", *rights)
    models = ("--entrypoint", "chmod", "trainer", "1777", "/cache", "/models")
    site.stacks.compose("night", *run, *models)
    volume = ("--volume", f"{site.settings['PROJECT']}-serving-cache:/serving-cache")
    caches = ("trainer", "-R", site.stacks.owner(), "/cache", "/serving-cache")
    site.stacks.compose("night", *run, *volume, "--entrypoint", "chown", *caches)


def ensure_small_model(site: Site) -> None:
    """A rehearsal's model in its volume; of the practice model also what it knows, as general
    examples."""
    if not airgap.are_loaded(site):  # a bundle brings its models
        images.copy_model(site.settings)
    if site.settings.model_image == "REHEARSAL_MODEL_IMAGE":
        ensure_replay(site)


def ensure_replay(site: Site) -> None:
    """What the practice model knows, as general examples. A real site has a file of its own in the
    same form."""
    world = worlds.load(REPOSITORY / "env" / "practice-world.toml")
    choose = random.Random(REPLAY_SEED)
    rows = [
        world_row(world, item, phrasing, choose)
        for item in world.codes
        for phrasing in range(world.questions_seen_at_night)
    ]
    files.write(site.state / "replay.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def world_row(
    world: worlds.World, item: str, phrasing: int, choose: random.Random
) -> dict[str, Any]:
    """One example, as images/trainer/learning/dataset/split.py reads it."""
    *prompt, answer = worlds.conversation(world, item, phrasing, choose, passage=True)
    return {
        "prompt": prompt,
        "completion": [answer],
        "source": "practice world",
        "conversation": f"practice {item} {phrasing}",
    }


def ensure_general_examples(site: Site) -> None:
    """The general examples of the release, where the site has none. They are never overwritten."""
    own = site.state / "replay.jsonl"
    if not own.exists():
        files.write(own, GENERAL_EXAMPLES.read_text(encoding="utf-8"))
        site.tell(
            f"general examples written to {own}. These are a few neutral ones; a larger file of"
            " your own protects more of what the model knows"
        )


def ensure_base_facts(site: Site) -> None:
    """state/base_model.json: the shape that an adapter must fit."""
    path, name = site.state / "base_model.json", site.settings["TRAINED_MODEL"]
    before = files.read_json_if_whole(path, {})
    if before.get("name") == name and "places" in before:  # an earlier version wrote none
        return
    site.tell("reading the base model's shape")
    what = "the base model cannot be read"
    command = ("training.describe", name)
    facts = run_job(site, *command, what=what, do="make setup", seconds=READ_MODEL_SECONDS)
    files.write_json(path, facts)


# ---------------------------------------------------------------------- recipes

TARGETS = ("rank", "target_modules", "target_parameters", "layers")


def show(site: Site, name: str) -> dict[str, Any]:
    """What a recipe trains. Raises Misconfigured if one of its targets or layers matches nothing in
    the model."""
    recipe = asdict(recipes.load(REPOSITORY / "env" / "recipes", name))
    facts = one_shot.run(
        site.stacks,
        "training.count_parameters",
        json.dumps({key: recipe[key] for key in TARGETS}),
        site.settings["TRAINED_MODEL"],
        what="the recipe's parameters cannot be counted",
        do="make setup",
        timeout_seconds=READ_MODEL_SECONDS,
    )
    if facts["unmatched"]:
        what = "the recipe has targets that the model does not have"
        raise Misconfigured(what, f"{name}: {facts['unmatched']}", "correct the recipe")
    kept = {key: recipe[key] for key in ("name", "engine", "serve", "rank")}
    return kept | {key: facts[key] for key in ("total_parameters", "trainable_parameters")}
