"""Undecodable, overlong and crashing recordings: each session ends with a sentence, and others continue."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from eventlog.events import SessionEnded, SessionSealed, UtteranceFinal
from eventlog.log import Code
from eventlog.positions import OPENED
from eventlog.work.uploads import Uploads
from processor.decoding import decoder_pool
from processor.decoding.decoder_process import run_decoder
from processor.decoding.layouts import ChannelOptions
from processor.worker import Worker
from tests.integration.decoding.children import decoded
from tests.integration.decoding.hostile import NEVER_TAKEN
from tests.integration.decoding.recordings import FORMATS, encoded, recording
from tests.integration.decoding.uploads import Upload, ended, opened, sent
from tests.support.deployment import Deployment
from tests.support.pcm import talk
from tests.support.waiting import eventually_async


async def end(upload: Upload) -> SessionEnded:
    """Its last fact."""
    [*_, (_, last)] = await upload.decoded_facts()
    assert isinstance(last, SessionEnded)
    return last


def children_of(pid: int) -> list[int]:
    """The decoders that a process has running."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, rest = stat.read_text().rpartition(")")
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue  # gone meanwhile
        if int(rest.split()[1]) == pid and b"processor.decoding" in command:
            found.append(int(stat.parent.name))
    return found


async def test_a_file_that_is_no_recording_fails_in_words(deployment: Deployment) -> None:
    """Each hostile file ends its session as failed with a sentence, its neighbours and the worker live (LIVE-5)."""
    names = ["nothing", "HTML", "an HLS playlist", "a gzip bomb", "media without an index", "tracks in tracks"]
    bad = [await sent(deployment, NEVER_TAKEN[name]) for name in names]
    good = await sent(deployment, recording("mp3"))
    await deployment.started()
    await ended([*bad, good])
    for upload in bad:
        last = await end(upload)
        assert (last.reason, last.utterances, last.audio_samples) == ("failed", 0, 0)
        assert len(last.detail) > 10
        await eventually_async(upload.is_freed)
    assert (await end(bad[1])).detail == "not a recording that is taken: begins like HTML"
    assert (await end(good)).reason == "stop"
    assert (await end(good)).utterances > 2
    assert children_of(os.getpid()) == []


async def test_a_failure_ends_the_upload_too(single: Deployment) -> None:
    """A client that continues sending after its file was refused learns that the session has ended."""
    upload = await opened(single)
    await single.started()
    await upload.send(NEVER_TAKEN["HTML"])
    await ended([upload])
    await eventually_async(upload.is_freed)
    about = await single.log.read_position(upload.upload)
    assert about is not None
    with pytest.raises(AssertionError):
        await upload.send(b"more")
    assert (await single.log.resume(upload.upload, "token")).code == Code.SEALED


