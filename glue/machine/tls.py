"""The certificate for HTTPS: the site's own, or one by an authority made on this machine.

state/tls/chat.pem        chain and key, for the HTTPS proxy
state/tls/authority.pem   what the office's machines have to trust; authority.key, its key, stays
"""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

from glue.clients import deliver
from glue.clients.site import Site
from glue.core import commands, files
from glue.core.addresses import is_address
from glue.core.errors import GlueError, PreconditionFailed
from glue.machine import certificates
from glue.machine.certificates import Flaw

DAYS, AUTHORITY_DAYS = 397, 3650  # browsers accept at most 398 days of a server
RENEW_SECONDS = 30 * 86_400
OWN_CERTIFICATE = (
    "write the server's certificate, its intermediates and its key, as PEM and in this order, into"
    " the file HTTPS_CERTIFICATE"
)
KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def refresh(site: Site) -> bool:
    """As ensure, for a day that starts: if it fails, an older certificate serves on."""
    if not site.settings.https_origins:
        return False
    try:
        return ensure(site)
    except (GlueError, OSError) as error:
        if not (site.state / "tls" / "chat.pem").exists():
            raise
        saw = f"{error.what}: {error.saw}" if isinstance(error, GlueError) else str(error)
        site.tell(f"the old certificate stays: {saw}")
        return False


def ensure(site: Site) -> bool:
    """chat.pem is the site's own, or valid for another month. Returns whether it is new."""
    folder, names = site.state / "tls", site.settings.https_names
    files.make_folder(folder, mode=0o700)
    if own := site.settings.values.get("HTTPS_CERTIFICATE"):
        return take_in(site, Path(own))
    if is_signed_here(folder, names) and not expires(folder / "chat.pem"):
        return False
    ensure_authority(folder, site.settings["TEAM_NAME"])
    sign(folder, names)
    return True


def is_signed_here(folder: Path, names: list[str]) -> bool:
    """Whether chat.pem can be served, and is trusted by every name where authority.pem is."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        client.load_verify_locations(folder / "authority.pem")
        server = certificates.loaded(folder / "chat.pem")
        return not any(certificates.refusal(server, client, name)[0] for name in names)
    except (OSError, certificates.Unusable):
        return False


def expires(certificate: Path, within_seconds: int = RENEW_SECONDS) -> bool:
    """Whether it ends by then, or is no certificate."""
    check = ("x509", "-noout", "-checkend", str(within_seconds), "-in", str(certificate))
    return openssl(*check, fine=(0, 1)) != 0


def ensure_authority(folder: Path, team: str) -> None:
    if (folder / "authority.pem").exists() and not expires(folder / "authority.pem"):
        return
    subject = f"/CN={team.replace('/', ' ')}: Dual-use Spark"
    constraints = ["-addext", "basicConstraints=critical,CA:TRUE,pathlen:0"]
    usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    output = ("-keyout", str(folder / "authority.key"), "-out", str(folder / "authority.pem"))
    request = ("req", "-x509", *KEY, "-days", str(AUTHORITY_DAYS), "-subj", subject)
    openssl(*request, *constraints, *usage, *output)
    files.take_over(folder / "authority.key", 0o600)
    files.take_over(folder / "authority.pem", 0o644)


def sign(folder: Path, names: list[str]) -> None:
    """A new key and its certificate. chat.pem is replaced last, and whole."""
    key, made = folder / "new.key", folder / "new.pem"
    wanted = ",".join(f"{'IP' if is_address(name) else 'DNS'}:{name}" for name in names)
    extensions = (
        f"subjectAltName={wanted}",
        "basicConstraints=CA:FALSE",
        "keyUsage=digitalSignature",
        "extendedKeyUsage=serverAuth",
    )
    added = [part for extension in extensions for part in ("-addext", extension)]
    signer = ("-CA", str(folder / "authority.pem"), "-CAkey", str(folder / "authority.key"))
    request = ("req", "-x509", *KEY, "-days", str(DAYS), "-subj", f"/CN={names[0][:64]}", *added)
    openssl(*request, *signer, "-keyout", str(key), "-out", str(made))
    files.write(folder / "chat.pem", made.read_text() + key.read_text(), mode=0o600)
    for path in (made, key):
        path.unlink()


def take_in(site: Site, own: Path) -> bool:
    """Installs the site's own unless clients trust it less, by any name. Whether it is new."""
    chat, candidate = site.state / "tls" / "chat.pem", site.state / "tls" / "candidate.pem"
    text = read_own(own)
    files.write(candidate, text, mode=0o600)
    try:
        worse = worse_than(site, chat, flaws(site, candidate))
        if worse:
            raise unusable(worse)
        changed = not chat.exists() or chat.read_text(encoding="utf-8") != text
        candidate.replace(chat)
    finally:
        candidate.unlink(missing_ok=True)
    return changed


def worse_than(site: Site, chat: Path, new: dict[str, tuple[Flaw, str]]) -> str:
    """A fault of the new one that the serving one does not have; empty if there is none."""
    try:
        old = flaws(site, chat)
    except (OSError, PreconditionFailed):
        return ""
    return next((words for name, (flaw, words) in new.items() if flaw > old[name][0]), "")


def require_own(site: Site) -> None:
    """Raises PreconditionFailed if the site's own cannot serve its names for another month. Only
    tells of an unknown issuer: the office's machines may know it."""
    if not (own := site.settings.values.get("HTTPS_CERTIFICATE")):
        return
    read_own(Path(own))
    flaw, words = max(flaws(site, Path(own)).values())
    if flaw > Flaw.ISSUER_UNKNOWN:
        raise unusable(words)
    if expires(Path(own)):
        raise unusable("it expires within a month")
    if flaw:
        site.tell(f"HTTPS_CERTIFICATE: {words}")


def unusable(words: str) -> PreconditionFailed:
    return PreconditionFailed("HTTPS_CERTIFICATE cannot be used", words, OWN_CERTIFICATE)


def own_fault(site: Site) -> str:
    """What is wrong with the site's own certificate; empty if nothing is."""
    told: list[str] = []
    try:
        require_own(replace(site, tell=told.append))
    except GlueError as error:
        return f"{error.what}: {error.saw}"
    return "".join(told)


def flaws(site: Site, certificate: Path) -> dict[str, tuple[Flaw, str]]:
    """By name, for a client that trusts what this machine does, EXTRA_CA and the authority made
    here. Raises PreconditionFailed if no server can load it."""
    client = deliver.trusted(site.settings.values.get("EXTRA_CA"))
    authority = site.state / "tls" / "authority.pem"
    if authority.exists():
        client.load_verify_locations(authority)
    try:
        return certificates.flaws(certificate, site.settings.https_names, client)
    except certificates.Unusable as error:
        raise unusable(str(error)) from error


def read_own(own: Path) -> str:
    """Its comments may have any encoding."""
    try:
        return own.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        what = "HTTPS_CERTIFICATE cannot be read"
        raise PreconditionFailed(what, str(error), OWN_CERTIFICATE) from error


def openssl(*arguments: str, fine: tuple[int, ...] = (0,)) -> int:
    do = "apt-get install openssl; see HTTPS_NAMES in env/site.env"
    return commands.run(["openssl", *arguments], do, fine=fine).code
