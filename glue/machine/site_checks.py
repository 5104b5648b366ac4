"""Checks of the site's settings: secrets, port, certificate, time zone, general examples."""

from __future__ import annotations

from glue.clients.compose import FREE_PORT
from glue.clients.knowledge import INGEST, UNATTACHED
from glue.core.setting_keys import OF_THE_MODEL
from glue.core.settings import MODELS, SECRETS
from glue.machine.check_types import Host, View, fail, ok, warn


def secrets(seen: Host) -> View:
    missing = [key for key in SECRETS if key not in seen.settings.values]
    if missing:
        new = any(name.endswith("webui-data") for name in seen.engine.missing_volumes)
        lost = "check that the disk of STATE_DIR is mounted; on a new machine: make setup"
        return fail(f"missing: {', '.join(missing)}", "make setup" if new else lost)
    if seen.secrets_mode is None:
        return ok("given by the environment")
    if seen.secrets_mode & 0o077:
        do = f"chmod 600 {seen.settings.secrets_file}"
        return warn(f"other users can read them: mode {seen.secrets_mode:o}", do)
    return ok("readable by their owner only")


def model_keys(seen: Host) -> View:
    """Settings of earlier versions, which override the model's file."""
    sources, file = seen.settings.sources, f"{MODELS}/{seen.settings['MODEL']}.toml"
    old = [key for key in OF_THE_MODEL if sources.get(key, file) != file]
    if not old:
        return ok(file)
    saw = f"{' and '.join(old)} in {sources[old[0]]} override {file}; the next version refuses them"
    wanted = " and ".join(OF_THE_MODEL[key] for key in old)
    do = f"set {wanted} in a copy of {file}, name that with MODEL, and remove the old keys"
    return warn(saw, do)


def port(seen: Host) -> View:
    address = f"{seen.settings['CHAT_ADDRESS']}:{seen.settings['CHAT_PORT']}"
    chat = seen.engine.services.get("open-webui")
    if chat and chat.state in ("running", "restarting"):
        return ok(f"{address}, the chat's own")
    if seen.port_free:
        return ok(f"{address}, free")
    return fail(f"{address} is already in use", f"{FREE_PORT} CHAT_PORT in env/site.env")


def certificate(seen: Host) -> View:
    """Never a failure: a chat with an old certificate is better than no chat."""
    if seen.certificate_fault:
        return warn(seen.certificate_fault, "put a new one at HTTPS_CERTIFICATE, then make https")
    if seen.settings.https_origins:
        return ok(f"valid for {', '.join(seen.settings.https_origins)}")
    return ok("HTTPS is not set up")


def time_zone(seen: Host) -> View:
    zone, at = seen.machine.time_zone, seen.settings["DAY_AT"]
    if zone.rpartition("/")[2] in ("UTC", "UCT", "Zulu", "Universal", ""):
        do = "if that is wrong: sudo timedatectl set-timezone Europe/Berlin"
        return warn(f"{zone or 'none'}: the day starts at {at} UTC", do)
    return ok(f"{zone}: the day starts at {at} by its clock, in summer and in winter")


def replay(seen: Host) -> View:
    """General examples, which keep a model from forgetting."""
    if seen.recipe is None or not seen.recipe.replay_file:
        return ok("the recipe uses no general examples")
    path = seen.settings.state / seen.recipe.replay_file
    if seen.replay_there:
        return ok(str(path))
    do = (
        "make setup writes 64 of them. Or write your own, one JSON object a line, or set"
        ' replay_file = "" in a recipe of your own'
    )
    return warn(f"{path} is missing, and no night begins without it", do)


def account(seen: Host) -> View:
    """Never a failure: people can ask without it."""
    words, do = seen.account_fault
    return warn(words, do) if words else ok("glue signs in to the chat as itself")


def documents(seen: Host) -> View:
    """Never a failure: a chat without documents is better than no chat."""
    if seen.documents_fault:
        do = "make day" if seen.documents_fault == UNATTACHED else INGEST
        return warn(seen.documents_fault, do)
    return ok("the collection exists")
