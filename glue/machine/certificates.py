"""Whether a server can load a certificate and clients trust it, found by handshakes in memory.

Python's ssl loads a file as HAProxy does, by the same library; tests/e2e/test_https.py compares.
"""

from __future__ import annotations

import re
import ssl
from enum import IntEnum
from pathlib import Path

BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
SELF_SIGNED, NO_ISSUER = 18, (2, 20, 21)  # X509_V_ERR_... of OpenSSL's x509_vfy.h
UNKNOWN_ISSUER = (
    "its issuer is neither in the file nor known here: add the intermediate or the office's root,"
    " or set EXTRA_CA"
)
ROUNDS = 4  # of a handshake, whichever version of TLS


class Flaw(IntEnum):
    """Higher is worse."""

    NONE = 0
    ISSUER_UNKNOWN = 1  # an intermediate is missing, or the issuer is a root that clients may know
    NOT_TRUSTED = 2
    CANNOT_BE_SERVED = 3


class Unusable(Exception):
    """A certificate file that no server can load."""


def flaws(
    certificate: Path, names: list[str], client: ssl.SSLContext
) -> dict[str, tuple[Flaw, str]]:
    """By name, the flaw and its words. client: has the roots that count; is changed. Raises
    Unusable or OSError."""
    server = loaded(certificate)
    first, *chain = BLOCK.findall(certificate.read_bytes().decode("ascii", "replace"))
    # as browsers: the name counts in subjectAltName only, a root need not be in the file, and
    # Python 3.13's strict checks are off
    client.hostname_checks_common_name = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if chain:
        client.load_verify_locations(cadata="\n".join(chain))
    found = {name: refusal(server, client, name) for name in names}
    client.load_verify_locations(cadata=first)
    return {name: judged(*found[name], refusal(server, client, name)) for name in names}


def judged(code: int, words: str, with_issuer: tuple[int, str]) -> tuple[Flaw, str]:
    """with_issuer: the refusal by a client that trusts the certificate itself."""
    if code == SELF_SIGNED or code in NO_ISSUER:
        issuer_counts, (code, words) = code in NO_ISSUER, with_issuer
        if not code and issuer_counts:
            return Flaw.ISSUER_UNKNOWN, UNKNOWN_ISSUER
    return (Flaw.NOT_TRUSTED, words) if code else (Flaw.NONE, "")


def refusal(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> tuple[int, str]:
    """OpenSSL's code and words for why the client refuses this name; 0 if it accepts."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(down, up, server_hostname=name),
        server.wrap_bio(up, down, server_side=True),
    )
    for _ in range(ROUNDS):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_code, error.verify_message
            except ssl.SSLError as error:
                return -1, str(error)
    return 0, ""


def loaded(certificate: Path) -> ssl.SSLContext:
    """Raises Unusable with the file's fault, or OSError if it cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, password=no_passphrase)
    except ssl.SSLError as error:
        raise Unusable(file_fault(certificate.read_bytes(), error)) from error
    return context


def no_passphrase() -> str:
    raise Unusable(
        "its key is encrypted, and nothing can enter its passphrase when the chat starts"
    )


def file_fault(data: bytes, error: ssl.SSLError) -> str:
    if data.startswith(b"0") or b"\0" in data[:16]:
        return f"it is {'DER or PKCS#12' if data.startswith(b'0') else 'UTF-16'}, not PEM"
    for part in (b"CERTIFICATE", b"PRIVATE KEY"):
        if not re.search(rb"(?m)^-----BEGIN [A-Z ]*" + part + b"-----", data):
            return f"it has no line -----BEGIN {part.decode()}-----"
    if error.reason == "KEY_VALUES_MISMATCH":
        first = "the server's comes first, then its intermediates"
        return f"its key does not belong to its first certificate: {first}"
    return f"it cannot be loaded: {error}"
