"""Operations on read models, which a projection's fold returns and one script applies all at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

Argument = str | bytes | int | float


class Op(NamedTuple):
    """One write to a read model, or one message on a channel."""

    command: str
    key: str
    """Empty for an operation without a key."""
    arguments: tuple[Argument, ...]
    expires: bool = True
    """Whether the key gets the full session TTL again."""


def push(key: str, *values: bytes) -> Op:
    """Append `values` to a List."""
    return Op("RPUSH", key, values)


def put(key: str, value: bytes) -> Op:
    """Set a string."""
    return Op("SET", key, (value,))


def put_fields(key: str, fields: Mapping[str, Argument]) -> Op:
    """Set fields of a hash."""
    return Op("HSET", key, tuple(part for item in fields.items() for part in item))


def add(key: str, entry_id: str, fields: Mapping[str, Argument], *, most: int) -> Op:
    """Add an entry to a stream of about `most` entries; `entry_id` ``*`` lets Redis choose."""
    return Op("XADD", key, ("MAXLEN", "~", most, entry_id, *(part for item in fields.items() for part in item)))


def rank(key: str, member: str, score: float, *, expires: bool) -> Op:
    """Put a member into a sorted set."""
    return Op("ZADD", key, (score, member), expires)


def unrank(key: str, member: str) -> Op:
    """Take a member out of a sorted set."""
    return Op("ZREM", key, (member,), expires=False)


def unrank_below(key: str, score: float) -> Op:
    """Take every member with a score of at most `score` out of a sorted set."""
    return Op("ZREMRANGEBYSCORE", key, ("-inf", score))


def publish(channel: str, message: bytes) -> Op:
    """Publish on a sharded channel."""
    return Op("SPUBLISH", channel, (message,), expires=False)


def announce(channel: str, message: bytes) -> Op:
    """Publish on a plain channel, whose listeners may be connected to any node; it has no slot, so it is no key."""
    return Op("PUBLISH", "", (channel, message), expires=False)


def expire(key: str, ttl_s: int) -> Op:
    """Give a key `ttl_s` to live instead of the session TTL, whichever other operations it gets at the same time."""
    return Op("EXPIRE", key, (ttl_s,), expires=False)
