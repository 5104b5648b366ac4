"""The settings of one installation, and where each comes from.

Later ones win: env/images.env, env/<profile>.env (demo: on top of rehearsal.env), env/site.env,
GLUE_<KEY> in the environment, secrets.env in the state folder. setting_keys.py says what each
value may be. MODEL names a file of env/models, which gives further values and plans the memory
that is not set.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glue.core import addresses, files, image_tags, model_files, redact, schema
from glue.core.env_files import read_env_file
from glue.core.errors import Invalid, Misconfigured
from glue.core.setting_keys import (
    BELOW,
    HIDDEN,
    IMAGES,
    NEEDS,
    OF_THE_MODEL,
    PERSONAL,
    PROFILES,
    RENAMED,
    SECRETS,
    STAND_INS,
    Keys,
)
from training.places import PACKED

__all__ = ["HIDDEN", "IMAGES", "PERSONAL", "PROFILES", "SECRETS"]
REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = Path("env", "models")  # below the repository
SET_UP_AS_SPARK = Path("env", "set-up-as-spark")  # below the repository; git ignores it
DGX_RELEASE = Path("/etc/dgx-release")
SITE_FILE, ENVIRONMENT = "env/site.env", "the environment (GLUE_...)"
OWN = SITE_FILE, ENVIRONMENT
MODEL_KEYS = ("MODEL", *OF_THE_MODEL)
LOADED, BASE_FACTS = "loaded.json", "base_model.json"  # in the state folder
# Memory for a night on BF16 weights beside what one on NVFP4 takes: 41 GB of weights, less 6 GB by
# computing 19 of the 52 layers twice, so that a Spark has it free (env/spark.env).
BF16_MORE_BYTES = 35_000_000_000


@dataclass(frozen=True)
class Settings:
    """values: key -> text. sources: key -> the file, or "environment", that gave it."""

    profile: str
    values: dict[str, str]
    sources: dict[str, str]

    def __getitem__(self, key: str) -> str:
        """Raises Misconfigured for a secret before setup, or after its file is lost."""
        if key not in self.values:
            where = f"not in {self.secrets_file} and not in env/"
            raise Misconfigured(f"{key} is not set", where, "make setup, or make restore")
        return self.values[key]

    def hide(self, text: str) -> str:
        """text without secrets, logins in URLs and tokens of webhooks."""
        return redact.hidden(text, redact.secrets(self.values, HIDDEN))

    def number(self, key: str) -> int:
        return int(self.values[key])

    @property
    def state(self) -> Path:
        return REPOSITORY / self.values["STATE_DIR"]

    @property
    def rehearsal(self) -> bool:
        """Without a GPU: of the profiles rehearsal and demo."""
        return self.profile != "spark"

    @property
    def secrets_file(self) -> Path:
        return self.state / "secrets.env"

    @property
    def chat_url(self) -> str:
        address = self["CHAT_ADDRESS"]
        return f"http://{'127.0.0.1' if address == '0.0.0.0' else address}:{self['CHAT_PORT']}"

    @property
    def https_names(self) -> list[str]:
        """In ASCII, as browsers send them; empty without HTTPS."""
        names = self.values.get("HTTPS_NAMES", "").split(",")
        return [addresses.ascii_name(name) for name in names if name]

    @property
    def https_origins(self) -> list[str]:
        """Such as https://spark.local; empty without HTTPS."""
        return [addresses.origin(name, self["HTTPS_PORT"]) for name in self.https_names]

    @property
    def people_url(self) -> str:
        """What people open: by HTTPS if it is set up."""
        return (self.https_origins or [self.chat_url])[0]

    def image(self, key: str) -> str:
        """The reference that this profile runs for one of IMAGES."""
        return self[f"REHEARSAL_{STAND_INS.get(key, key)}" if self.rehearsal else key]

    @property
    def model_image(self) -> str:
        """Key of the image that brings a rehearsal's model."""
        talks = self.profile == "demo"
        return "REHEARSAL_TALKING_MODEL_IMAGE" if talks else "REHEARSAL_MODEL_IMAGE"

    @property
    def images(self) -> tuple[str, ...]:
        """References of all images that this profile runs."""
        return tuple(dict.fromkeys(map(self.image, IMAGES)))

    @property
    def loaded_images(self) -> dict[str, Any]:
        """Reference -> image ID, from `make load`; empty if its file cannot be read."""
        return files.read_json_if_whole(self.state / LOADED, {})

    def local(self, reference: str) -> str:
        """The reference, or the ID of an image that was loaded: docker load forgets digests
        (https://github.com/moby/moby/issues/22011)."""
        return self.loaded_images.get(reference, reference) if "@" in reference else reference

    @property
    def model(self) -> model_files.Model:
        return model_files.load(REPOSITORY / MODELS, self["MODEL"])

    def untrainable(self, base: str) -> str:
        """Why no night with this base can train the model here; empty if one may."""
        bases = ("served", "bf16")
        steps = {one: self.night_bytes("TRAINING_MEMORY_BYTES", one) for one in bases}
        return self.model.untrainable(base, steps, {one: self.packing(one) for one in bases})

    @property
    def configuration(self) -> dict[str, Any]:
        """What shapes the layers: of the served checkpoint if make setup has read it, else by the
        model's file, unless an old key names another checkpoint."""
        planned = {} if self.is_own("SERVED_MODEL") else self.model.configuration
        return self.base_facts.get("configuration") or planned

    def packing(self, base: str) -> str:
        """How the weights are packed that a recipe with this base trains, in words; empty if nights
        can train on them, and where it is not known."""
        facts = self.base_facts
        packing = facts.get("quantisation")
        if not packing or facts["name"] != self.base_model(base):
            return ""
        kind = facts["configuration"]["model_type"]
        return "" if PACKED.get(kind) == packing else f"{kind} in {packing}"

    @property
    def base_facts(self) -> dict[str, Any]:
        """What make setup read of the served checkpoint; empty if it was another, or another commit
        of it, then."""
        facts: dict[str, Any] = files.read_json_if_whole(self.state / BASE_FACTS, {})
        name = self["SERVED_MODEL"]
        same = facts.get("name") == name and facts.get("commit", "") == self.served_commit
        return facts if same else {}

    @property
    def served_commit(self) -> str:
        return model_files.commit_of(self.state, self["SERVED_MODEL"])

    def base_model(self, base: str) -> str:
        """The model that a recipe with this base trains."""
        if base == "bf16":
            return self["TRAINED_MODEL"]
        return self.values.get("PACKED_MODEL", self["SERVED_MODEL"])

    def hub_models(self, base: str) -> dict[str, str]:
        """Model -> revision, of those that days and nights with this base need from the hub; a path
        is a model made on this machine."""
        keys = ("SERVED_MODEL", "TRAINED_MODEL") if base == "bf16" else ("SERVED_MODEL",)
        names = {self[key]: self[f"{key}_REVISION"] for key in keys}
        return {name: revision for name, revision in names.items() if not name.startswith("/")}

    def needed_models(self, base: str) -> dict[str, str]:
        """Those of hub_models without a BF16 model that no night can train."""
        return self.hub_models("served" if self.untrainable(base) else base)

    def night_bytes(self, key: str, base: str) -> int:
        """TRAINING_MEMORY_BYTES or NIGHT_FREE_BYTES, which is planned by the other unless set. BF16
        weights take more than the served, unless the site sets either."""
        other = base == "bf16" and self["TRAINED_MODEL"] != self["SERVED_MODEL"]
        own = any(self.is_own(one) for one in ("TRAINING_MEMORY_BYTES", key))
        return self.number(key) + (BF16_MORE_BYTES if other and not own else 0)

    def is_own(self, key: str) -> bool:
        """Whether the site sets it, not this package's files."""
        return self.sources.get(key) in OWN


