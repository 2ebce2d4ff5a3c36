"""Addresses that tenants give for their webhooks: their syntax, and the machines that they may lead to. Pure.

This machine may reach others that tenants may not: its own loopback, its network, the metadata service of its cloud
(SSRF). So names are resolved by the code that connects, and every address is checked here.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

MOST_URL_CHARACTERS = 2048
"""The length that servers and proxies commonly take."""

_PORTS = {"https": 443, "http": 80}

# Printable ASCII without the characters that parsers disagree on (RFC 3986 has none of them).
_URL = re.compile(r"[!#-;=?-\[\]_a-z~]+", re.IGNORECASE)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*\.?", re.IGNORECASE)
# Resolvers read 127.1, 0x7f000001 and 2130706433 as addresses.
_NUMERIC = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)\.?", re.IGNORECASE)
_LOCAL = re.compile(r"(.*\.)?localhost\.?", re.IGNORECASE)

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
"""RFC 6052: a gateway takes what comes after the prefix for an IPv4 address."""

# Of IANA's registry of special addresses, what `ipaddress` calls global, in older Pythons or in all.
_SPECIAL = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"), IPv6Network("3fff::/20"))


class UnfitAddressError(ValueError):
    """An address that gets no request; the message is for the tenant, and doesn't quote the address."""


class Target(NamedTuple):
    """An address, parsed once, so that all code that uses it agrees."""

    scheme: str
    host: str
    """A name, or an IP address without brackets; lower case."""
    port: int
    path: str
    """With the query."""

    @property
    def authority(self) -> str:
        """The value of the ``Host`` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_target(url: str, *, private: bool) -> Target:
    """Parse an address, and check it as far as that is possible without resolving its name.

    Args:
        url: An absolute ``https://`` address.
        private: Whether plain ``http://``, and literal addresses that aren't public, are allowed.

    Raises:
        UnfitAddressError: if no request may go there.
    """
    if not _URL.fullmatch(url) or len(url) > MOST_URL_CHARACTERS:
        raise UnfitAddressError(f"it isn't an address of at most {MOST_URL_CHARACTERS} plain ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UnfitAddressError("it isn't a well-formed address") from None
    if parts.scheme not in ({"https", "http"} if private else {"https"}):
        raise UnfitAddressError("it must begin with https://")
    if "@" in parts.netloc:
        raise UnfitAddressError("it must not hold a user or a password")
    if parts.fragment or url.endswith("#"):
        raise UnfitAddressError("it must not have a fragment")
    if port == 0:
        raise UnfitAddressError("port 0 does not exist")
    host = _host(parts, private=private)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port or _PORTS[parts.scheme], path)


def _host(parts: SplitResult, *, private: bool) -> str:
    host = parts.hostname or ""
    literal = "[" in parts.netloc or _NUMERIC.fullmatch(host)
    if literal and not _is_address(host, in_brackets="[" in parts.netloc):
        raise UnfitAddressError("its host is a malformed IP address")
    if not literal and not _HOST.fullmatch(host):
        raise UnfitAddressError("its host isn't a name (international ones in their ASCII form)")
    if not private and (not is_public(host) if literal else _LOCAL.fullmatch(host)):
        raise UnfitAddressError("its host isn't public")
    return host


def _is_address(text: str, *, in_brackets: bool) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return in_brackets == isinstance(address, IPv6Address) and "%" not in text


def is_public(text: str) -> bool:
    """Whether an IP address belongs to the public internet, and so does the IPv4 address it may carry inside.

    Raises:
        ValueError: if it is no IP address.
    """
    address = ip_address(text)
    if isinstance(address, IPv4Address):
        return _is_public_v4(address)
    inner = _embedded(address)
    if inner is not None:
        return _is_public_v4(inner)
    # Addresses outside of it are local, multicast, reserved, or a way to write another address.
    return address in _GLOBAL_UNICAST and address.is_global and not _is_special(address)


def _is_public_v4(address: IPv4Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved and not _is_special(address)


def _is_special(address: IPv4Address | IPv6Address) -> bool:
    return any(address in network for network in _SPECIAL)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a mapped, a NAT64 or a 6to4 address leads to; Teredo's aren't global at all."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour
