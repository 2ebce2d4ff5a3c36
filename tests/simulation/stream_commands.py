"""The model's commands on streams and their consumer groups."""

from collections.abc import Callable
from typing import Any

from tests.simulation.key_commands import OK, Store
from tests.simulation.streams import CommandError, EntryId, Group, Pending, Stream, bounds, no_group, parse, show


def _stream(store: Store, key: bytes) -> Stream:
    return store.find(key.decode(), Stream) or Stream()


def _group(store: Store, key: bytes, name: bytes) -> Group:
    return _stream(store, key).group(name, key.decode())


def _option(arguments: list[bytes], name: bytes, default: int) -> int:
    return int(arguments[arguments.index(name) + 1]) if name in arguments else default


def _add(store: Store, arguments: list[bytes]) -> bytes | None:
    key, *rest = arguments
    must_exist = rest[0] == b"NOMKSTREAM"
    rest = rest[must_exist:]
    if rest[0] == b"MAXLEN":  # approximate: whole nodes of a hundred entries, which nothing here ever fills
        rest = rest[3 if rest[1] in (b"~", b"=") else 2 :]
    if must_exist and store.find(key.decode(), Stream) is None:
        return None
    given = rest[0].decode()
    if given != "*" and parse(given) == (0, 0):
        raise CommandError("ERR The ID specified in XADD must be greater than 0-0")
    return store.have(key.decode(), Stream).add(given, rest[1:], store.now_ms())


def _range(store: Store, arguments: list[bytes], *, backwards: bool = False) -> list[Any]:
    stream = _stream(store, arguments[0])
    first, last = (arguments[2], arguments[1]) if backwards else (arguments[1], arguments[2])
    found = stream.between(*bounds(first.decode(), last.decode()))
    if backwards:
        found = found[::-1]
    return [stream.shown(entry) for entry in found[: _option(arguments, b"COUNT", len(found))]]


def _requested(arguments: list[bytes]) -> list[tuple[bytes, bytes]]:
    """The streams of a read, each with the id to read after."""
    rest = arguments[arguments.index(b"STREAMS") + 1 :]
    half = len(rest) // 2
    return list(zip(rest[:half], rest[half:], strict=True))


def _read(store: Store, arguments: list[bytes]) -> list[Any] | None:
    found = []
    for key, after in _requested(arguments):
        stream = _stream(store, key)
        entries = stream.after(parse(after.decode()))
        if entries:
            found.append([key, [stream.shown(one) for one in entries[: _option(arguments, b"COUNT", len(entries))]]])
    return found or None


def _read_group(store: Store, arguments: list[bytes]) -> list[Any] | None:
    name, consumer, found = arguments[1], arguments[2], []
    for key, after in _requested(arguments):
        group = _group(store, key, name)
        group.seen_ms[consumer] = store.now_ms()
        stream = _stream(store, key)
        if after == b">":
            entries = _delivered(store, stream, group, consumer, _option(arguments, b"COUNT", len(stream) or 1))
            if not entries:
                continue
        else:
            entries = _redelivered(store, stream, group, consumer, parse(after.decode()))
        found.append([key, entries])
    return found or None


def _delivered(store: Store, stream: Stream, group: Group, consumer: bytes, count: int) -> list[Any]:
    entries = stream.after(group.last_delivered)[:count]
    for entry in entries:
        group.pending[entry] = Pending(consumer, store.now_ms())
        group.last_delivered = entry
    return [stream.shown(entry) for entry in entries]


def _redelivered(store: Store, stream: Stream, group: Group, consumer: bytes, after: EntryId) -> list[Any]:
    found = []
    for entry, pending in group.held_by(consumer):
        if entry > after:
            if entry in stream.fields:
                pending.delivered_ms = store.now_ms()
                pending.deliveries += 1
            found.append(stream.shown(entry))
    return found


def _ack(store: Store, arguments: list[bytes]) -> int:
    group = _stream(store, arguments[0]).groups.get(arguments[1])
    return sum(bool(group and group.pending.pop(parse(one.decode()), None)) for one in arguments[2:])


def _pending(store: Store, arguments: list[bytes]) -> list[Any]:
    key, name, *rest = arguments
    group = _group(store, key, name)
    if not rest:
        return _pending_summary(group)
    idle_ms = 0
    if rest[0] == b"IDLE":
        idle_ms, rest = int(rest[1]), rest[2:]
    first, last = bounds(rest[0].decode(), rest[1].decode())
    found: list[Any] = []
    for entry, one in group.sorted_pending():
        idle = max(0, store.now_ms() - one.delivered_ms)
        if first <= entry <= last and idle >= idle_ms and len(found) < int(rest[2]):
            found.append([show(entry), one.consumer, idle, one.deliveries])
    return found


def _pending_summary(group: Group) -> list[Any]:
    entries = [entry for entry, _ in group.sorted_pending()]
    if not entries:
        return [0, None, None, None]
    consumers = sorted({one.consumer for one in group.pending.values()})
    counts = [[consumer, str(len(group.held_by(consumer))).encode()] for consumer in consumers]
    return [len(entries), show(entries[0]), show(entries[-1]), counts]