async def test_a_cut_off_recording_keeps_its_words(single: Deployment) -> None:
    """A recorder that died leaves a session that ends as stopped, with every word that can be decoded (LIVE-5)."""
    data = recording("webm as recorded")
    upload = await sent(single, data[: len(data) * 2 // 3])
    await single.started()
    await ended([upload])
    assert (await end(upload)).reason == "stop"
    assert (await end(upload)).utterances >= 2


async def test_a_mislabelled_file_is_known_by_its_bytes(single: Deployment) -> None:
    """A file's name and type do not matter: its bytes decide."""
    uploads = [await sent(single, recording(name)) for name in ("flac", "wav of 24 bit", "mp4 with its index last")]
    await single.started()
    await ended(uploads)
    facts = [await one.decoded_facts() for one in uploads]
    finals = [[fact.text for _, fact in found if isinstance(fact, UtteranceFinal)] for found in facts]
    assert all(len(one) > 2 for one in finals)


async def test_a_recording_that_is_too_long_is_ended_at_the_limit(single: Deployment) -> None:
    """Past the longest duration a session ends with reason limit, exactly there, and keeps what it has."""
    upload = await opened(single)
    await upload.send(recording("mp3"))
    await single.started(max_session_s=4)
    await ended([upload])
    last = await end(upload)
    assert (last.reason, last.audio_samples) == ("limit", 64_000)
    assert last.detail == "longer than 4 s"
    assert last.utterances > 0
    assert len(await upload.pcm()) == 128_000


async def test_decoding_stays_near_the_checkpoint(single: Deployment) -> None:
    """A long recording is decoded no further ahead of the checkpoint than the bound, and yet to its end."""
    form = FORMATS["flac at 8 kHz"]
    data = encoded(np.concatenate([talk(8_000)] * 12), form)
    upload = await sent(single, data)
    worker = await single.started(max_decode_ahead_s=30)
    furthest = 0

    async def watched() -> bool:
        nonlocal furthest
        about = await single.log.read_position(upload.keys)
        for run in worker.active_runs:
            if about is not None and about.head.offset < 2**62:
                furthest = max(furthest, about.head.offset - min(run.checkpoint.boundaries, default=0))
        return await upload.has_ended()

    await eventually_async(watched, 60)
    assert 16_000 < furthest <= 16_000 * 35
    assert (await end(upload)).audio_samples > 16_000 * 9 * 11


async def decoding(worker: Worker) -> int:
    """The one decoder that runs below this process, once it does."""
    await eventually_async(lambda: worker._decoders.child_count == 1 and children_of(os.getpid()), 20)
    [pid] = children_of(os.getpid())
    return pid


async def test_a_decoder_that_is_killed_is_started_again(single: Deployment) -> None:
    """A child that the system killed says nothing about the file: decoding starts again, and nothing differs."""
    data = recording("webm as recorded")
    upload = await opened(single)
    await upload.send(data[: len(data) // 2])
    worker = await single.started()
    pid = await decoding(worker)
    await eventually_async(upload.pcm, 20)
    os.kill(pid, signal.SIGKILL)
    await eventually_async(lambda: pid not in children_of(os.getpid()))
    await upload.send(data[len(data) // 2 :])
    await upload.seal()
    await ended([upload])
    other = await sent(single, data)
    await ended([other])
    assert await other.pcm() == await upload.pcm()
    assert (await other.facts())[1:] == (await upload.facts())[1:]


@pytest.mark.parametrize(
    ("number", "detail"),
    [(signal.SIGSEGV, "made its decoder crash"), (signal.SIGXCPU, "takes far too long to decode")],
)
async def test_a_decoder_that_crashes_fails_its_session(
    single: Deployment, number: signal.Signals, detail: str
) -> None:
    """A child that native code brought down ends its session as failed, with the text decoded before (SAFE-3)."""
    data = recording("webm as recorded")
    upload = await opened(single)
    await upload.send(data[: len(data) // 2])
    worker = await single.started()
    pid = await decoding(worker)
    await eventually_async(lambda: _has_finals(upload), 20)
    os.kill(pid, number)
    await ended([upload])
    assert (await end(upload)).reason == "failed"
    assert (await end(upload)).detail == detail
    assert (await end(upload)).utterances > 0


async def _has_finals(upload: Upload) -> bool:
    return any(isinstance(fact, UtteranceFinal) for _, fact in await upload.decoded_facts())


async def test_a_recording_that_always_kills_is_given_up(
    single: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Children that keep ending without a reported reason end the session as failed after a bound (SAFE-3)."""
    unknown = ChannelOptions("none")
    monkeypatch.setattr(decoder_pool, "run_decoder", lambda *_, **__: run_decoder(unknown, max_spool_bytes=1))
    upload = await sent(single, recording("ogg"))
    await single.started()
    await ended([upload])
    assert ((await end(upload)).reason, (await end(upload)).detail) == ("failed", "could not be decoded")


async def test_a_stopped_worker_leaves_no_decoder(single: Deployment) -> None:
    """A graceful stop ends the children, writes nothing more, and the next worker decodes to the end (SESS-8)."""
    data = recording("webm as recorded")
    upload = await opened(single)
    await upload.send(data[: len(data) // 2])
    worker = await single.started()
    await decoding(worker)
    await eventually_async(upload.pcm, 20)
    await worker.stop()
    assert children_of(os.getpid()) == []
    await single.started()
    await upload.send(data[len(data) // 2 :])
    await upload.seal()
    await ended([upload])
    assert (await end(upload)).reason == "stop"


async def test_a_lost_claim_ends_the_decoder(single: Deployment) -> None:
    """A worker whose claim was taken stops decoding at once, and its late samples are refused (SAFE-2)."""
    data = recording("webm as recorded")
    upload = await opened(single)
    await upload.send(data[: len(data) // 2])
    worker = await single.started(lease_ms=300)
    await decoding(worker)
    await eventually_async(upload.pcm, 20)
    [run] = worker.active_runs
    thief = await single.claims("thief", lease_ms=30)
    stolen = await eventually_async(lambda: thief.take_over(10))
    start = await Uploads(single.server).start_decoding(stolen[0])
    await upload.send(data[len(data) // 2 :])
    await upload.seal()
    await eventually_async(lambda: children_of(os.getpid()) == [])
    await eventually_async(lambda: worker._decoders.child_count == 0 and not len(worker.active_runs))
    about = await single.log.read_position(upload.keys)
    assert about is not None
    assert (about.epoch, about.head) == (start.epoch, start.head)
    await worker._decoders._decode(run)
    assert not await upload.is_freed(), "whoever has the claim now needs it"
    await thief.hand_over(stolen)
    await ended([upload])
    assert await upload.pcm() == decoded(data).pcm


async def test_decoders_are_bounded_and_wait_for_bytes(single: Deployment) -> None:
    """No more children run at once than may, the others wait, and a session without bytes takes no slot."""
    silent = await opened(single)
    data = recording("ogg")
    uploads = [await sent(single, data) for _ in range(5)]
    worker = await single.started(max_decoders=2)
    most = 0

    async def watched() -> bool:
        nonlocal most
        most = max(most, worker._decoders.child_count)
        return all([await one.has_ended() for one in uploads])

    await eventually_async(watched, 60)
    assert most == 2
    assert worker._decoders.child_count == 0
    assert [at for at, _ in await silent.events()] == [OPENED]


async def test_an_idle_upload_ends_as_idle(deployment: Deployment) -> None:
    """A client that went away leaves a session that ends as idle with what it sent, or with nothing (SESS-7)."""
    data = recording("webm as recorded")
    some, nothing = await opened(deployment), await opened(deployment)
    await some.send(data[: len(data) // 2])
    await deployment.started(idle_ms=600, sweep_s=0.05)
    await ended([some, nothing])
    assert (await end(some)).reason == "idle"
    assert (await end(some)).utterances > 0
    assert ((await end(nothing)).reason, (await end(nothing)).detail) == ("idle", "")


async def test_the_janitor_never_seals_under_a_decoder(single: Deployment) -> None:
    """While an upload is sealed and its audio isn't, no sweep ends the audio, however long nothing happens to it."""
    upload = await sent(single, recording("ogg"))
    worker = await single.worker(idle_ms=0)
    await worker._claims.ensure_groups()
    await worker._janitor.sweep()
    assert not any(isinstance(event, SessionSealed) for _, event in await upload.events())
    await worker.start()
    await ended([upload])
    assert (await end(upload)).reason == "stop"
