"""Checksums of what keys hold, to tell whether two read models are equal."""

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
    """What a key holds, as hashes of its elements."""

    kind: bytes
    """Its type as Redis names it; ``none`` for no key."""
    elements: Sequence[tuple[Position, bytes]]
    """In the order in which they count; of a stream with their ids, of others with `START`."""

    def since(self, position: Position) -> Content:
        """Without what stands before `position` in a stream."""
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


def equal(one: Content, other: Content) -> bool:
    """Whether two keys hold the same; of two streams, whose beginnings are trimmed at will, what both still have."""
    since = max(one.first, other.first)
    return one.since(since).checksum == other.since(since).checksum


async def contents(server: Server, keys: Sequence[str]) -> list[Content]:
    """What these keys hold, each at one moment.

    Raises:
        LogUnavailableError: if one can't be reached.
    """
    kinds = await server.execute_many([("TYPE", key) for key in keys])
    commands = []
    for key, kind in zip(keys, kinds, strict=True):
        if isinstance(kind, Exception):
            raise kind
        name, arguments = _CONTENT.get(kind, ("EXISTS", ()))
        commands.append((name, key, *arguments))
    answers = await server.execute_many(commands)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return [Content(kind, _elements(kind, answer)) for kind, answer in zip(kinds, answers, strict=True)]


def _elements(kind: bytes, answer: Any) -> Sequence[tuple[Position, bytes]]:  # noqa: ANN401 - whatever Redis answers
    match kind:
        case b"list":
            return [(START, _hashed(value)) for value in answer]
        case b"string":
            return [(START, _hashed(answer or b""))]
        case b"hash":
            flat = [part for item in answer.items() for part in item] if isinstance(answer, dict) else answer
            fields = sorted(zip(flat[::2], flat[1::2], strict=True))
            return [(START, _hashed(*field)) for field in fields]
        case b"stream":
            return [(Position.parse(entry_id), _hashed(*fields)) for entry_id, fields in answer]
    return []


def _hashed(*values: bytes) -> bytes:
    digest = hashlib.sha256()
    for value in values:
        digest.update(b"%d:" % len(value))
        digest.update(value)
    return digest.digest()
