"""Names and IP addresses of this site, as people write them and as programs compare them. Pure."""

from __future__ import annotations

import ipaddress
import re

import idna


def is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def are_names(value: str) -> bool:
    """Names and addresses, with commas between them."""
    try:
        return all(re.fullmatch(r"[\w.:\-]+", ascii_name(name)) for name in value.split(","))
    except ValueError:
        return False


def ascii_name(name: str) -> str:
    """bücher.example as xn--bcher-kva.example (RFC 5891, by UTS 46 as browsers do). Raises
    ValueError if it has no such form."""
    return name.lower() if name.isascii() else idna.encode(name, uts46=True).decode()


def origin(name: str, port: str) -> str:
    """As a browser sends it: https://name, with the port unless it is 443, and brackets around an
    IPv6 address."""
    return f"https://{f'[{name}]' if ':' in name else name}{'' if port == '443' else f':{port}'}"