def _claim(store: Store, arguments: list[bytes]) -> list[Any]:
    key, name, consumer, least_idle, *rest = arguments
    group, stream = _group(store, key, name), _stream(store, key)
    just_id = b"JUSTID" in rest
    delivered_ms = store.now_ms() - _option(rest, b"IDLE", 0)
    group.seen_ms[consumer] = store.now_ms()
    entries = [parse(one.decode()) for one in rest if b"-" in one]
    taken = [
        entry for entry in entries
        if _claimed(store, stream, group, entry, consumer=consumer, least_idle_ms=int(least_idle))
    ]  # fmt: skip
    for entry in taken:
        group.pending[entry].delivered_ms = delivered_ms
        group.pending[entry].deliveries += not just_id
    return [show(entry) if just_id else stream.shown(entry) for entry in taken]


def _claimed(
    store: Store, stream: Stream, group: Group, entry: EntryId, *, consumer: bytes, least_idle_ms: int
) -> bool:
    pending = group.pending.get(entry)
    if pending is None:
        return False
    if entry not in stream.fields:  # deleted meanwhile: pending for no consumer
        del group.pending[entry]
        return False
    if store.now_ms() - pending.delivered_ms < least_idle_ms:
        return False
    pending.consumer = consumer
    return True


def _auto_claim(store: Store, arguments: list[bytes]) -> list[Any]:
    key, name, consumer, least_idle, _, *rest = arguments
    group, stream = _group(store, key, name), _stream(store, key)
    group.seen_ms[consumer] = store.now_ms()
    pending = group.sorted_pending()
    gone = [entry for entry, _ in pending if entry not in stream.fields]
    for entry in gone:  # forgotten however short they are idle
        del group.pending[entry]
    idle = [entry for entry, one in pending if store.now_ms() - one.delivered_ms >= int(least_idle)]
    taken = [entry for entry in idle if entry not in gone][: _option(rest, b"COUNT", 100)]
    for entry in taken:
        group.pending[entry] = Pending(consumer, store.now_ms(), group.pending[entry].deliveries + 1)
    return [b"0-0", [stream.shown(one) for one in taken], [show(one) for one in gone]]


def _delete(store: Store, arguments: list[bytes]) -> int:
    stream = _stream(store, arguments[0])
    return sum(stream.remove(parse(one.decode())) for one in arguments[1:])


def _trim(store: Store, arguments: list[bytes]) -> int:
    stream, bound = _stream(store, arguments[0]), arguments[-1].decode()
    # Approximate trimming may free as much as exact trimming: the worst that a caller must live with.
    return stream.keep_from(parse(bound)) if arguments[1] == b"MINID" else stream.keep_last(int(bound))


def _manage(store: Store, arguments: list[bytes]) -> Any:  # noqa: ANN401 - OK or a count
    action, key, name, *rest = arguments
    if action == b"DELCONSUMER":
        group = _group(store, key, name)
        held = group.held_by(rest[0])
        for entry, _ in held:
            del group.pending[entry]
        group.seen_ms.pop(rest[0], None)
        return len(held)
    if store.find(key.decode(), Stream) is None and b"MKSTREAM" not in rest:
        raise CommandError("ERR The XGROUP subcommand requires the key to exist.")
    stream = store.have(key.decode(), Stream)
    if name in stream.groups:
        raise CommandError("BUSYGROUP Consumer Group name already exists")
    stream.groups[name] = Group(stream.last if rest[0] == b"$" else parse(rest[0].decode()))
    return OK


def _inspect(store: Store, arguments: list[bytes]) -> list[Any]:
    kind, key, *rest = arguments
    stream = store.find(key.decode(), Stream)
    if stream is None:
        raise CommandError("ERR no such key")
    if kind == b"CONSUMERS":
        group = stream.group(rest[0], key.decode())
        return [
            [b"name", name, b"pending", len(group.held_by(name)), b"idle", store.now_ms() - group.seen_ms[name]]
            for name in sorted(group.seen_ms)
        ]
    return [
        [
            b"name", name, b"consumers", len(group.seen_ms), b"pending", len(group.pending),
            b"last-delivered-id", show(group.last_delivered),
        ]
        for name, group in sorted(stream.groups.items())
    ]  # fmt: skip


STREAM_COMMANDS: dict[str, Callable[[Store, list[bytes]], Any]] = {
    "XADD": _add,
    "XLEN": lambda store, of: len(_stream(store, of[0])),
    "XRANGE": _range,
    "XREVRANGE": lambda store, of: _range(store, of, backwards=True),
    "XREAD": _read,
    "XREADGROUP": _read_group,
    "XACK": _ack,
    "XPENDING": _pending,
    "XCLAIM": _claim,
    "XAUTOCLAIM": _auto_claim,
    "XDEL": _delete,
    "XTRIM": _trim,
    "XGROUP": _manage,
    "XINFO": _inspect,
}
__all__ = ["STREAM_COMMANDS", "no_group"]
