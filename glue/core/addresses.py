"""Names and IP addresses of this machine. Pure."""

from __future__ import annotations

import ipaddress
import re

import idna


def is_address(value: str) -> bool:
    try:
        return bool(checked(value))
    except ValueError:
        return False


def checked(value: str) -> str:
    """Raises ValueError unless value is an IP address."""
    ipaddress.ip_address(value)
    return value


def checked_names(value: str) -> str:
    """Names and addresses with commas between them. Raises ValueError for any other text."""
    if not all(re.fullmatch(r"[\w.:\-]+", ascii_name(name)) for name in value.split(",")):
        raise ValueError(value)
    return value


def ascii_name(name: str) -> str:
    """bücher.example as xn--bcher-kva.example, by UTS 46 as browsers do. Or raises ValueError."""
    return name.lower() if name.isascii() else idna.encode(name, uts46=True).decode()


def origin(name: str, port: str) -> str:
    """As a browser sends it: no port 443, and brackets around an IPv6 address."""
    return f"https://{f'[{name}]' if ':' in name else name}{'' if port == '443' else f':{port}'}"
