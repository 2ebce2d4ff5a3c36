"""Archives made of a story's entries, without any Redis."""

from collections.abc import Iterable, Iterator, Sequence

from eventlog.archive import writer
from eventlog.archive.flac import FlacEncoder
from eventlog.archive.manifest import Line, Manifest
from eventlog.archive.part_cutter import PartCutter
from eventlog.archive.stores import MissingObjectError, Store
from eventlog.events import SessionStarted
from eventlog.log import AudioEntry
from eventlog.positions import Position
from tests.support.pcm import Story


def cut(entries: Sequence[AudioEntry], part_samples: int, channels: int) -> Iterator[tuple[PartCutter, bytes]]:
    """The parts of a whole session, each with its samples."""
    number = 0
    while True:
        cutter = PartCutter(number, part_samples, channels)
        after = Position(cutter.start_samples, 0)
        pcm = b"".join(
            cutter.feed(entry) for entry in entries if entry.position > after and not cutter.is_complete
        )
        yield cutter, pcm
        if cutter.sealed is not None:
            return
        number += 1


def archive(
    store: Store, story: Story, *, part_samples: int = 32_000, cuts: Iterable[int] = (), facts: Sequence[Line] = (),
    start: SessionStarted | None = None,
) -> Manifest:  # fmt: skip
    """Archives a story."""
    start = start or story.start
    for cutter, pcm in cut(story.entries(cuts), part_samples, start.channels):
        encoder = FlacEncoder(start.sample_rate_hz, start.channels)
        encoder.add(pcm)
        writer.write_part(store, start, cutter, encoder.finish())
        last = cutter
    return writer.finish(store, start, last, facts, writer.Ended("stop", 1_700_000_100_000))


class MemoryStore:
    """A store in memory that counts calls and may break off after a number of writes."""

    def __init__(self, *, writes: int | None = None) -> None:
        """Fail at the write after `writes`, and at all later ones."""
        self.objects: dict[str, bytes] = {}
        self.got: list[str] = []
        self.writes = 0
        self._most = writes

    def put(self, name: str, content: bytes) -> None:
        """See `Store.put`."""
        self._count()
        self.objects[name] = content

    def get(self, name: str) -> bytes:
        """See `Store.get`."""
        self.got.append(name)
        if name not in self.objects:
            raise MissingObjectError(name)
        return self.objects[name]

    def names(self, folder: str) -> Iterator[str]:
        """See `Store.names`."""
        yield from sorted(name for name in self.objects if name.startswith(f"{folder}/"))

    def folders(self, folder: str) -> Iterator[str]:
        """See `Store.folders`."""
        below = (name.removeprefix(f"{folder}/").partition("/") for name in self.names(folder))
        yield from dict.fromkeys(f"{folder}/{first}" for first, slash, _ in below if slash)

    def delete(self, name: str) -> None:
        """See `Store.delete`."""
        self._count()
        self.objects.pop(name, None)

    def delete_folder(self, folder: str) -> int:
        """See `Store.delete_folder`."""
        names = list(self.names(folder))
        for name in names:
            self.delete(name)
        return len(names)

    def close(self) -> None:
        """Nothing is open."""

    def _count(self) -> None:
        self.writes += 1
        if self._most is not None and self.writes > self._most:
            raise WriterDiedError


class WriterDiedError(Exception):
    """The writer died."""
