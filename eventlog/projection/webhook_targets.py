"""Where somebody else asks us to connect to: what such an address may look like, and which machines it may mean. Pure.

Tenants choose where their webhooks go, and this machine may reach what they may not: its own loopback, its network,
the metadata service of its cloud. So names are resolved by whoever connects, and every address is judged here.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

MOST_URL_CHARACTERS = 2048
"""What servers and proxies commonly take of an address."""

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
    """An address that nothing is sent to; the message is for whoever gave it, and doesn't quote it."""


class Target(NamedTuple):
    """An address, taken apart once, so that all who deal with it mean the same."""

    scheme: str
    host: str
    """A name, or an IP address without brackets; lower case."""
    port: int
    path: str
    """With the query."""

    @property
    def authority(self) -> str:
        """As the ``Host`` header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def target_of(url: str, *, private: bool) -> Target:
    """The parts of an address that may be sent to, as far as it can be told without resolving its name.

    Args:
        url: An absolute ``https://`` address.
        private: Whether plain ``http://``, and literal addresses that aren't public, are let pass.

    Raises:
        UnfitAddressError: if it may not.
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
        raise UnfitAddressError("there is no port 0")
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
        ValueError: if it is none.
    """
    address = ip_address(text)
    if isinstance(address, IPv4Address):
        return _is_public_v4(address)
    inner = _embedded(address)
    if inner is not None:
        return _is_public_v4(inner)
    # Whatever is outside of it is local, multicast, reserved, or a way to write another address.
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
