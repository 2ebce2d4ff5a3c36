"""The contract of stores, which keep an archive's objects: in a directory or in S3.

A store blocks; a caller that must not blocks in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class ArchiveUnavailableError(Exception):
    """The store can't be reached, or refuses; a later call may succeed. The message holds no secret."""


class MissingObjectError(Exception):
    """No object of that name exists."""


class Store(Protocol):
    """Objects by name; names have slashes between their parts, as `eventlog.archive.layout` makes them.

    Every method may raise `ArchiveUnavailableError`; then a write may or may not have happened, and may be repeated.
    Safe for concurrent use by several threads and processes.
    """

    def put(self, name: str, content: bytes) -> None:
        """Write an object, all of it or nothing, over an older one of that name; once it returns it is durable."""
        ...

    def get(self, name: str) -> bytes:
        """Return an object's content.

        Raises:
            MissingObjectError: if it does not exist.
        """
        ...

    def names(self, folder: str) -> Iterator[str]:
        """Yield the names of all objects below a folder, in any order; none if the folder does not exist."""
        ...

    def folders(self, folder: str) -> Iterator[str]:
        """Yield the folders right below a folder, in any order, each with its whole name."""
        ...

    def delete(self, name: str) -> None:
        """Delete an object, if it exists."""
        ...

    def delete_folder(self, folder: str) -> int:
        """Delete all below a folder, leftovers of a writer that died included; return how many objects that was."""
        ...

    def close(self) -> None:
        """Free connections."""
        ...
