"""Stores: where an archive's objects are kept, and what each kind of place promises.

A store blocks; whoever must not calls it in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol
from urllib.parse import unquote, urlsplit

import msgspec

Encryption = Literal["AES256", "aws:kms", "bucket"]


class ArchiveUnavailableError(Exception):
    """The store can't be reached, or refuses; it may be otherwise later. The message holds no secret."""


class MissingObjectError(Exception):
    """There is no object of that name."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where an archive is.

    Attributes:
        url: ``s3://bucket/prefix``, ``file:///directory``, or the path of a directory.
        region: AWS region of the bucket.
        endpoint_url: Address of an emulator, or of a store that speaks S3; empty for what boto3 finds by itself.
        encryption: How S3 encrypts the objects, asked for with each; ``bucket``: as the bucket's own default has it.
    """

    url: str
    region: str = "us-east-1"
    endpoint_url: str = ""
    encryption: Encryption = "AES256"


class Store(Protocol):
    """Objects by name; names have slashes between their parts, as `eventlog.archive.layout` makes them.

    Every method may raise `ArchiveUnavailableError`; then a write may or may not have happened, and may be repeated.
    Safe for concurrent use by several threads and processes.
    """

    def put(self, name: str, content: bytes) -> None:
        """Write an object, all of it or nothing, over an older one of that name; once it returns it is durable."""
        ...

    def get(self, name: str) -> bytes:
        """An object's content.

        Raises:
            MissingObjectError: if there is none.
        """
        ...

    def names(self, folder: str) -> Iterator[str]:
        """The names of all objects below a folder, in any order; none if there is no such folder."""
        ...

    def folders(self, folder: str) -> Iterator[str]:
        """The folders right below a folder, in any order, each with its whole name."""
        ...

    def delete(self, name: str) -> None:
        """Delete an object, if it is there."""
        ...

    def delete_folder(self, folder: str) -> int:
        """Delete all below a folder, what was left behind by a writer that died included; how many objects that was."""
        ...

    def close(self) -> None:
        """Free connections."""
        ...


def opened(place: Place) -> Store:
    """The store at a place; nothing is asked of it yet.

    Raises:
        ValueError: if the address is of no kind that is known.
        ArchiveUnavailableError: if its library can't be set up.
    """
    parts = urlsplit(place.url)
    if parts.scheme == "s3" and parts.netloc:
        from eventlog.archive.s3 import S3Store  # noqa: PLC0415 - boto3 is heavy

        return S3Store(place, parts.netloc, parts.path.strip("/"))
    from eventlog.archive.directory import DirectoryStore  # noqa: PLC0415 - as the other

    if parts.scheme == "file" and not parts.netloc and parts.path:
        return DirectoryStore(unquote(parts.path))
    if place.url and not parts.scheme:
        return DirectoryStore(place.url)
    raise ValueError("neither s3://bucket/prefix, nor file:///directory, nor the path of a directory")
