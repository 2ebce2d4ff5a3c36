"""An archive in a directory: on one machine's disk, or on a file system that several share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from eventlog.archive.stores import ArchiveUnavailableError, MissingObjectError

_UNFINISHED = ".unfinished-"  # prefix of temporary files: of a write under way, or of a writer that died


class DirectoryStore:
    """The `Store` below one directory, readable by its owner alone: it holds speech."""

    def __init__(self, root: str) -> None:
        """Use the directory `root`, created at the first write."""
        self._root = Path(root)

    def put(self, name: str, content: bytes) -> None:
        """See `Store.put`: a temporary file beside it, made durable, then renamed."""
        path = self._path(name)
        try:
            self._make(path.parent)
            descriptor, temporary = tempfile.mkstemp(prefix=_UNFINISHED, dir=path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            _make_durable(path.parent)
        except OSError as error:
            raise _unavailable(error) from error

    def get(self, name: str) -> bytes:
        """See `Store.get`."""
        try:
            return self._path(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingObjectError(name) from error
        except OSError as error:
            raise _unavailable(error) from error

    def names(self, folder: str) -> Iterator[str]:
        """See `Store.names`."""
        for entry in self._entries(folder):
            name = f"{folder}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from self.names(name)
            elif not entry.name.startswith(_UNFINISHED):
                yield name

    def folders(self, folder: str) -> Iterator[str]:
        """See `Store.folders`."""
        for entry in self._entries(folder):
            if entry.is_dir(follow_symlinks=False):
                yield f"{folder}/{entry.name}"

    def delete(self, name: str) -> None:
        """See `Store.delete`."""
        path = self._path(name)
        try:
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                _make_durable(path.parent)
        except OSError as error:
            raise _unavailable(error) from error

    def delete_folder(self, folder: str) -> int:
        """See `Store.delete_folder`."""
        path = self._path(folder)
        try:
            count = sum(len(files) for _, _, files in os.walk(path))
            shutil.rmtree(path)
            _make_durable(path.parent)
        except FileNotFoundError:  # it does not exist, or another process deleted it first
            return 0
        except OSError as error:
            raise _unavailable(error) from error
        return count

    def close(self) -> None:
        """Nothing is open between calls."""

    def _path(self, name: str) -> Path:
        parts = name.split("/")
        if any(part in {"", ".", ".."} or "\0" in part for part in parts):
            raise ValueError("not a name of an object in an archive")
        return self._root.joinpath(*parts)

    def _make(self, folder: Path) -> None:
        """Create a folder and those above it, each as durable as the files in it."""
        if folder.is_dir():
            return
        if folder != folder.parent:
            self._make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        _make_durable(folder.parent)

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._path(folder)) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _unavailable(error) from error


def _make_durable(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unavailable(error: OSError) -> ArchiveUnavailableError:
    return ArchiveUnavailableError(f"archive: {error.strerror or type(error).__name__}")
