
import msgspec
import pytest

from eventlog.archive.manifest import (
    DamagedArchiveError,
    Line,
    Lines,
    Manifest,
    Part,
    PartNote,
    decode_lines,
    decode_manifest,
    decode_note,
    encode_lines,
    encode_manifest,
    encode_note,
)
from eventlog.codec import encode
from eventlog.events import SessionStarted
from tests.support.tree import ROOT

GOLDEN = ROOT / "tests/golden" / "archive"
START = SessionStarted(session_id="s1", sample_rate_hz=16_000, tenant_id="acme", owner_id="ana", started_ms=1_000)
PART = Part(number=0, start_samples=0, end_samples=900, spans=((0, 400), (500, 900)), file="f", bytes=7, sha256="ab")
LINE = Line(id="0-1", event=msgspec.Raw(encode(START)), at_ms=1_001)
NOTE = PartNote(session_id="s1", tenant_id="acme", started_ms=1_000, part=PART, events=(LINE,))
MANIFEST = Manifest(
    session_id="s1", tenant_id="acme", owner_id="ana", engine="mock", started_ms=1_000, ended_ms=2_000, reason="stop",
    sample_rate_hz=16_000, channels=1, total_samples=900, part_samples=1_000, parts=(PART,), missing=((400, 500),),
    events=Lines(file="events.jsonl", count=1, bytes=2, sha256="cd"),
    facts=Lines(file="facts.jsonl", count=3, bytes=4, sha256="ef"), start=msgspec.Raw(encode(START)),
)  # fmt: skip
WRITTEN = {
    "archive_manifest.v1.json": encode_manifest(MANIFEST), "archive_part.v1.json": encode_note(NOTE),
    "archive_lines.v1.jsonl": encode_lines([LINE, LINE]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_written_bytes_stay_the_same(name: str) -> None:
    """OPS-1: an archive outlives many versions, so this one writes exactly the bytes of its format version."""
    assert WRITTEN[name] == (GOLDEN / name).read_bytes()


def test_older_bytes_are_read() -> None:
    """OPS-1: the bytes of every version so far decode to the same values."""
    manifest = decode_manifest((GOLDEN / "archive_manifest.v1.json").read_bytes())
    assert manifest.started == START
    assert msgspec.structs.replace(manifest, start=MANIFEST.start) == MANIFEST
    note = decode_note((GOLDEN / "archive_part.v1.json").read_bytes())
    assert (note.part, [bytes(line.event) for line in note.events]) == (PART, [encode(START)])
    lines = decode_lines((GOLDEN / "archive_lines.v1.jsonl").read_bytes())
    assert [(line.id, bytes(line.event), line.at_ms) for line in lines] == [("0-1", encode(START), 1_001)] * 2


def test_fields_may_be_added() -> None:
    """OPS-1: this build ignores fields that a later one adds to a manifest."""
    more = msgspec.json.decode(WRITTEN["archive_manifest.v1.json"]) | {"news": [1]}
    assert decode_manifest(msgspec.json.encode(more)).session_id == "s1"


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"archive":"archive_manifest.v2"}'])
def test_other_versions_are_damage(data: bytes) -> None:
    """Notes of a version that this build doesn't know are damage to it, never half understood."""
    for decode in (decode_manifest, decode_note):
        with pytest.raises(DamagedArchiveError):
            decode(data)
    with pytest.raises(DamagedArchiveError):
        decode_lines(b'{"id":"0-1"}\n')
