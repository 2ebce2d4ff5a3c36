"""A worker and an upload that is freed behind it: nothing is missing after a takeover."""

import json
import random
from itertools import pairwise

import numpy as np
import pytest

from eventlog.events import Finalized
from eventlog.work import heartbeats
from eventlog.work.uploads import WORKER, read_credits
from processor.decoding import decoder_pool
from processor.decoding.child_protocol import UNKNOWN_RESTART_POINT
from tests.integration.decoding.children import decoded
from tests.integration.decoding.recordings import FORMATS, Format, encoded
from tests.integration.decoding.test_worker_failures import end
from tests.integration.decoding.uploads import Upload, ended, opened, sent
from tests.support.deployment import Deployment, abandon
from tests.support.pcm import talk
from tests.support.waiting import eventually_async

AHEAD_BYTES = 1 << 20
PIECE_BYTES = 65_536
WAV = Format("wav", "pcm_s16le", 48_000)


def long(form: Format, channels: int = 2, talks: int = 4) -> bytes:
    """A recording of some megabytes."""
    return encoded(np.concatenate([talk(form.rate_hz, channels)] * talks), form)


async def record(upload: Upload) -> dict[str, int]:
    """The stored restart point; empty if every byte is there."""
    found = await upload._log.server.execute("HGET", upload.upload.session, "restart")
    return json.loads(found) if found else {}


async def retained_bytes(upload: Upload) -> int:
    """How much of it is in Redis."""
    found = await upload._log.server.execute("XRANGE", upload.upload.audio, "-", "+")
    return sum(len(fields[1]) for _, fields in found if fields[0] == b"pcm")


async def test_an_upload_is_freed_behind_its_decoder(single: Deployment) -> None:
    """BATCH-1: of a long recording little more than the bound is ever in the log, and its sender may continue."""
    data = long(WAV)
    upload = await opened(single)
    await single.started(max_upload_ahead_bytes=AHEAD_BYTES)
    most, at = 0, 0

    async def may_send() -> bool:
        [credit_bytes] = await read_credits(single.server, [upload.keys.session_id], AHEAD_BYTES)
        return credit_bytes >= min(len(data), at + PIECE_BYTES)

    while at < len(data):
        await eventually_async(may_send)
        await upload.send(data[at : at + PIECE_BYTES], PIECE_BYTES)
        at += PIECE_BYTES
        most = max(most, await retained_bytes(upload))
    await upload.seal()
    await ended([upload])
    assert (await end(upload)).reason == "stop"
    assert await upload.pcm() == decoded(data).pcm
    assert most < 2 * AHEAD_BYTES < len(data) / 3
    await eventually_async(upload.is_freed)
    assert await upload._log.server.execute("EXISTS", upload.upload.head) == 0


