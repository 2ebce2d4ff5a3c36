"""Compares rebuilt read models with those that they replace, by checksums of all that their keys hold."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from eventlog.positions import START, Position
from eventlog.redis.server import Argument, Server

_CONTENT: dict[bytes, tuple[str, tuple[Argument, ...]]] = {
    b"list": ("LRANGE", (0, -1)), b"string": ("GET", ()), b"hash": ("HGETALL", ()), b"stream": ("XRANGE", ("-", "+")),
}  # fmt: skip


class Content(NamedTuple):
    """The content of a key, as hashes of its elements."""

    kind: bytes
    """Its type as Redis names it; ``none`` for no key."""
    elements: Sequence[tuple[Position, bytes]]
    """In the order in which they count; of a stream with their ids, of others with `START`."""

    def since(self, position: Position) -> Content:
        """Without the entries before `position` in a stream."""
        return self._replace(elements=[one for one in self.elements if one[0] >= position])

    @property
    def first(self) -> Position:
        """Where a stream begins."""
        return self.elements[0][0] if self.elements else START

    @property
    def checksum(self) -> bytes:
        """SHA-256 over the type and each element's position and SHA-256."""
        digest = hashlib.sha256(self.kind)
        for position, element in self.elements:
            digest.update(f" {position} ".encode())
            digest.update(element)
        return digest.digest()

    def named_checksum(self, name: str) -> int:
        """The checksum, with the name of the key's part, as a number that can be added up; 0 for no key."""
        if self.kind == b"none":
            return 0
        return int.from_bytes(hashlib.sha256(f"{name} ".encode() + self.checksum).digest(), "big")


class Comparison(NamedTuple):
    """Two contents of a key, compared from where both begin: a stream's beginning is trimmed at will."""

    is_equal: bool
    checksum_before: int
    checksum_after: int


def compare(name: str, before: Content, after: Content) -> Comparison:
    """Compare the contents of a part called `name`, before and after its rebuild."""
    since = max(before.first, after.first)
    old, new = before.since(since), after.since(since)
    return Comparison(old.checksum == new.checksum, old.named_checksum(name), new.named_checksum(name))


async def read_contents(server: Server, keys: Sequence[str]) -> list[Content]:
    """The contents of these keys, each at one moment.

    Raises:
        LogUnavailableError: if one can't be reached.
    """
    kinds = await server.execute_all([("TYPE", key) for key in keys])
    commands: list[tuple[Argument, ...]] = []
    for key, kind in zip(keys, kinds, strict=True):
        name, arguments = _CONTENT.get(kind, ("EXISTS", ()))
        commands.append((name, key, *arguments))
    answers = await server.execute_all(commands)
    return [Content(kind, _elements(kind, answer)) for kind, answer in zip(kinds, answers, strict=True)]


def _elements(kind: bytes, answer: Any) -> Sequence[tuple[Position, bytes]]:  # noqa: ANN401 - whatever Redis answers
    match kind:
        case b"list":
            return [(START, _hash(value)) for value in answer]
        case b"string":
            return [(START, _hash(answer or b""))]
        case b"hash":
            flat = [part for item in answer.items() for part in item] if isinstance(answer, dict) else answer
            fields = sorted(zip(flat[::2], flat[1::2], strict=True))
            return [(START, _hash(*field)) for field in fields]
        case b"stream":
            return [(Position.parse(entry_id), _hash(*fields)) for entry_id, fields in answer]
    return []


def _hash(*values: bytes) -> bytes:
    digest = hashlib.sha256()
    for value in values:
        digest.update(b"%d:" % len(value))
        digest.update(value)
    return digest.digest()
