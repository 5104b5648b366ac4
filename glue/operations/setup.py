"""Prepares a fresh clone. It can be repeated at any time: what is complete stays as it is."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glue.clients import chat_volume, host, jobs, one_shot
from glue.clients.docker import MOUNTED, Stacks
from glue.clients.jobs import Job
from glue.clients.site import Site, Tell
from glue.core import beside_plan, commands, env_files, files, lock, recipes, settings
from glue.core.errors import Misconfigured, PreconditionFailed, steps
from glue.core.model_files import COMPUTED
from glue.core.settings import BASE_FACTS, REPOSITORY, SECRETS, Settings
from glue.machine import doctor, images
from glue.machine import models as machine_models
from glue.machine.check_types import Grade
from glue.operations import airgap
from training import world_examples

INSTALL_DEADLINE_SECONDS = 1800
KERNEL_CHECKS = ("training.checks.kernels", "training.checks.exactness")
KERNEL_CHECKS_SECONDS = 1800
READ_MODEL_SECONDS = 300
OPEN_FOLDERS = ("adapters", "nights", "desk", "bench")
KERNEL_CODE = REPOSITORY / "images" / "trainer" / "training"
GENERAL_EXAMPLES = REPOSITORY / "env" / "replay.jsonl"


def ensure(profile: str | None, tell: Tell) -> Site:
    """Prepares all that `make day` and `make night` need. Returns the site with its secrets."""
    # checks first: until they pass, only Docker itself may be installed
    ensure_docker(tell)
    site = open_site(profile, tell)
    airgap.ensure_models_known(site.state)  # what is there already needs no disk
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
    machine_models.ensure_models(site, site.settings.needed_models(site.recipe().base))
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
    """Prints what a person still has to do."""
    rest = tuple(name for name in doctor.ALL if name not in doctor.SETUP)
    for found in doctor.examine(doctor.observe(site, rest), rest):
        if found.grade is not Grade.OK:
            site.tell(str(found))


def open_site(profile: str | None, tell: Tell) -> Site:
    chosen = settings.load(profile)
    return Site(chosen, Stacks(chosen), tell)


def require_its_secrets(site: Site) -> None:
    """Raises PreconditionFailed if a chat has lost its secrets: new ones lock everyone out."""
    kept = "WEBUI_ADMIN_PASSWORD" in site.settings.values
    if kept or not chat_volume.holds_people(site.settings, site.stacks):
        return
    volume, file = site.stacks.volumes(chat_volume.VOLUME)[0], site.settings.secrets_file
    saw = f"the volume {volume} holds a chat, and {file} has no WEBUI_ADMIN_PASSWORD"
    do = steps(
        "check that the disk of STATE_DIR is mounted",
        "or restore: make restore REPLACE=1 FROM=<a backup>",
        "or set WEBUI_ADMIN_PASSWORD there to the administrator's current password; make setup",
        f"or delete the chat (cannot be undone): docker volume rm {volume}",
    )
    raise PreconditionFailed("the secrets of this chat are missing", saw, do)


def ensure_docker(tell: Tell) -> None:
    """Runs scripts/install-docker.sh. Raises PreconditionFailed with its error."""
    script = REPOSITORY / "scripts" / "install-docker.sh"

    def hear(line: str) -> None:
        if line.startswith("docker:"):
            tell(line)

    command, environment = ["bash", str(script)], dict(os.environ)
    code, last_lines = commands.stream(command, environment, hear, INSTALL_DEADLINE_SECONDS)
    if code != 0:
        what = "Docker Engine and Compose v2 are needed"
        raise told_by(last_lines) or PreconditionFailed(what, last_lines, f"bash {script}")


def told_by(last_lines: str) -> PreconditionFailed | None:
    """The error that a script printed; None if it printed none."""
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
    kept = env_files.read_env_file(chosen.secrets_file) if chosen.secrets_file.exists() else {}
    kept |= {key: secrets.token_urlsafe(32) for key in missing}
    text = "".join(f"{key}={value}\n" for key, value in kept.items())
    files.write(chosen.secrets_file, text, mode=0o600)
    tell(f"secrets written to {chosen.secrets_file}, readable by their owner only")


# ---------------------------------------------------------------------- images


def ensure_images(site: Site) -> None:
    """Without the trainer image on a Spark, which ensure_night_image builds."""
    if airgap.are_loaded(site):
        return
    if site.settings.rehearsal:
        images.build_rehearsal_images(site.settings, site.tell)
        return
    for reference in site.stacks.missing_images(site.settings.images):
        if reference != site.settings["TRAINER_IMAGE"]:
            images.pull(reference, site.tell)


def ensure_night_base_runs(site: Site) -> None:
    """Runs one kernel in the trainer's base image before the models are downloaded: its CUDA may be
    newer than the driver. Raises PreconditionFailed.

    NVIDIA's start-up script would report it, but a night does not run that script
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
        do = f"set {other} (CUDA 13.0), or update the driver; then make setup"
        what = "the trainer's base image cannot use this machine's GPU"
        raise PreconditionFailed(what, f"{base}: {last_lines}", do)
    site.tell(last_lines.rpartition("\n")[2])


