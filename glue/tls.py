"""The certificate of the office's HTTPS: the site's own, or one by an authority that is made here and stays here, by openssl.

state/tls/   chat.pem        chain and key, for the gate
             authority.pem   what the office's machines are told to trust; authority.key signs, and is the owner's alone
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

from glue import commands, files
from glue.site import Site
from glue.types import GlueError, PreconditionFailed

DAYS, AUTHORITY_DAYS = 397, 3650  # browsers take no longer one of a server
RENEW_SECONDS = 30 * 86_400
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def names(site: Site) -> list[str]:
    """What the chat is called in the office; empty where there is no HTTPS."""
    return [name.strip() for name in site.settings.values.get("HTTPS_NAMES", "").split(",") if name.strip()]


def refresh(site: Site) -> bool:
    """As ensure, for a day that starts: what cannot be had anew keeps nobody from the chat while there is an older one."""
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
    """state/tls/chat.pem is the site's own, or good for the next month. Returns whether it is a new one."""
    folder = site.state / "tls"
    folder.mkdir(mode=0o700, exist_ok=True)
    own = site.settings.values.get("HTTPS_CERTIFICATE")
    if own:
        return take_in(Path(own), folder / "chat.pem")
    wanted = alternatives(names(site))
    if (folder / "chat.pem").exists() and not expires(folder / "chat.pem") and made_for(folder) == wanted:
        return False
    ensure_authority(folder, site.settings["TEAM_NAME"])
    sign(folder, names(site)[0], wanted)
    return True


def alternatives(wanted: list[str]) -> str:
    return ",".join(f"{'IP' if is_address(name) else 'DNS'}:{name}" for name in wanted)


def made_for(folder: Path) -> str:
    """The names that chat.pem was made here for; empty for the site's own, and where a crash left none."""
    return (folder / "names").read_text(encoding="utf-8", errors="replace") if (folder / "names").exists() else ""


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def expires(certificate: Path, within_seconds: int = RENEW_SECONDS) -> bool:
    """Whether it is over by then, or no certificate at all."""
    return openssl("x509", "-noout", "-checkend", str(within_seconds), "-in", str(certificate), fine=(0, 1)) != 0


def ensure_authority(folder: Path, team: str) -> None:
    if (folder / "authority.pem").exists() and not expires(folder / "authority.pem"):
        return
    openssl(
        *("req", "-x509", *KEY, "-days", str(AUTHORITY_DAYS), "-subj", f"/CN={team.replace('/', ' ')}: Dual-use Spark"),
        *("-addext", "basicConstraints=critical,CA:TRUE,pathlen:0", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        *("-keyout", str(folder / "authority.key"), "-out", str(folder / "authority.pem")),
    )
    (folder / "authority.key").chmod(0o600)


def sign(folder: Path, name: str, wanted: str) -> None:
    """A new key and its certificate. chat.pem is replaced last, and whole."""
    request, key, made, extensions = (folder / part for part in ("new.csr", "new.key", "new.pem", "new.cnf"))
    openssl("req", *KEY, "-subj", f"/CN={name[:64]}", "-keyout", str(key), "-out", str(request))
    extensions.write_text(
        f"subjectAltName={wanted}\nbasicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth\n"
    )
    authority = ["-CA", str(folder / "authority.pem"), "-CAkey", str(folder / "authority.key"), "-CAcreateserial"]
    openssl("x509", "-req", "-in", str(request), *authority, "-days", str(DAYS), "-extfile", str(extensions), "-out", str(made))
    files.write(folder / "chat.pem", made.read_text() + key.read_text(), mode=0o600)
    files.write(folder / "names", wanted)
    for path in (request, key, made, extensions):
        path.unlink()


def take_in(own: Path, target: Path) -> bool:
    """The site's own, as long as it lasts: it cannot be renewed here, and the last month of it is as good as the first."""
    text = read_own(own, within_seconds=0)
    (target.parent / "names").unlink(missing_ok=True)
    if target.exists() and target.read_bytes() == text.encode():
        return False
    files.write(target, text, mode=0o600)
    return True


def require_own(site: Site) -> None:
    """Raises PreconditionFailed if the site names a certificate of its own that is none, or over within a month."""
    own = site.settings.values.get("HTTPS_CERTIFICATE")
    if own:
        read_own(Path(own), RENEW_SECONDS)


def own_fault(site: Site) -> str:
    """Why somebody must see to the site's own certificate, in words; empty if nobody must. One made here renews itself."""
    try:
        require_own(site)
    except GlueError as error:
        return f"{error.what}: {error.saw}"
    return ""


def read_own(own: Path, within_seconds: int) -> str:
    """One file with certificate, chain and key. Raises PreconditionFailed if it is none, or over by then."""
    try:
        text = own.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise PreconditionFailed(
            "HTTPS_CERTIFICATE cannot be read", str(error), "one file with certificate, chain and key, as PEM"
        ) from error
    if "PRIVATE KEY" not in text or expires(own, within_seconds):
        saw = f"{own}: no key in it, or it {'ends within a month' if within_seconds else 'has ended'}"
        raise PreconditionFailed("HTTPS_CERTIFICATE cannot be used", saw, "cat certificate.pem chain.pem key.pem into one file")
    return text


def openssl(*arguments: str, fine: tuple[int, ...] = (0,)) -> int:
    return commands.run(["openssl", *arguments], "apt-get install openssl; see HTTPS_NAMES in env/site.env", fine=fine).code
