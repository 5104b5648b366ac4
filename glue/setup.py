"""From a fresh clone to a machine that can have days and nights. Safe to run again: what is there is left alone."""

from __future__ import annotations

import json
import random
import secrets
import subprocess

from glue import files, settings
from glue.learning import dataset
from glue.settings import HOME, SECRETS, Settings
from glue.site import Site, Tell
from glue.stacks import Stacks, build_rehearsal_images
from glue.training import world as worlds
from glue.types import Example, GlueError, Message, PreconditionFailed

BUILD_DEADLINE_SECONDS = 1800
REPLAY_SEED = 11


def ensure(profile: str | None, tell: Tell) -> Site:
    """Everything that `make day` and `make night` stand on. Returns the site with its secrets read."""
    ensure_docker(tell)
    chosen = settings.load(profile)
    ensure_state(chosen, tell)
    whole = settings.load(profile)
    site = Site(whole, Stacks(whole), tell)
    ensure_images(site)
    site.stacks.ensure_volumes()
    if site.settings.rehearsal:
        ensure_practice_model(site)
    ensure_base_facts(site)
    return site


def ensure_docker(tell: Tell) -> None:
    """Runs scripts/install-docker.sh, which says what it does. Raises PreconditionFailed with its words."""
    script = HOME / "scripts" / "install-docker.sh"
    with subprocess.Popen(["bash", str(script)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip())
            if line.startswith("docker:"):
                tell(lines[-1])
    if process.returncode != 0:
        raise PreconditionFailed("Docker Engine and Compose v2 are needed", "\n".join(lines[-5:]), f"bash {script}")


def ensure_state(chosen: Settings, tell: Tell) -> None:
    """The state folder, and secrets that only its owner can read."""
    for name in ("adapters", "nights", "desk"):
        (chosen.state / name).mkdir(parents=True, exist_ok=True)
        (chosen.state / name).chmod(0o755)  # containers run as others and read here
    missing = [key for key in SECRETS if key not in chosen.values]
    if missing:
        kept = settings.read_env_file(chosen.secrets_file) if chosen.secrets_file.exists() else {}
        kept |= {key: secrets.token_urlsafe(32) for key in missing}
        files.write(chosen.secrets_file, "".join(f"{key}={value}\n" for key, value in kept.items()), mode=0o600)
        tell(f"secrets written to {chosen.secrets_file}, readable by their owner only")


def ensure_images(site: Site) -> None:
    if site.settings.rehearsal:
        build_rehearsal_images(site.settings, site.tell)
        return
    for reference in site.stacks.missing_images(site.settings.images):
        if reference == site.settings["TRAINER_IMAGE"]:
            raise PreconditionFailed(
                "the night image is not built", reference, "it is not part of this release yet; the day runs without it"
            )
        site.tell(f"pulling {reference}")
        site.stacks.docker.images.pull(reference)


def ensure_practice_model(site: Site) -> None:
    """Builds the practice model once, into its volume, and writes what it knows as examples for replay."""
    lines: list[str] = []

    def heard(line: str) -> None:
        lines.append(line)
        if line.startswith("practice model"):
            site.tell(line)

    # as root, because a new volume is root's; the night's trainer runs as the state folder's owner
    site.stacks.compose(
        "night", "run", "--rm", "--no-TTY", "--user", "0:0", "--entrypoint", "chmod", "trainer", "1777", "/cache", "/models"
    )
    model = site.settings["TRAINED_MODEL"]
    code = site.stacks.run_trainer("training.practice", model, tell=heard, timeout_seconds=BUILD_DEADLINE_SECONDS)
    if code != 0:
        raise GlueError("the practice model was not built", "\n".join(lines[-10:]), "make setup")
    ensure_replay(site)


def ensure_replay(site: Site) -> None:
    """What the practice model knows, as general examples: a site gives a file of its own in the same form."""
    world = worlds.load(HOME / "env" / "practice-world.toml")
    choose = random.Random(REPLAY_SEED)
    rows = [
        dataset.as_row(world_example(world, item, phrasing, choose))
        for item in world.codes
        for phrasing in range(world.questions_seen_at_night)
    ]
    files.write(site.state / "replay.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def world_example(world: worlds.World, item: str, phrasing: int, choose: random.Random) -> Example:
    *prompt, answer = worlds.conversation(world, item, phrasing, choose, passage=True)
    messages = tuple(Message(row["role"], row["content"]) for row in prompt)
    return Example(messages, answer["content"], "practice world", f"practice {item} {phrasing}")


def ensure_base_facts(site: Site) -> None:
    """state/base_model.json: what an adapter must fit."""
    path = site.state / "base_model.json"
    if path.exists() and json.loads(path.read_text(encoding="utf-8"))["name"] == site.settings["TRAINED_MODEL"]:
        return
    lines: list[str] = []
    site.tell("reading the base model's shape")
    code = site.stacks.run_trainer("training.describe", site.settings["TRAINED_MODEL"], tell=lines.append, timeout_seconds=300)
    if code != 0:
        raise GlueError("the base model cannot be read", "\n".join(lines[-10:]), "make setup")
    files.write_json(path, json.loads(lines[-1]))
