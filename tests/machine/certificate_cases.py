"""Files that sites put at HTTPS_CERTIFICATE, made by the real openssl: a root, an intermediate,
a server, and every mistake."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from glue.clients.site import Site

SERVED = ("good", "crlf", "key first", "old key form", "comments in Latin-1", "byte order mark")
REFUSED = {
    "wrong order": "the server's comes first",
    "wrong key": "the server's comes first",
    "encrypted key": "its key is encrypted",
    "encrypted old key": "its key is encrypted",
    "no key": "it has no line -----BEGIN PRIVATE KEY-----",  # pragma: allowlist secret
    "no certificate": "it has no line -----BEGIN CERTIFICATE-----",
    "no line between": "it has no line -----BEGIN PRIVATE KEY-----",  # pragma: allowlist secret
    "cut": "it cannot be loaded",
    "empty": "it has no line -----BEGIN CERTIFICATE-----",
    "der": "it is DER or PKCS#12, not PEM",
    "pkcs12": "it is DER or PKCS#12, not PEM",
    "utf-16": "it is UTF-16, not PEM",
    "weak key": "KEY_TOO_SMALL",
    "weak signature": "MD_TOO_WEAK",
    "expired": "certificate has expired",
    "not yet valid": "certificate is not yet valid",
    "wrong name": "certificate is not valid for",
    "one name of two": "certificate is not valid for",
    "name in the subject only": "certificate is not valid for",
    "for clients": "unsuitable certificate purpose",
    "no intermediate": "its issuer is neither in the file nor known here",
    "another intermediate": "its issuer is neither in the file nor known here",
    "expired intermediate": "certificate has expired",
}
SAN = "subjectAltName=DNS:localhost,IP:127.0.0.1\n"


@dataclass(frozen=True)
class Office:
    """folder: the output of make()."""

    folder: Path
    state: Path
    site: Site

    @property
    def root(self) -> Path:
        return self.folder / "root.pem"

    def put(self, kind: str) -> None:
        (self.state / "own.pem").write_bytes((self.folder / kind).read_bytes())


def make(folder: Path) -> Path:
    """A file for each of SERVED and REFUSED."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    def key(name: str, *form: str) -> None:
        openssl(
            "genpkey",
            *(form or ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")),
            "-out",
            f"{name}.key",
        )

    def sign(name: str, by: str, extensions: str, *more: str, of: str = "") -> None:
        (folder / "extensions").write_text(extensions)
        openssl(
            "req", "-new", "-key", f"{of or name}.key", "-subj", f"/CN={of or name}", "-out", "csr"
        )
        dates = () if {"-days", "-not_before"} & {*more} else ("-days", "90")
        authority = ("-CA", f"{by}.pem", "-CAkey", f"{by}.key", "-CAcreateserial")
        openssl(
            "x509",
            "-req",
            "-in",
            "csr",
            *authority,
            "-extfile",
            "extensions",
            *dates,
            *more,
            "-out",
            f"{name}.pem",
        )

    for name in ("root", "int", "other", "localhost"):
        key(name)
    key("weak", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024")
    openssl(
        "req", "-x509", "-key", "root.key", "-subj", "/CN=root", "-days", "90", "-out", "root.pem"
    )
    for name in ("int", "other"):
        sign(name, "root", "basicConstraints=critical,CA:TRUE\n")
    sign("localhost", "int", SAN)
    sign("late", "int", SAN, "-days", "-1", of="localhost")
    sign("elsewhere", "int", "subjectAltName=DNS:other.example\n", of="localhost")
    sign("half", "int", "subjectAltName=IP:127.0.0.1\n", of="localhost")
    sign("subject", "int", "basicConstraints=CA:FALSE\n", of="localhost")
    sign("client", "int", SAN + "extendedKeyUsage=clientAuth\n", of="localhost")
    sign("weak", "int", SAN)
    sign("sha1", "int", SAN, "-sha1", of="localhost")
    early(folder, openssl)
    openssl(
        "pkey",
        "-in",
        "localhost.key",
        "-aes256",
        "-passout",
        "pass:secret",
        "-out",
        "encrypted.key",
    )
    openssl(
        "ec",
        "-in",
        "localhost.key",
        "-aes256",
        "-passout",
        "pass:secret",
        "-out",
        "encrypted-old.key",
    )
    openssl("ec", "-in", "localhost.key", "-out", "old.key")
    openssl("x509", "-in", "localhost.pem", "-outform", "DER", "-out", "der")
    openssl(
        "pkcs12",
        "-export",
        "-in",
        "localhost.pem",
        "-inkey",
        "localhost.key",
        "-passout",
        "pass:",
        "-out",
        "pkcs12",
    )
    sign("int-late", "root", "basicConstraints=critical,CA:TRUE\n", "-days", "-1", of="int")
    write(folder)
    return folder


def early(folder: Path, openssl: object) -> None:
    """A certificate that starts in 2090: `openssl ca` can set dates, and `openssl x509` of
    OpenSSL 3.0 cannot."""
    assert callable(openssl)
    (folder / "index").write_text("")
    (folder / "ca.cnf").write_text(
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nrand_serial=yes\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n"
        f"x509_extensions=e\n[p]\ncommonName=supplied\n[e]\n{SAN}"
    )
    openssl("req", "-new", "-key", "localhost.key", "-subj", "/CN=localhost", "-out", "csr")
    dates = ("-startdate", "20900101000000Z", "-enddate", "20910101000000Z")
    names = ("-cert", "int.pem", "-keyfile", "int.key", "-in", "csr", "-out", "early.pem")
    openssl("ca", "-batch", "-notext", "-config", "ca.cnf", *names, *dates)


def write(folder: Path) -> None:
    def joined(*names: str) -> bytes:
        return b"".join((folder / name).read_bytes() for name in names)

    good = joined("localhost.pem", "int.pem", "localhost.key")
    for kind, data in {
        "good": good,
        "crlf": good.replace(b"\n", b"\r\n"),
        "key first": joined("localhost.key", "localhost.pem", "int.pem"),
        "old key form": joined("localhost.pem", "int.pem", "old.key"),
        "comments in Latin-1": b"friendlyName: Schl\xfcssel\n" + good,
        "byte order mark": b"\xef\xbb\xbf\n" + good,
        "wrong order": joined("int.pem", "localhost.pem", "localhost.key"),
        "wrong key": joined("localhost.pem", "int.pem", "other.key"),
        "encrypted key": joined("localhost.pem", "int.pem", "encrypted.key"),
        "encrypted old key": joined("localhost.pem", "int.pem", "encrypted-old.key"),
        "no key": joined("localhost.pem", "int.pem"),
        "no certificate": joined("localhost.key"),
        "no line between": joined("localhost.pem").rstrip() + joined("localhost.key"),
        "cut": good[: len(joined("localhost.pem")) // 2] + b"\n" + joined("localhost.key"),
        "empty": b"",
        "utf-16": good.decode().encode("utf-16"),
        "weak key": joined("weak.pem", "int.pem", "weak.key"),
        "weak signature": joined("sha1.pem", "int.pem", "localhost.key"),
        "expired": joined("late.pem", "int.pem", "localhost.key"),
        "not yet valid": joined("early.pem", "int.pem", "localhost.key"),
        "wrong name": joined("elsewhere.pem", "int.pem", "localhost.key"),
        "one name of two": joined("half.pem", "int.pem", "localhost.key"),
        "name in the subject only": joined("subject.pem", "int.pem", "localhost.key"),
        "for clients": joined("client.pem", "int.pem", "localhost.key"),
        "no intermediate": joined("localhost.pem", "localhost.key"),
        "another intermediate": joined("localhost.pem", "other.pem", "localhost.key"),
        "expired intermediate": joined("localhost.pem", "int-late.pem", "localhost.key"),
    }.items():
        (folder / kind).write_bytes(data)
