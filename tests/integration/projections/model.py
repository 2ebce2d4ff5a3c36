"""Redis as far as operations of folds go, in plain Python."""

from collections.abc import Sequence
from typing import Any

from eventlog.codec import encode
from eventlog.events import Fact
from eventlog.keys import RunKeys
from eventlog.positions import START, Position
from eventlog.projection.projection_log import RunFacts
from projections.projection import Command, Projection


class Model:
    """Read models that operations lead to, and the messages that were published."""

    def __init__(self, facts: Sequence[tuple[Position, Fact]]) -> None:
        """Starts empty, over a transcript stream with these facts."""
        self.keys: dict[str, Any] = {}
        self.messages: list[Any] = []
        self.announced: list[Any] = []
        self.ttl_s: dict[str, int] = {}
        self._first = [[str(position).encode(), [b"fact", encode(fact)]] for position, fact in facts[:1]]

    def project(
        self, projection: Projection, keys: RunKeys, batches: Sequence[Sequence[tuple[Position, Fact]]]
    ) -> None:
        """Folds and applies the batches, one after the other."""
        after = START
        for facts in batches:
            pulled = RunFacts(keys, after, facts)
            answers = [self._read(command) for command in projection.reads(pulled)]
            for op in projection.fold(pulled, answers):
                getattr(self, "_" + op.command.lower())(op.key, *op.arguments)
            after = facts[-1][0]

    def _read(self, command: Command) -> object:
        found = self.keys.get(str(command[1]), {})
        if command[0] == "LRANGE":
            return list(found)
        if command[0] == "XREVRANGE":
            return [[entry_id.encode(), fields] for entry_id, fields in list(found.items())[-1:]]
        if command[0] == "HMGET":
            return [str(found[name]).encode() if name in found else None for name in command[2:]]
        return self._first

    def _rpush(self, key: str, *values: bytes) -> None:
        self.keys.setdefault(key, []).extend(values)

    def _set(self, key: str, value: bytes) -> None:
        self.keys[key] = value

    def _hset(self, key: str, *parts: object) -> None:
        self.keys.setdefault(key, {}).update(zip(parts[::2], parts[1::2], strict=True))

    def _xadd(self, key: str, _maxlen: str, _about: str, _most: int, entry_id: str, *fields: object) -> None:
        entries = self.keys.setdefault(key, {})
        assert Position.parse(entry_id) > max(map(Position.parse, entries), default=START)
        entries[entry_id] = fields

    def _zadd(self, key: str, score: float, member: str) -> None:
        self.keys.setdefault(key, {})[member] = score

    def _zrem(self, key: str, member: str) -> None:
        self.keys.get(key, {}).pop(member, None)

    def _zremrangebyscore(self, key: str, _low: str, high: float) -> None:
        found = self.keys.get(key, {})
        self.keys[key] = {member: score for member, score in found.items() if score > high}

    def _spublish(self, key: str, message: bytes) -> None:
        self.messages.append((key, message))

    def _publish(self, _key: str, channel: str, message: bytes) -> None:
        self.announced.append((channel, message))

    def _expire(self, key: str, ttl_s: int) -> None:
        self.ttl_s[key] = ttl_s