def load(profile: str | None = None, home: Path = REPOSITORY) -> Settings:
    """profile: by default GLUE_PROFILE, PROFILE in site.env, or detect_profile's. Raises
    Misconfigured for what is missing or not as declared."""
    site_file = home / "env" / "site.env"
    site = read_env_file(site_file) if site_file.exists() else {}
    chosen = (
        profile or os.environ.get("GLUE_PROFILE") or site.get("PROFILE") or detect_profile(home)
    )
    check({"PROFILE": chosen}, "GLUE_PROFILE, --profile or env/site.env")
    values: dict[str, str] = {}
    sources: dict[str, str] = {}
    for source, found in _layers(home, chosen, site, values):
        check(found, source)
        values |= found
        sources |= dict.fromkeys(found, source)
    schema.check(Keys, values, f"env/{chosen}.env and env/site.env", HIDDEN)
    require_needed(values, sources)
    hub_only = chosen == "spark"
    model = model_files.load(home / MODELS, values["MODEL"], sources["MODEL"], hub_only)
    require_one_model(model.name, sources)
    given = model.settings(values)
    values = given | values | {"MODEL_FLAGS": given["MODEL_FLAGS"]}
    sources = dict.fromkeys(given, f"{MODELS}/{model.name}.toml") | sources
    for folder in (home, home / values["STATE_DIR"]):
        if ":" in str(folder):
            what = "Docker cannot mount a folder with a colon in its name"
            raise Misconfigured(what, str(folder), "rename the folder")
    return Settings(chosen, values, sources)


