"""The certificate of the office's HTTPS: the site's own, or one by an authority that is made here and stays here, by openssl.

state/tls/   chat.pem        chain and key, for the gate
             authority.pem   what the office's machines are told to trust; authority.key signs, and is the owner's alone
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

from glue import commands, files
from glue.site import Site
from glue.types import PreconditionFailed

DAYS, AUTHORITY_DAYS = 397, 3650  # browsers take no longer one of a server
RENEW_SECONDS = 30 * 86_400
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def names(site: Site) -> list[str]:
    """What the chat is called in the office; empty where there is no HTTPS."""
    return [name.strip() for name in site.settings.values.get("HTTPS_NAMES", "").split(",") if name.strip()]


def ensure(site: Site) -> bool:
    """state/tls/chat.pem is good for the next month. Returns whether it is a new one."""
    folder = site.state / "tls"
    folder.mkdir(mode=0o700, exist_ok=True)
    own = site.settings.values.get("HTTPS_CERTIFICATE")
    if own:
        return take_in(Path(own), folder / "chat.pem")
    wanted = alternatives(names(site))
    if (folder / "chat.pem").exists() and not expires(folder / "chat.pem") and (folder / "names").read_text() == wanted:
        return False
    ensure_authority(folder, site.settings["TEAM_NAME"])
    sign(folder, names(site)[0], wanted)
    return True


def alternatives(wanted: list[str]) -> str:
    return ",".join(f"{'IP' if is_address(name) else 'DNS'}:{name}" for name in wanted)


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def expires(certificate: Path) -> bool:
    """Whether it is over within a month, or no certificate at all."""
    return openssl("x509", "-noout", "-checkend", str(RENEW_SECONDS), "-in", str(certificate), fine=(0, 1)) != 0


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
    """The site's own, one file with certificate, chain and key. Raises PreconditionFailed if it is none or over soon."""
    try:
        text = own.read_text(encoding="utf-8")
    except OSError as error:
        raise PreconditionFailed(
            "HTTPS_CERTIFICATE cannot be read", str(error), "one file with certificate, chain and key"
        ) from error
    if "PRIVATE KEY" not in text or expires(own):
        saw = f"{own}: no key in it, or it ends within a month"
        raise PreconditionFailed("HTTPS_CERTIFICATE cannot be used", saw, "cat certificate.pem chain.pem key.pem into one file")
    if target.exists() and target.read_text(encoding="utf-8") == text:
        return False
    files.write(target, text, mode=0o600)
    return True


def openssl(*arguments: str, fine: tuple[int, ...] = (0,)) -> int:
    return commands.run(["openssl", *arguments], "apt-get install openssl; see HTTPS_NAMES in env/site.env", fine=fine).code
