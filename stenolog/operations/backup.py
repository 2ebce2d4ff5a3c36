"""Backups: each master's data as of one moment, taken as a replica takes it, and written into another Redis again.

A master that is asked to SYNC forks and sends its data set as an RDB file, as of the moment of the fork. A session's
keys are all in one slot and so on one master: whatever the masters' moments are, each session is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import redis
from redis.cluster import RedisCluster

from eventlog.partitions import EVERY_KEY
from eventlog.redis.server import Tls
from stenolog.errors import UserError

MANIFEST = "manifest.json"

MAGIC = (b"REDIS", b"VALKEY")
"""First bytes of RDB files."""

SILENCE_TIMEOUT_S = 120.0
"""A master that waits for others to sync along, or forks many gigabytes, sends an empty line now and then."""

MAX_CONCURRENT_MASTERS = 8
"""Each costs its machine a fork; so many streams fill any network."""

READ_BYTES = 1 << 20

EOF_MARK_BYTES = 40
"""Sent before and after a file whose length the master doesn't know yet."""

BATCH_KEYS = 16
"""Written together: at worst some streams of 24 MB, the audio of ten minutes."""

Client = Any
"""A client, connection or socket, with or without TLS, of one Redis or a cluster: the library types them half."""

LOADING_TIMEOUT_S = 900.0
"""The longest that reading the backup may take: ten gigabytes take minutes."""


class BackupError(UserError):
    """A backup can't be taken or restored."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One master's file."""

    file: str
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a backup's directory."""

    version: int = 1
    stenolog: str
    taken_ms: int
    """When the backup began, Unix ms."""
    parts: list[Part]


class Restored(NamedTuple):
    """The result of a restore."""

    keys: int
    expired: int
    """Keys that had no time left."""