def check(values: Mapping[str, str], source: str) -> None:
    """Raises Invalid for the first key or value that is not as declared."""
    schema.check(Keys, values, source, HIDDEN, RENAMED, partial=True)


def require_needed(values: Mapping[str, str], sources: Mapping[str, str]) -> None:
    for key, needed in NEEDS.items():
        if key in values and needed not in values:
            what, do = f"Missing key {needed} in {sources[key]}", f"Set it, or remove {key}."
            raise Invalid(what, f"{key} needs it", do)


def require_one_model(name: str, sources: Mapping[str, str]) -> None:
    """Raises Invalid for an old key beside the site's own MODEL: two models would be mixed."""
    if sources["MODEL"] not in OWN:
        return
    for key, new in OF_THE_MODEL.items():
        if key in sources:
            do = f"Remove {key}. If you need another value, set {new} in a copy of"
            do += f" {MODELS}/{name}.toml and name that with MODEL."
            raise Invalid(f"{key} in {sources[key]} is an old key", f"MODEL={name} is set", do)


def detect_profile(home: Path = REPOSITORY) -> str:
    """A Spark stays one while its driver fails or is replaced: nvidia-smi need not work."""
    was_spark = (home / SET_UP_AS_SPARK).exists() or DGX_RELEASE.exists()
    return "spark" if was_spark or shutil.which("nvidia-smi") else "demo"


def remember_spark(home: Path = REPOSITORY) -> None:
    """Not in the state folder: where that is depends on the profile."""
    (home / SET_UP_AS_SPARK).touch()


def _layers(
    home: Path, profile: str, site: dict[str, str], so_far: dict[str, str]
) -> Iterator[tuple[str, dict[str, str]]]:
    images = read_env_file(home / "env" / "images.env")
    yield "env/images.env", image_tags.with_tags(images, REPOSITORY)
    for name in (*BELOW.get(profile, ()), profile):
        yield f"env/{name}.env", read_env_file(home / "env" / f"{name}.env")
    # site.env is a Spark's: the demonstration beside it keeps its own model
    yield SITE_FILE, {key: site[key] for key in site if profile == "spark" or key not in MODEL_KEYS}
    environment = {k[5:]: v for k, v in os.environ.items() if k.startswith("GLUE_")}
    yield ENVIRONMENT, environment
    secrets = home / so_far.get("STATE_DIR", "") / "secrets.env"
    if secrets.exists():
        yield str(secrets), read_env_file(secrets)
