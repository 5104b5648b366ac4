"""The certificate of the office's HTTPS: the site's own, or one by an authority that is made here
and stays here, by openssl.

state/tls/   chat.pem        chain and key, for the HTTPS proxy
             authority.pem   what the office's machines are told to trust; authority.key signs, and
                             is the owner's alone
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

DAYS, AUTHORITY_DAYS = 397, 3650  # browsers take no longer one of a server
RENEW_SECONDS = 30 * 86_400
OWN_CERTIFICATE = (
    "put the server's certificate, its intermediates and its key, as PEM and in this order, into"
    " HTTPS_CERTIFICATE"
)
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def refresh(site: Site) -> bool:
    """As ensure, for a day that starts: what cannot be had anew keeps nobody from the chat while
    there is an older one."""
    if not site.settings.https_origins:
        return False
    try:
        return ensure(site)
    except (GlueError, OSError) as error:
        if not (site.state / "tls" / "chat.pem").exists():
            raise
        saw = f"{error.what}: {error.saw}" if isinstance(error, GlueError) else str(error)
        site.tell(f"the certificate stays as it was: {saw}")
        return False


def ensure(site: Site) -> bool:
    """state/tls/chat.pem is the site's own, or good for the next month. Returns whether it is a new
    one."""
    folder, names = site.state / "tls", site.settings.https_names
    files.make_folder(folder, mode=0o700)
    if own := site.settings.values.get("HTTPS_CERTIFICATE"):
        return take_in(site, Path(own))
    if is_signed_here(folder, names) and not expires(folder / "chat.pem"):
        return False
    ensure_authority(folder, site.settings["TEAM_NAME"])
    sign(
        folder,
        names[0],
        ",".join(f"{'IP' if is_address(name) else 'DNS'}:{name}" for name in names),
    )
    return True


def is_signed_here(folder: Path, names: list[str]) -> bool:
    """Whether chat.pem can be served, and who trusts the authority made here trusts it by every
    name."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        client.load_verify_locations(folder / "authority.pem")
        server = certificates.loaded(folder / "chat.pem")
        return not any(certificates.refusal(server, client, name)[0] for name in names)
    except (OSError, certificates.Unusable):
        return False


def expires(certificate: Path, within_seconds: int = RENEW_SECONDS) -> bool:
    """Whether it is over by then, or no certificate at all."""
    return (
        openssl(
            "x509", "-noout", "-checkend", str(within_seconds), "-in", str(certificate), fine=(0, 1)
        )
        != 0
    )


def ensure_authority(folder: Path, team: str) -> None:
    if (folder / "authority.pem").exists() and not expires(folder / "authority.pem"):
        return
    openssl(
        *(
            "req",
            "-x509",
            *KEY,
            "-days",
            str(AUTHORITY_DAYS),
            "-subj",
            f"/CN={team.replace('/', ' ')}: Dual-use Spark",
        ),
        *(
            "-addext",
            "basicConstraints=critical,CA:TRUE,pathlen:0",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        ),
        *("-keyout", str(folder / "authority.key"), "-out", str(folder / "authority.pem")),
    )
    files.take_over(folder / "authority.key", 0o600)
    files.take_over(folder / "authority.pem", 0o644)


def sign(folder: Path, name: str, wanted: str) -> None:
    """A new key and its certificate. chat.pem is replaced last, and whole."""
    request, key, made, extensions = (
        folder / part for part in ("new.csr", "new.key", "new.pem", "new.cnf")
    )
    openssl("req", *KEY, "-subj", f"/CN={name[:64]}", "-keyout", str(key), "-out", str(request))
    extensions.write_text(
        f"subjectAltName={wanted}\nbasicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth\n"
    )
    authority = [
        "-CA",
        str(folder / "authority.pem"),
        "-CAkey",
        str(folder / "authority.key"),
        "-CAcreateserial",
    ]
    openssl(
        "x509",
        "-req",
        "-in",
        str(request),
        *authority,
        "-days",
        str(DAYS),
        "-extfile",
        str(extensions),
        "-out",
        str(made),
    )
    files.write(folder / "chat.pem", made.read_text() + key.read_text(), mode=0o600)
    for path in (request, key, made, extensions):
        path.unlink()


def take_in(site: Site, own: Path) -> bool:
    """The site's own, unless the one that serves is better: by any name, more clients would trust
    it."""
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
    """What is wrong with the new one, in words, and not with the one that serves; empty if that is
    as bad or not there."""
    try:
        old = flaws(site, chat)
    except (OSError, PreconditionFailed):
        return ""
    return next((words for name, (flaw, words) in new.items() if flaw > old[name][0]), "")


def require_own(site: Site) -> None:
    """Raises PreconditionFailed if the site names a certificate of its own that cannot serve its
    names for another month.

    An issuer that this machine does not know is told: the office's machines may know it.
    """
    if not (own := site.settings.values.get("HTTPS_CERTIFICATE")):
        return
    read_own(Path(own))
    flaw, words = max(flaws(site, Path(own)).values())
    if flaw > Flaw.ISSUER_UNKNOWN:
        raise unusable(words)
    if expires(Path(own)):
        raise unusable("it ends within a month")
    if flaw:
        site.tell(f"HTTPS_CERTIFICATE: {words}")


def unusable(words: str) -> PreconditionFailed:
    return PreconditionFailed("HTTPS_CERTIFICATE cannot be used", words, OWN_CERTIFICATE)


def own_fault(site: Site) -> str:
    """What is wrong with the site's own certificate, in words; empty if nothing is. One made here
    renews itself."""
    told: list[str] = []
    try:
        require_own(replace(site, tell=told.append))
    except GlueError as error:
        return f"{error.what}: {error.saw}"
    return "".join(told)


def flaws(site: Site, certificate: Path) -> dict[str, tuple[Flaw, str]]:
    """By name, for a client that trusts what this machine does, EXTRA_CA and the authority made
    here.

    Raises PreconditionFailed for a file that no server can load.
    """
    client, authority = (
        deliver.trusted(site.settings.values.get("EXTRA_CA")),
        site.state / "tls" / "authority.pem",
    )
    if authority.exists():
        client.load_verify_locations(authority)
    try:
        return certificates.flaws(certificate, site.settings.https_names, client)
    except certificates.Unusable as error:
        raise unusable(str(error)) from error


def read_own(own: Path) -> str:
    """Comments in it may be in any encoding."""
    try:
        return own.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise PreconditionFailed(
            "HTTPS_CERTIFICATE cannot be read", str(error), OWN_CERTIFICATE
        ) from error


def openssl(*arguments: str, fine: tuple[int, ...] = (0,)) -> int:
    return commands.run(
        ["openssl", *arguments],
        "apt-get install openssl; see HTTPS_NAMES in env/site.env",
        fine=fine,
    ).code
