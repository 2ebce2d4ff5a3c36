"""Searches the name and content of every key, for data of a session or a tenant."""

from collections.abc import Sequence
from typing import Any

from eventlog.redis.server import Server

READ = {
    b"string": ("GET",), b"hash": ("HGETALL",), b"list": ("LRANGE", 0, -1), b"set": ("SMEMBERS",),
    b"zset": ("ZRANGE", 0, -1), b"stream": ("XRANGE", "-", "+"),
}  # fmt: skip


async def all_keys(server: Server) -> list[str]:
    """The name of every key, on every node."""
    return sorted([name.decode() async for name in server.client.scan_iter(count=1000)])


async def remains(server: Server, *words: str) -> list[str]:
    """The keys whose name or content has one of `words`."""
    found = []
    for name in await all_keys(server):
        content = await content_of(server, name)
        if any(word in name or word.encode() in content for word in words):
            found.append(name)
    return found


async def content_of(server: Server, name: str) -> bytes:
    """All bytes of a key's value, concatenated; empty if it was deleted meanwhile."""
    kind = await server.execute("TYPE", name)
    if kind not in READ:
        return b""
    command, *arguments = READ[kind]
    return b"\n".join(_leaves(await server.execute(command, name, *arguments)))


def _leaves(value: Any) -> Sequence[bytes]:  # noqa: ANN401 - Redis's answer
    if isinstance(value, bytes):
        return [value]
    if isinstance(value, dict):
        return [leaf for item in value.items() for part in item for leaf in _leaves(part)]
    if isinstance(value, list | tuple | set):
        return [leaf for part in value for leaf in _leaves(part)]
    return []


async def without_ttl(server: Server, word: str) -> list[str]:
    """The keys with `word` in their names that have no TTL."""
    names = [name for name in await all_keys(server) if word in name]
    lives = await server.execute_many([("TTL", name) for name in names])
    return [name for name, life in zip(names, lives, strict=True) if life == -1]
