"""Every setting, where it came from, and what it may be.

Later ones win: env/images.env, env/<profile>.env, env/site.env, GLUE_<KEY> in the environment, then
the state folder's
secrets.env. A file with a line that is no KEY=VALUE, a key that nobody knows or a value that a key
may not have is
refused with file, key, value and what is allowed; nothing is guessed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dotenv.parser import parse_stream

from glue.core import addresses, image_tags, redact
from glue.core.errors import Misconfigured

HOME = Path(__file__).resolve().parents[2]
PROFILES = ("spark", "rehearsal")
SET_UP_AS_SPARK = Path("env", "set-up-as-spark")  # below the repository; git ignores it
DGX_RELEASE = Path("/etc/dgx-release")


@dataclass(frozen=True)
class Kind:
    """What a value may be, in words for people and as a test."""

    allowed: str
    accepts: Callable[[str], bool]


def _is_float(value: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)?", value) is not None


def _matches(pattern: str) -> Callable[[str], bool]:
    return lambda value: re.fullmatch(pattern, value) is not None


def _is_image(value: str) -> bool:
    tag = re.search(r"(:|@sha256:)([\w.\-]+)$", value)
    return tag is not None and tag[2] != "latest"


TEXT = Kind("any text, not empty", lambda value: bool(value.strip()))
NAME = Kind("lower-case letters, digits and -", _matches(r"[a-z][a-z0-9-]*"))
IMAGE = Kind("an image reference with a tag or digest, never :latest", _is_image)
WHOLE = Kind("a whole number from 0", str.isdigit)
POSITIVE = Kind("a whole number from 1", lambda value: value.isdigit() and int(value) > 0)
PORT = Kind("a port, 1 to 65535", lambda value: value.isdigit() and 0 < int(value) < 65536)
NUMBER = Kind("a number from 0", _is_float)
ADDRESS = Kind("an IP address, such as 127.0.0.1 or 0.0.0.0", addresses.is_address)
SWITCH = Kind("true or false", _matches("true|false"))
CLOCK = Kind("a time of day, such as 07:00", _matches(r"([01]\d|2[0-3]):[0-5]\d"))
EMAIL = Kind("an e-mail address", _matches(r"[^@\s]+@[^@\s]+"))
RANK = Kind(
    "8, 16, 32, 64, 128, 256 or 512", _matches("8|16|32|64|128|256|512")
)  # what vLLM's --max-lora-rank takes
URL = Kind("an http or https address", _matches(r"https?://\S+"))
PROFILE = Kind(" or ".join(PROFILES), lambda value: value in PROFILES)
COUNTRY = Kind("a country as two capital letters, such as US or DE", _matches("[A-Z]{2}"))
SECRET = Kind("at least 16 characters", lambda value: len(value) >= 16)

_DAY = "(Mon|Tue|Wed|Thu|Fri|Sat|Sun)"

KINDS: dict[str, Kind] = {
    "PROFILE": PROFILE,
    "PROJECT": NAME,
    "STATE_DIR": TEXT,
    "SERVED_MODEL": TEXT,
    "TRAINED_MODEL": TEXT,
    "SERVED_MODEL_REVISION": TEXT,
    "TRAINED_MODEL_REVISION": TEXT,
    "MAX_MODEL_LENGTH": POSITIVE,
    "MAX_SEQUENCES": POSITIVE,
    "KV_CACHE_BYTES": POSITIVE,
    "MAX_LORA_RANK": RANK,
    "CHAT_ADDRESS": ADDRESS,
    "CHAT_PORT": PORT,
    "HTTPS_NAMES": Kind("names and addresses such as spark.local,10.0.0.5", addresses.are_names),
    "HTTPS_ADDRESS": ADDRESS,
    "HTTPS_PORT": PORT,
    "HTTPS_CERTIFICATE": TEXT,
    "WEBUI_ADMIN_EMAIL": EMAIL,
    "TEAM_NAME": TEXT,
    "EMBEDDING_MODEL": TEXT,
    "CHUNK_SIZE": POSITIVE,
    "CHUNK_OVERLAP": WHOLE,
    "RAG_TOP_K": POSITIVE,
    "RAG_TEMPLATE": Kind("text that holds {{CONTEXT}}", lambda value: "{{CONTEXT}}" in value),
    "TITLE_GENERATION": SWITCH,
    "SYSTEM_PROMPT": TEXT,
    "MAX_ANSWER_TOKENS": POSITIVE,
    "TEMPERATURE": NUMBER,
    "RECIPE": NAME,
    "DAY_AT": CLOCK,
    "PHONE_REGION": COUNTRY,
    "WEEKEND_DAY_AT": CLOCK,
    "NIGHT_AT": CLOCK,
    "NIGHT_DAYS": Kind("days such as Mon,Tue,Wed,Thu,Fri", _matches(f"{_DAY}(,{_DAY})*")),
    "BACKUP_AT": CLOCK,
    "BACKUP_DIR": TEXT,
    "BACKUP_KEEP": POSITIVE,
    "RESTIC_REPOSITORY": TEXT,
    "RESTIC_PASSWORD_FILE": TEXT,
    "BACKUP_OLDEST_HOURS": POSITIVE,
    "NIGHT_OLDEST_HOURS": POSITIVE,
    "NOTIFY_PING_URL": URL,
    "NOTIFY_WEBHOOK": URL,
    "NOTIFY_EMAIL": EMAIL,
    "SMTP_SERVER": Kind("a host, or host:port", _matches(r"[\w.\-]+(:\d+)?")),
    "SMTP_USER": TEXT,
    "SMTP_PASSWORD": TEXT,
    "JUDGING_SECONDS": POSITIVE,
    "DAY_FREE_BYTES": POSITIVE,
    "NIGHT_FREE_BYTES": POSITIVE,
    "TRAINING_MEMORY_BYTES": POSITIVE,
    "MEMORY_RESERVE_BYTES": POSITIVE,
    "DISK_FREE_BYTES": POSITIVE,
    "DAY_DEADLINE_SECONDS": POSITIVE,
    "EXTRA_CA": TEXT,
    "WHEELHOUSE": TEXT,
    "HF_ENDPOINT": TEXT,
    "HF_TOKEN": TEXT,
    "VLLM_IMAGE": IMAGE,
    "OPEN_WEBUI_IMAGE": IMAGE,
    "DOOR_IMAGE": IMAGE,
    "NIGHT_DESK_IMAGE": IMAGE,
    "TRAINER_IMAGE": IMAGE,
    "NIGHT_BASE_IMAGE": IMAGE,
    "CUDA_13_0_BASE_IMAGE": IMAGE,
    "REHEARSAL_ROOT_IMAGE": IMAGE,
    "REHEARSAL_BASE_IMAGE": IMAGE,
    "REHEARSAL_TORCH_IMAGE": IMAGE,
    "REHEARSAL_VLLM_IMAGE": IMAGE,
    "REHEARSAL_OPEN_WEBUI_IMAGE": IMAGE,
    "REHEARSAL_TRAINER_IMAGE": IMAGE,
    "REHEARSAL_MODEL_IMAGE": IMAGE,
    "MODEL_API_KEY": SECRET,
    "WEBUI_SECRET_KEY": SECRET,
    "WEBUI_ADMIN_PASSWORD": SECRET,
}
SECRETS = ("MODEL_API_KEY", "WEBUI_SECRET_KEY", "WEBUI_ADMIN_PASSWORD")
LOADED = "loaded.json"  # in the state folder
IMAGES = ("VLLM_IMAGE", "OPEN_WEBUI_IMAGE", "DOOR_IMAGE", "NIGHT_DESK_IMAGE", "TRAINER_IMAGE")
STAND_INS = {"DOOR_IMAGE": "BASE_IMAGE", "NIGHT_DESK_IMAGE": "BASE_IMAGE"}
PERSONAL = ("WEBUI_ADMIN_EMAIL", "NOTIFY_EMAIL", "SMTP_USER", "TEAM_NAME", "SYSTEM_PROMPT")
HIDDEN = (
    *SECRETS,
    "HF_TOKEN",
    "NOTIFY_PING_URL",
    "NOTIFY_WEBHOOK",
    "SMTP_PASSWORD",
    "RESTIC_REPOSITORY",
)
NEEDS = {"NOTIFY_EMAIL": "SMTP_SERVER", "SMTP_PASSWORD": "SMTP_USER"}  # pragma: allowlist secret
TELLING = ("NOTIFY_EMAIL", "SMTP_SERVER", "SMTP_USER")
OPTIONAL = (
    "HTTPS_NAMES",
    "HTTPS_CERTIFICATE",
    "PROFILE",
    "EXTRA_CA",
    "WHEELHOUSE",
    "HF_ENDPOINT",
    "RESTIC_PASSWORD_FILE",
    *TELLING,
    *HIDDEN,
)


@dataclass(frozen=True)
class Settings:
    """values: key -> text. sources: key -> the file, or "environment", that gave it."""

    profile: str
    values: dict[str, str]
    sources: dict[str, str]

    def __getitem__(self, key: str) -> str:
        """Raises Misconfigured, as for a secret before setup or after its file was lost."""
        if key not in self.values:
            raise Misconfigured(
                "a setting is missing",
                f"{key}, in {self.secrets_file} or env/",
                "make setup, or make restore",
            )
        return self.values[key]

    def hide(self, text: str) -> str:
        """text without any secret, login in a URL, or token in a webhook's path."""
        return redact.hidden(text, redact.secrets(self.values, HIDDEN))

    def number(self, key: str) -> int:
        return int(self.values[key])

    @property
    def state(self) -> Path:
        return HOME / self.values["STATE_DIR"]

    @property
    def rehearsal(self) -> bool:
        return self.profile == "rehearsal"

    @property
    def secrets_file(self) -> Path:
        return self.state / "secrets.env"

    @property
    def chat_url(self) -> str:
        address = self["CHAT_ADDRESS"]
        return f"http://{'127.0.0.1' if address == '0.0.0.0' else address}:{self['CHAT_PORT']}"

    @property
    def https_names(self) -> list[str]:
        """What the chat is called in the office, in ASCII as browsers send it; empty where there is
        no HTTPS."""
        return [
            addresses.ascii_name(name)
            for name in self.values.get("HTTPS_NAMES", "").split(",")
            if name
        ]

    @property
    def https_origins(self) -> list[str]:
        """The addresses by which the office reaches the chat over HTTPS; empty where there is
        none."""
        return [addresses.origin(name, self["HTTPS_PORT"]) for name in self.https_names]

    def image(self, key: str) -> str:
        """What this profile runs for one of IMAGES."""
        return self[f"REHEARSAL_{STAND_INS.get(key, key)}" if self.rehearsal else key]

    @property
    def images(self) -> tuple[str, ...]:
        """The references that this profile's containers run."""
        return tuple(dict.fromkeys(map(self.image, IMAGES)))

    @property
    def loaded_images(self) -> dict[str, str]:
        """Reference -> image ID of what `make load` brought; empty where nothing was loaded, or its
        file cannot be read."""
        try:
            found = json.loads((self.state / LOADED).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def local(self, reference: str) -> str:
        """What this machine's Docker knows an image by: its ID where it was loaded under a digest,
        for Docker forgets the
        digest of an image that it saves and loads (https://github.com/moby/moby/issues/22011)."""
        return self.loaded_images.get(reference, reference) if "@" in reference else reference

    @property
    def hub_models(self) -> dict[str, str]:
        """Each model that comes from the hub, and the revision asked for. One that is a path is
        made on this machine."""
        names = {self[key]: self[f"{key}_REVISION"] for key in ("SERVED_MODEL", "TRAINED_MODEL")}
        return {name: revision for name, revision in names.items() if not name.startswith("/")}


def load(profile: str | None = None, home: Path = HOME) -> Settings:
    """Reads and checks everything. profile: None takes PROFILE from the environment or site.env,
    else detect_profile's.

    Raises Misconfigured, naming file, key, value and what is allowed.
    """
    site = read_env_file(home / "env" / "site.env") if (home / "env" / "site.env").exists() else {}
    chosen = (
        profile or os.environ.get("GLUE_PROFILE") or site.get("PROFILE") or detect_profile(home)
    )
    check("PROFILE", chosen, "GLUE_PROFILE, --profile or env/site.env")
    values: dict[str, str] = {}
    sources: dict[str, str] = {}
    for source, found in _layers(home, chosen, site, values):
        for key, value in found.items():
            check(key, value, source)
            values[key], sources[key] = value, source
    missing = [key for key in KINDS if key not in values and key not in OPTIONAL]
    if missing:
        raise Misconfigured(
            "a setting is missing",
            ", ".join(missing),
            f"add it to env/{chosen}.env or env/site.env",
        )
    for folder in (home, home / values["STATE_DIR"]):
        if ":" in str(folder):
            raise Misconfigured(
                "Docker cannot mount a folder with a colon in its name",
                str(folder),
                "rename the folder",
            )
    for key, needed in NEEDS.items():
        if key in values and needed not in values:
            raise Misconfigured(
                f"{key} needs {needed}",
                f"{sources[key]} sets no {needed}",
                f"set {needed} too, or remove {key}",
            )
    return Settings(chosen, values, sources)


def detect_profile(home: Path = HOME) -> str:
    """A driver that fails, or is being replaced, never makes a rehearsal of a Spark: nvidia-smi
    need not work."""
    is_spark = (
        (home / SET_UP_AS_SPARK).exists()
        or DGX_RELEASE.exists()
        or shutil.which("nvidia-smi") is not None
    )
    return "spark" if is_spark else "rehearsal"


def remember_spark(home: Path = HOME) -> None:
    """Not in the state folder: where that is depends on the profile."""
    (home / SET_UP_AS_SPARK).touch()


def _layers(
    home: Path, profile: str, site: dict[str, str], so_far: dict[str, str]
) -> Iterator[tuple[str, dict[str, str]]]:
    yield "env/images.env", image_tags.with_tags(read_env_file(home / "env" / "images.env"), HOME)
    yield f"env/{profile}.env", read_env_file(home / "env" / f"{profile}.env")
    yield "env/site.env", site
    environment = {
        k.removeprefix("GLUE_"): v
        for k, v in os.environ.items()
        if k.removeprefix("GLUE_") in KINDS and k.startswith("GLUE_")
    }
    yield "environment", environment
    secrets = home / so_far["STATE_DIR"] / "secrets.env"
    if secrets.exists():
        yield str(secrets), read_env_file(secrets)


def read_env_file(path: Path) -> dict[str, str]:
    """KEY=VALUE lines. Raises Misconfigured for a line that is none, PermissionError for a file of
    another user."""
    try:
        with path.open(encoding="utf-8") as stream:
            bindings = list(parse_stream(stream))
    except PermissionError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        do = f"put it back from a backup, or, if git knows it: git checkout {path}"
        raise Misconfigured("a settings file cannot be read", f"{path}: {error}", do) from error
    for binding in bindings:
        if binding.error or (binding.key is not None and binding.value is None):
            secret = path.name == "secrets.env"
            line = "(hidden)" if secret else repr(binding.original.string.strip()[:80])
            do = (
                "put it back from a backup"
                if secret
                else 'write KEY=VALUE, or KEY="VALUE" where the value has spaces'
            )
            saw = f"{path}, line {binding.original.line}: {line}"
            raise Misconfigured("a settings file has a line that is no KEY=VALUE", saw, do)
    return {binding.key: binding.value or "" for binding in bindings if binding.key}


def check(key: str, value: str, source: str) -> None:
    """Raises Misconfigured unless key is known and value is one that it may have."""
    kind = KINDS.get(key)
    if kind is None:
        raise Misconfigured(
            "a setting is not known",
            f"{source}: {key}={value!r}",
            "allowed: " + ", ".join(sorted(KINDS)),
        )
    if not kind.accepts(value):
        shown = "(hidden)" if key in HIDDEN else repr(value)
        raise Misconfigured(
            "a setting has a value it may not have",
            f"{source}: {key}={shown}",
            f"allowed: {kind.allowed}",
        )