def ensure_night_image(site: Site) -> None:
    """Its tag in env/images.env changes with images/trainer."""
    if site.stacks.missing_images((site.settings.image("TRAINER_IMAGE"),)):
        images.build_night_image(site.settings, site.tell)


def ensure_kernels(site: Site) -> None:
    """Tests the compiled code of a new image, or of new code in it, on this GPU, until it passes
    once."""
    if site.settings.rehearsal:
        return
    passed = site.state / "kernels-passed.json"
    image = site.stacks.image_id(site.settings.image("TRAINER_IMAGE"))
    tested = {"image": image, "code": code_hash(KERNEL_CODE)}
    if files.read_json_if_whole(passed, {}) == tested:
        return
    for module in KERNEL_CHECKS:
        site.tell(f"comparing the new kernels with plain PyTorch: {module}")
        what = "the trainer's kernels compute wrong results on this GPU"
        run_job(site, module, what=what, do="docs/administrator.md", seconds=KERNEL_CHECKS_SECONDS)
    files.write_json(passed, tested)


def code_hash(folder: Path) -> str:
    """Of the kernels and their checks, which the trainer mounts: an upgrade changes them without a
    new image."""
    total = hashlib.sha256()
    for path in sorted([*folder.glob("*.py"), *folder.glob("checks/*.py")]):
        total.update(f"\n{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return total.hexdigest()


def run_job(site: Site, *command: str, what: str, do: str, seconds: float) -> dict[str, Any]:
    """Under the training lock: without it, the watch would stop the trainer."""
    with lock.hold(site.state, lock.TRAINING, command[0]):
        return one_shot.run(site.stacks, *command, what=what, do=do, timeout_seconds=seconds)


# ---------------------------------------------------------------------- volumes and models


def open_volumes(site: Site) -> None:
    """Makes caches writable for the trainer and vLLM. A new volume belongs to root, and an old one
    to an earlier owner of the state folder."""
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
    rows = world_examples.rows(REPOSITORY / "env" / "practice-world.toml")
    files.write(site.state / "replay.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def ensure_general_examples(site: Site) -> None:
    """Those of the release, where the site has none."""
    own = site.state / "replay.jsonl"
    if not own.exists():
        files.write(own, GENERAL_EXAMPLES.read_text(encoding="utf-8"))
        words = "64 is few: use a file of your own with a thousand or more"
        site.tell(f"general examples written to {own}. {words}")


def ensure_base_facts(site: Site) -> None:
    """state/base_model.json: the shape that an adapter must fit, and how the weights are packed."""
    if "quantisation" in site.settings.base_facts:  # an earlier version wrote none
        return
    commit = site.settings.served_commit
    site.tell("reading the base model's shape")
    what = "the base model cannot be read"
    command = ("training.describe", site.settings["SERVED_MODEL"])
    facts = run_job(site, *command, what=what, do="make setup", seconds=READ_MODEL_SECONDS)
    files.write_json(site.state / BASE_FACTS, facts | {"commit": commit})


# ---------------------------------------------------------------------- recipes

TARGETS = ("rank", "target_modules", "target_parameters", "layers", "tokens_per_step", "base")


def show(site: Site, name: str) -> dict[str, Any]:
    """What a recipe trains and the memory of its step, counted by a job, so that neither a night
    nor the watch takes it for the trainer. Raises Misconfigured if a target or layer matches
    nothing in the model."""
    loaded = recipes.load(REPOSITORY / "env" / "recipes", name)
    recipe = asdict(loaded)
    model, configuration = site.settings.model, site.settings.configuration
    if not configuration:
        saw = f"no configuration of {site.settings['SERVED_MODEL']} in {BASE_FACTS}"
        raise PreconditionFailed("the base model's layers are not known", saw, "make setup")
    budget = site.settings.night_bytes("TRAINING_MEMORY_BYTES", recipe["base"])
    asked = {"configuration": configuration, "budget_bytes": budget}
    order = {key: recipe[key] for key in TARGETS} | asked
    facts = jobs.run(site, Job("training.count_parameters", order))
    if facts["unmatched"]:
        what = "the recipe has targets that the model does not have"
        raise Misconfigured(what, f"{name}: {facts['unmatched']}", "correct the recipe")
    kept = {key: recipe[key] for key in ("name", "engine", "serve", "rank")}
    counts = {key: facts[key] for key in ("total_parameters", "trainable_parameters")}
    counts["memory"] = site.settings.untrainable(recipe["base"]) or facts["memory"]
    basis = {"basis": COMPUTED} if model.computed else {}
    return kept | counts | {"model": model.name} | basis | beside(site, loaded)


def beside(site: Site, recipe: recipes.Recipe) -> dict[str, str]:
    """What doctor says of a night beside the day; nothing with NIGHT=swap."""
    if not beside_plan.chosen(site.settings):
        return {}
    running = site.stacks.services("day"), site.stacks.trainer()
    merged, free = site.store.serves_merged(), host.available_bytes()
    plan = beside_plan.plan(site.settings, recipe, free, *running, merged)
    return {"beside": plan.words if plan.fits else f"{plan.words}; {beside_plan.REMEDY}"}
