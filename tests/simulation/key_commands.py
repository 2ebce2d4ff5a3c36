"""The model's keys, and the commands on everything but streams."""

from collections.abc import Callable
from typing import Any, TypeVar

from tests.simulation.streams import CommandError, Stream

Value = bytes | list[bytes] | dict[bytes, bytes] | dict[bytes, float] | Stream
Kind = TypeVar("Kind")


class Status(bytes):
    """A simple string, such as OK: a script sees it as a table."""

    __slots__ = ()


OK = Status(b"OK")


class Ranking(dict[bytes, float]):
    """A sorted set: scores by member."""


class Fields(dict[bytes, bytes]):
    """A hash."""


class Items(list[bytes]):
    """A list."""


_TYPES: dict[type, bytes] = {bytes: b"string", Items: b"list", Fields: b"hash", Ranking: b"zset", Stream: b"stream"}


class Store:
    """Keys with their values and times to live."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.now_ms = now_ms
        self._values: dict[str, Any] = {}
        self._expires_ms: dict[str, int] = {}

    def execute(self, name: str, arguments: list[bytes]) -> Any:  # noqa: ANN401 - as Redis, a shape for each command
        """A command's answer.

        Raises:
            CommandError: if it is refused.
        """
        command = _COMMANDS.get(name)
        if command is None:
            raise CommandError(f"ERR unknown command '{name}' in the model")
        return command(self, arguments)

    def names(self) -> list[str]:
        """Every key."""
        return sorted(key for key in list(self._values) if self.find(key, object) is not None)

    def find(self, key: str, kind: type[Kind]) -> Kind | None:
        """A key's value, or None.

        Raises:
            CommandError: if it is of another kind.
        """
        if key in self._expires_ms and self._expires_ms[key] <= self.now_ms():
            self.delete(key)
        value = self._values.get(key)
        if value is not None and not isinstance(value, kind):
            raise CommandError("WRONGTYPE Operation against a key holding the wrong kind of value")
        return value

    def have(self, key: str, kind: type[Kind]) -> Kind:
        """A key's value, created if it is missing."""
        value = self.find(key, kind)
        if value is None:
            value = self._values[key] = kind()
        return value

    def put(self, key: str, value: bytes, expires_ms: int | None) -> None:
        """Set a string, with or without a TTL."""
        self._values[key] = value
        self._expires_ms.pop(key, None)
        if expires_ms is not None:
            self._expires_ms[key] = expires_ms

    def delete(self, key: str) -> bool:
        """Delete a key; returns whether it existed."""
        self._expires_ms.pop(key, None)
        return self._values.pop(key, None) is not None

    def tidy(self, key: str) -> None:
        """Delete an empty value that is no stream, as Redis does."""
        if key in self._values and not isinstance(self._values[key], Stream) and not self._values[key]:
            self.delete(key)

    def expire(self, key: str, ttl_s: int) -> int:
        """Set a key's TTL; 1 if it exists."""
        if self.find(key, object) is None:
            return 0
        self._expires_ms[key] = self.now_ms() + ttl_s * 1000
        return 1

    def ttl(self, key: str) -> int:
        """Seconds left; -1 without a TTL, -2 without the key."""
        if self.find(key, object) is None:
            return -2
        end = self._expires_ms.get(key)
        return -1 if end is None else (end - self.now_ms() + 500) // 1000

    def type_of(self, key: str) -> bytes:
        """The reply to TYPE."""
        value = self.find(key, object)
        return b"none" if value is None else _TYPES[type(value)]


def _set(store: Store, arguments: list[bytes]) -> Any:  # noqa: ANN401 - OK or None
    key, value, *options = arguments
    name = key.decode()
    if b"NX" in options and store.find(name, object) is not None:
        return None
    expires_ms = None
    if b"EX" in options:
        expires_ms = store.now_ms() + int(options[options.index(b"EX") + 1]) * 1000
    store.put(name, value, expires_ms)
    return OK


def _hash_set(store: Store, arguments: list[bytes]) -> int:
    fields = store.have(arguments[0].decode(), Fields)
    before = len(fields)
    fields.update(zip(arguments[1::2], arguments[2::2], strict=True))
    return len(fields) - before


def _fields(store: Store, key: bytes) -> Fields:
    return store.find(key.decode(), Fields) or Fields()


def _hash_delete(store: Store, arguments: list[bytes]) -> int:
    fields = _fields(store, arguments[0])
    gone = sum(fields.pop(name, None) is not None for name in arguments[1:])
    store.tidy(arguments[0].decode())
    return gone