def take(url: str, tls: Tls, directory: Path, version: str) -> Manifest:
    """Write a backup of the Redis at `url` to `directory`, all of it or nothing.

    Raises:
        BackupError: if it can't be taken, or the directory exists.
    """
    if directory.exists():
        raise BackupError(f"{directory} exists already; name a new directory")
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = directory.with_name(f"{directory.name}.partial-{secrets.token_hex(4)}")
    partial.mkdir(mode=0o700)
    try:
        taken_ms = time.time_ns() // 1_000_000
        with _backup_errors(), ThreadPoolExecutor(MAX_CONCURRENT_MASTERS) as pool:
            masters = _masters(url, tls)
            parts = pool.map(
                lambda numbered: _synced(numbered[1], partial / f"master-{numbered[0]}.rdb"), enumerate(masters)
            )
            manifest = Manifest(stenolog=version, taken_ms=taken_ms, parts=list(parts))
        (partial / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def restore(directory: Path, url: str, tls: Tls, binary: str, on_key: Callable[[int], None]) -> Restored:
    """Write the backup in `directory` into the Redis at `url`, which holds nothing of Stenolog; `binary` reads it.

    Raises:
        BackupError: if it can't be, or isn't empty; keys written by then stay.
    """
    manifest = checked(directory)
    with _backup_errors(), _client(url, tls) as target:
        _refuse_used(target)
        written = expired = 0
        for part in manifest.parts:
            with _loaded(directory / part.file, binary) as source:
                for keys in _batches(source):
                    count = _copied(source, target, keys)
                    written, expired = written + count, expired + len(keys) - count
                    on_key(written)
    return Restored(written, expired)


def checked(directory: Path) -> Manifest:
    """The manifest of a backup, once its files match their checksums.

    Raises:
        BackupError: if one is missing or differs.
    """
    try:
        manifest = msgspec.json.decode((directory / MANIFEST).read_bytes(), type=Manifest)
        for part in manifest.parts:
            with (directory / part.file).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != part.sha256:
                raise BackupError(f"{directory / part.file} differs from its checksum")
    except (OSError, msgspec.DecodeError) as error:
        raise BackupError(f"{directory} holds no whole backup: {error}") from error
    return manifest


@contextlib.contextmanager
def _backup_errors() -> Iterator[None]:
    """Turn errors of the client library and the system into `BackupError`."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise BackupError(f"Redis can't be used: {error}") from error


def _client(url: str, tls: Tls) -> Client:
    options: dict[str, Any] = {**tls.options(url), "socket_timeout": SILENCE_TIMEOUT_S}
    client = redis.Redis.from_url(url, **options)
    if client.info("cluster").get("cluster_enabled"):
        client.close()
        return RedisCluster.from_url(url, **options)
    return client


def _masters(url: str, tls: Tls) -> list[Client]:
    """A connection to each master of a cluster, or to the one Redis; not connected yet."""
    with _client(url, tls) as client:
        primaries = getattr(client, "get_primaries", None)
        if primaries is None:
            return [client.connection_pool.make_connection()]
        nodes = sorted(primaries(), key=lambda node: str(node.name))
        return [client.get_redis_connection(node).connection_pool.make_connection() for node in nodes]


def _synced(connection: Client, path: Path) -> Part:
    """A master's data set, as it sends it to a replica."""
    digest, count = hashlib.sha256(), 0
    connection.connect()
    try:
        # Without it a master would write a file on its own disk first.
        connection.send_command("REPLCONF", "capa", "eof")
        connection.read_response()
        connection.send_command("SYNC")
        with path.open("xb") as file:
            for piece in _payload(connection._sock):  # noqa: SLF001 - what follows is no answer that the library could read
                if not count and not piece.startswith(MAGIC):
                    raise BackupError("the master sent no RDB file")
                file.write(piece)
                digest.update(piece)
                count += len(piece)
            file.flush()
            os.fsync(file.fileno())
    finally:
        connection.disconnect()
    return Part(file=path.name, bytes=count, sha256=digest.hexdigest())


def _payload(socket: Client) -> Iterator[bytes]:
    """The file that a master sends after SYNC, behind its length or an end mark."""
    head = b"\n"
    while head == b"\n":  # the master is alive, and not ready yet
        head = _line(socket)
    if not head.startswith(b"$"):
        raise BackupError(f"the master refuses: {head.decode(errors='replace').strip()}")
    if head.startswith(b"$EOF:"):
        yield from _until(socket, head[5:].strip())
        return
    left = int(head[1:])
    while left:
        piece = _received(socket, min(left, READ_BYTES))
        left -= len(piece)
        yield piece


def _line(socket: Client) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        line += _received(socket, 1)
    return line


def _until(socket: Client, mark: bytes) -> Iterator[bytes]:
    """Everything before `mark`, after which the master sends nothing until the replica answers."""
    held = b""
    while not held.endswith(mark):
        held += _received(socket, READ_BYTES)
        if not held.endswith(mark) and len(held) > READ_BYTES:
            yield held[:-EOF_MARK_BYTES]
            held = held[-EOF_MARK_BYTES:]
    yield held[: -len(mark)]


def _received(socket: Client, most: int) -> bytes:
    piece: bytes = socket.recv(most)
    if not piece:
        raise BackupError("the master ended the connection before the end of its data; is its output buffer too small?")
    return piece


@contextlib.contextmanager
def _loaded(path: Path, binary: str) -> Iterator[Client]:
    """A private server that has read a backup's file, over a socket in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="stenolog-restore-") as directory:
        shutil.copyfile(path, Path(directory) / "dump.rdb")
        address = str(Path(directory) / "server.sock")
        options = ["--port", "0", "--unixsocket", address, "--unixsocketperm", "700", "--dir", directory]
        log = Path(directory) / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [binary, *options, "--save", "", "--appendonly", "no"], stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        try:
            with redis.Redis(unix_socket_path=address, socket_timeout=SILENCE_TIMEOUT_S) as client:
                _wait_loaded(client, process, log)
                yield client
        finally:
            process.kill()
            process.wait()


def _wait_loaded(client: Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + LOADING_TIMEOUT_S
    while True:
        try:
            client.ping()
        except redis.RedisError as error:
            if process.poll() is not None:
                last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
                raise BackupError("the backup can't be read:\n  " + "\n  ".join(last)) from error
            if time.monotonic() > deadline:
                raise BackupError("reading the backup takes too long") from error
            time.sleep(0.02)
        else:
            return


def _batches(source: Client) -> Iterator[list[bytes]]:
    keys: list[bytes] = []
    for key in source.scan_iter(match=EVERY_KEY, count=1000):
        keys.append(key)
        if len(keys) == BATCH_KEYS:
            yield keys
            keys = []
    if keys:
        yield keys


def _copied(source: Client, target: Client, keys: Sequence[bytes]) -> int:
    """Write these keys unchanged; returns how many still had time to live."""
    asking = source.pipeline(transaction=False)
    for key in keys:
        asking.dump(key)
        asking.pexpiretime(key)
    answers = asking.execute()
    writing = target.pipeline(transaction=False)
    count = 0
    for key, dumped, expires_ms in zip(keys, answers[::2], answers[1::2], strict=True):
        if dumped is not None:
            writing.restore(key, max(0, expires_ms), dumped, absttl=expires_ms > 0)
            count += 1
    writing.execute()
    return count


def _refuse_used(target: Client) -> None:
    for key in target.scan_iter(match=EVERY_KEY, count=1000):
        raise BackupError(f"the Redis to restore into isn't empty: it has {key.decode(errors='replace')}")