@pytest.mark.parametrize(
    "form", [WAV, Format("flac", "flac", 44_100), Format("matroska", "pcm_s16le", 24_000)], ids=lambda form: form.muxer
)
async def test_a_takeover_continues_in_the_middle(single: Deployment, form: Format) -> None:
    """SAFE-1: workers that die at any moment, the first bytes long gone, change neither a sample nor a fact."""
    data, chance = long(form, talks=8), random.Random(form.muxer)
    ends = [number * len(data) // 4 + chance.randrange(len(data) // 8) for number in range(1, 4)]
    undisturbed = await opened(single)
    for start, until in pairwise([0, *ends, len(data)]):
        await undisturbed.send(data[start:until], PIECE_BYTES)
        await undisturbed.append_event(Finalized())
    await undisturbed.seal()
    worker = await single.started(max_upload_ahead_bytes=AHEAD_BYTES, lease_ms=300)
    await ended([undisturbed])
    upload, at = await opened(single), 0
    for until in ends:
        await upload.send(data[at:until], PIECE_BYTES)
        await upload.append_event(Finalized())
        before, at = at, until

        async def is_freed(from_bytes: int = before) -> bool:
            return (await record(upload)).get("offset_bytes", 0) > from_bytes // 2

        await eventually_async(is_freed)
        await abandon(worker)
        worker = await single.started(max_upload_ahead_bytes=AHEAD_BYTES, lease_ms=300)
    await upload.send(data[at:], PIECE_BYTES)
    await upload.append_event(Finalized())
    await upload.seal()
    await ended([upload])
    assert await upload.pcm() == await undisturbed.pcm()
    finalized = [
        [at for at, event in await one.events() if isinstance(event, Finalized)] for one in (upload, undisturbed)
    ]
    assert finalized[0] == finalized[1]
    assert (await upload.facts())[1:] == (await undisturbed.facts())[1:]


async def test_a_recording_without_restart_points_is_bounded(single: Deployment) -> None:
    """A recording that must be kept whole ends as failed, in words, once it is longer than may be kept."""
    data = long(FORMATS["mp4 with its index last"], talks=2)
    film = data[:48] + (3 << 20).to_bytes(4) + b"free" + bytes((3 << 20) - 8) + data[48:]
    upload = await sent(single, film)
    await single.started(max_upload_ahead_bytes=AHEAD_BYTES, max_spool_bytes=2 << 20)
    await ended([upload])
    assert (await end(upload)).reason == "failed"
    assert "longer than 2 MiB" in (await end(upload)).detail


async def test_without_points_an_upload_is_kept_and_bounded(
    single: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SESS-10: a decoder without restart points never fills Redis: past the bound its session fails."""
    monkeypatch.setattr(decoder_pool, "RESTART_INTERVAL_BYTES", 0)
    upload = await sent(single, long(WAV))
    await single.started(max_upload_ahead_bytes=AHEAD_BYTES, max_spool_bytes=AHEAD_BYTES)
    await ended([upload])
    assert (await end(upload)).reason == "failed"
    assert (await end(upload)).detail == "longer than 1 MiB in a form that can't be continued from its middle"


async def test_another_version_s_record_fails_with_a_reason(single: Deployment) -> None:
    """OPS-1: a record that this version doesn't know ends its session as failed, and never as other samples."""
    upload = await opened(single)
    await upload.send(long(WAV, talks=2), PIECE_BYTES)
    await single.server.execute("HSET", upload.upload.session, "restart", '{"version":99}')
    await upload.seal()
    await single.started()
    await ended([upload])
    assert ((await end(upload)).reason, (await end(upload)).detail) == ("failed", UNKNOWN_RESTART_POINT)
    assert await upload.pcm() == b""


async def test_missing_bytes_fail_with_a_reason(single: Deployment) -> None:
    """An upload whose first bytes went without a record ends as failed, instead of as noise."""
    upload = await opened(single)
    await upload.send(long(WAV, talks=1), PIECE_BYTES)
    await single.server.execute("XTRIM", upload.upload.audio, "MINID", f"{3 * PIECE_BYTES}-0")
    await upload.seal()
    await single.started()
    await ended([upload])
    assert (await end(upload)).detail == "bytes that are needed to decode it are gone"
    assert ((await end(upload)).reason, (await end(upload)).audio_samples) == ("failed", 0)


async def test_beside_an_older_worker_all_is_kept(single: Deployment) -> None:
    """OPS-1: while a worker lives that can't resume in the middle, an upload keeps its first byte, and ends as ever."""
    await heartbeats.write(single.server, WORKER, "older", {})
    data = long(WAV)
    upload = await opened(single)
    await upload.send(data, PIECE_BYTES)
    await single.started(max_upload_ahead_bytes=AHEAD_BYTES)

    async def is_recognised() -> bool:
        about = await single.log.read_position(upload.keys)
        return about is not None and about.head.offset > 30 * 16_000

    await eventually_async(is_recognised)
    assert await record(upload) == {}
    assert await retained_bytes(upload) == len(data)
    await upload.seal()
    await ended([upload])
    assert await upload.pcm() == decoded(data).pcm