def _hash_increase(store: Store, arguments: list[bytes]) -> int:
    fields = store.have(arguments[0].decode(), Fields)
    value = int(fields.get(arguments[1], b"0")) + int(arguments[2])
    fields[arguments[1]] = str(value).encode()
    return value


def _flat(fields: Fields) -> list[bytes]:
    return [part for item in fields.items() for part in item]


def _ranking(store: Store, key: bytes) -> Ranking:
    return store.find(key.decode(), Ranking) or Ranking()


def _rank(store: Store, arguments: list[bytes]) -> int:
    key, *rest = arguments
    only_known = rest[0] == b"XX"
    pairs = rest[1:] if only_known else rest
    ranking = _ranking(store, key) if only_known else store.have(key.decode(), Ranking)
    before = len(ranking)
    for score, member in zip(pairs[::2], pairs[1::2], strict=True):
        if not only_known or member in ranking:
            ranking[member] = float(score)
    return len(ranking) - before


def _unrank(store: Store, key: bytes, members: list[bytes]) -> int:
    ranking = _ranking(store, key)
    gone = sum(ranking.pop(member, None) is not None for member in members)
    store.tidy(key.decode())
    return gone


def _unrank_between(store: Store, arguments: list[bytes]) -> int:
    low, high = arguments[1], arguments[2]
    members = [
        member for member, score in _ranking(store, arguments[0]).items() if _above(score, low) and _below(score, high)
    ]
    return _unrank(store, arguments[0], members)


def _above(score: float, bound: bytes) -> bool:
    return score > float(bound[1:]) if bound.startswith(b"(") else score >= float(bound)


def _below(score: float, bound: bytes) -> bool:
    return score < float(bound[1:]) if bound.startswith(b"(") else score <= float(bound)


def _score(store: Store, arguments: list[bytes]) -> bytes | None:
    score = _ranking(store, arguments[0]).get(arguments[1])
    return None if score is None else f"{score:.17g}".encode()


def _ranked(store: Store, key: bytes) -> list[bytes]:
    items = sorted(_ranking(store, key).items(), key=lambda item: (item[1], item[0]))
    return [part for member, score in items for part in (member, f"{score:.17g}".encode())]


def _push(store: Store, arguments: list[bytes]) -> int:
    items = store.have(arguments[0].decode(), Items)
    items.extend(arguments[1:])
    return len(items)


def _range(store: Store, arguments: list[bytes]) -> list[bytes]:
    items = store.find(arguments[0].decode(), Items) or Items()
    last = int(arguments[2])
    return list(items[int(arguments[1]) : last + 1 if last >= 0 else len(items) + last + 1])


def _time(store: Store) -> list[bytes]:
    now_ms = store.now_ms()
    return [str(now_ms // 1000).encode(), str(now_ms % 1000 * 1000).encode()]


_COMMANDS: dict[str, Callable[[Store, list[bytes]], Any]] = {
    "INFO": lambda _, __: {"used_memory": 0, "maxmemory": 0},  # as redis-py parses it: memory never runs short
    "TIME": lambda store, _: _time(store),
    "EXISTS": lambda store, of: sum(store.find(key.decode(), object) is not None for key in of),
    "DEL": lambda store, of: sum(store.delete(key.decode()) for key in of),
    "TYPE": lambda store, of: Status(store.type_of(of[0].decode())),
    "EXPIRE": lambda store, of: store.expire(of[0].decode(), int(of[1])),
    "TTL": lambda store, of: store.ttl(of[0].decode()),
    "GET": lambda store, of: store.find(of[0].decode(), bytes),
    "SET": _set,
    "HSET": _hash_set,
    "HGET": lambda store, of: _fields(store, of[0]).get(of[1]),
    "HMGET": lambda store, of: [_fields(store, of[0]).get(name) for name in of[1:]],
    "HGETALL": lambda store, of: _flat(_fields(store, of[0])),
    "HEXISTS": lambda store, of: int(of[1] in _fields(store, of[0])),
    "HDEL": _hash_delete,
    "HINCRBY": _hash_increase,
    "HSCAN": lambda store, of: [b"0", _flat(_fields(store, of[0]))],
    "ZADD": _rank,
    "ZREM": lambda store, of: _unrank(store, of[0], of[1:]),
    "ZSCORE": _score,
    "ZREMRANGEBYSCORE": _unrank_between,
    "ZSCAN": lambda store, of: [b"0", _ranked(store, of[0])],
    "RPUSH": _push,
    "LRANGE": _range,
    "LLEN": lambda store, of: len(store.find(of[0].decode(), Items) or ()),
}
