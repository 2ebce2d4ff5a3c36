from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.archive import layout
from eventlog.archive.manifest import DamagedArchiveError, Line
from eventlog.archive.reader import CHUNK_BYTES, read_entries, read_lines, read_manifest, verify
from eventlog.archive.stores import Store
from eventlog.log import AudioEntry
from eventlog.positions import SEALED, START, Position
from tests.support.archives import MemoryStore, archive
from tests.support.pcm import Story, talk

Stretches = dict[int, bytes]
Events = list[tuple[Position, bytes | None]]
STORY = Story(
    talk(channels=2), finalized=(5_000, 5_000, 32_000, 90_001), holes=((20_000, 30_000), (64_000, 70_000))
)  # fmt: skip
FACTS = [Line(id="0-1", event=msgspec.Raw(b'{"event":"session_opened.v1"}'))]
FOLDER = layout.folder(STORY.start.session_id)


def flattened(entries: Iterable[AudioEntry]) -> tuple[Stretches, Events]:
    """All samples, in stretches without a gap, and the events."""
    stretches: Stretches = {}
    start = end = -1
    for position, pcm, _, _ in (entry for entry in entries if entry.pcm):
        first = position.offset - len(pcm or b"") // 4
        assert first >= end
        start = start if first == end else first
        stretches[start] = stretches.get(start, b"") + (pcm or b"")
        end = position.offset
    return stretches, [(entry.position, entry.event) for entry in entries if entry.event is not None]


def after_offset(stretches: Stretches, offset: int) -> Stretches:
    """The stretches after an offset."""
    left = {max(first, offset): pcm[max(0, offset - first) * 4 :] for first, pcm in stretches.items()}
    return {first: pcm for first, pcm in left.items() if pcm}


def test_an_archived_session_is_read_back(store: Store) -> None:
    """REPLAY-1: every sample is where it was, every event where it stood, in order and in chunks of bounded size."""
    manifest = archive(store, STORY, cuts=range(0, 145_000, 1_601), facts=FACTS)
    found = read_manifest(store, STORY.start.session_id)
    assert (found.started, found.parts, found.facts) == (STORY.start, manifest.parts, manifest.facts)
    entries = list(read_entries(store, manifest, START))
    assert [entry.position for entry in entries] == sorted({entry.position for entry in entries})
    assert max(len(entry.pcm or b"") for entry in entries) == CHUNK_BYTES
    assert flattened(entries) == flattened(STORY.entries())
    [line] = read_lines(store, manifest, manifest.facts)
    assert (line.id, bytes(line.event)) == ("0-1", bytes(FACTS[0].event))
    assert verify(store, manifest) == []


WHOLE = MemoryStore()
MANIFEST = archive(WHOLE, STORY, facts=FACTS)
ALL = list(read_entries(WHOLE, MANIFEST, START))
SAMPLES, EVENTS = flattened(ALL)


@settings(max_examples=40, deadline=None)
@given(st.builds(Position, st.integers(0, len(STORY.samples)), st.integers(0, 3)))
def test_reading_continues_from_any_position(after: Position) -> None:
    """REPLAY-3: after a takeover exactly the entries after a position are read, from within a part or a chunk too."""
    samples, events = flattened(list(read_entries(WHOLE, MANIFEST, after)))
    assert samples == after_offset(SAMPLES, after.offset)
    assert events == [one for one in EVENTS if one[0] > after]


def test_after_the_end_nothing_is_read() -> None:
    """A read after the end returns nothing more."""
    assert list(read_entries(WHOLE, MANIFEST, SEALED)) == []


def damaged(name: str, content: bytes | None) -> MemoryStore:
    """The archive with one object changed, or gone."""
    store = MemoryStore()
    store.objects = dict(WHOLE.objects)
    if content is None:
        del store.objects[f"{FOLDER}/{name}"]
    else:
        store.objects[f"{FOLDER}/{name}"] = content
    return store


@pytest.mark.parametrize("name", [MANIFEST.parts[1].file, layout.EVENTS])
@pytest.mark.parametrize("content", [None, b"", b"other"])
def test_damage_is_an_error(name: str, content: bytes | None) -> None:
    """REPLAY-1: a part or an event file that is missing or changed ends the reading with an error that names it."""
    with pytest.raises(DamagedArchiveError, match=name):
        list(read_entries(damaged(name, content), MANIFEST, START))
    [fault] = verify(damaged(name, content), MANIFEST)
    assert name in fault


def test_one_flipped_bit_is_damage() -> None:
    """A file whose bytes differ from the written ones isn't decoded, even if it could be."""
    part = MANIFEST.parts[0]
    content = bytearray(WHOLE.objects[f"{FOLDER}/{part.file}"])
    content[len(content) // 2] ^= 1
    with pytest.raises(DamagedArchiveError, match="SHA-256"):
        list(read_entries(damaged(part.file, bytes(content)), MANIFEST, START))


@pytest.mark.parametrize("change", [-1, 1])
def test_a_manifest_that_differs_is_damage(change: int) -> None:
    """A file with less or more audio than its manifest says ends the reading, so that nothing is shifted."""
    first = MANIFEST.parts[0]
    spans = (*first.spans[:-1], (first.spans[-1][0], first.spans[-1][1] + change))
    parts = (msgspec.structs.replace(first, spans=spans), *MANIFEST.parts[1:])
    with pytest.raises(DamagedArchiveError, match=r"more|less"):
        list(read_entries(WHOLE, msgspec.structs.replace(MANIFEST, parts=parts), START))


def test_another_sessions_manifest_is_refused() -> None:
    """A manifest under another session's name is damage."""
    other = msgspec.structs.replace(MANIFEST, session_id="other")
    store = damaged(layout.MANIFEST, msgspec.json.encode(other))
    with pytest.raises(DamagedArchiveError, match="another session"):
        read_manifest(store, STORY.start.session_id)


def test_manifests_read_one_part_at_a_time() -> None:
    """No more than the part that is being read is fetched."""
    store = damaged(layout.MANIFEST, b"")
    entries = read_entries(store, MANIFEST, START)
    next(entries)
    assert [name for name in store.got if name.endswith(".flac")] == [f"{FOLDER}/{MANIFEST.parts[0].file}"]
