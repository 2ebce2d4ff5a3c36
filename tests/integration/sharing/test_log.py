"""Shared recognition on the log's side: taking, leases, results, and stale utterances."""

import asyncio
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from eventlog.keys import RunKeys
from eventlog.log import Claim
from eventlog.positions import Position
from eventlog.work import shared_recognition as module
from eventlog.work.erasure import erase
from eventlog.work.shared_recognition import RECOGNISERS, Reference, SharedRecognition, Taken
from tests.integration.eventlog.stage import commit, ended, final
from tests.support.deployment import Deployment, Session
from tests.support.pcm import Story, talk
from tests.support.waiting import eventually_async

LEASE_MS = 100
LONG_MS = 60_000


async def worker(deployment: Deployment, name: str, lease_ms: int = LONG_MS) -> SharedRecognition:
    """One worker's view of the stream."""
    return SharedRecognition(await deployment.connect(), "mock", name, lease_ms=lease_ms)


def reference(start: int = 1_000, end: int = 5_000, channel: int = 0, channels: int = 1) -> Reference:
    """Some utterance."""
    return Reference(
        channel=channel, channels=channels, start_samples=start, end_samples=end, sample_rate_hz=16_000, language="en",
        voiced_ms=100,
    )  # fmt: skip


async def offers(one: SharedRecognition, run: RunKeys, count: int) -> list[str]:
    """Offer so many utterances of a run."""
    return await one.offer([(run, reference(1_000 * number, 1_000 * number + 500)) for number in range(count)])


def starts(taken: Sequence[Taken]) -> list[int]:
    """Which they are, of those that `offers` made."""
    return [one.reference.start_samples // 1_000 for one in taken]


async def test_nothing_is_offered_while_no_other_worker_looks(deployment: Deployment) -> None:
    """A worker alone offers nothing, though it looks for work itself; what it offers once another looks is there."""
    one, other = await worker(deployment, "one"), await worker(deployment, "other")
    session = await deployment.spoken(Story(talk()))
    assert await offers(one, session.run, 2) == []
    assert await one.take(5) == []
    assert await offers(one, session.run, 2) == []
    assert await deployment.server.execute("EXISTS", one._stream) == 0
    assert await other.take(5) == []
    assert len(await offers(one, session.run, 2)) == 2
    assert await deployment.server.execute("TTL", one._stream) > 0
    assert await deployment.server.execute("TTL", one._recognisers) > 0


async def test_a_silent_worker_is_offered_nothing(single: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has not looked for work for a while is thought busy or gone."""
    one, other = await worker(single, "one"), await worker(single, "other")
    session = await single.spoken(Story(talk()))
    await other.take(1)
    monkeypatch.setattr(module, "SILENT_MS", -1_000)
    assert await offers(one, session.run, 2) == []


async def test_utterances_are_taken_in_order_once_each(deployment: Deployment) -> None:
    """Each utterance goes to one taker, in the order offered, the offering worker among them."""
    one, other = await worker(deployment, "one"), await worker(deployment, "other")
    session = await deployment.spoken(Story(talk()))
    await other.take(1)
    ids = await offers(one, session.run, 5)
    first, second = await other.take(2), await one.take(10)
    assert [taken.entry_id for taken in [*first, *second]] == ids
    assert starts([*first, *second]) == [0, 1, 2, 3, 4]
    assert {taken.keys.member for taken in first} == {session.run.member}
    assert await other.take(10) == []


async def test_a_full_stream_takes_no_more(single: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound nothing is offered, so the rest stays with its holder."""
    monkeypatch.setattr(module, "MAX_OFFERED", 3)
    one, other = await worker(single, "one"), await worker(single, "other")
    session = await single.spoken(Story(talk()))
    await other.take(1)
    ids = await offers(one, session.run, 5)
    assert len(ids) == 3
    assert await offers(one, session.run, 5) == []
    await one.remove(ids[:1])
    assert len(await offers(one, session.run, 5)) == 1


async def test_a_silent_takers_utterances_go_to_another_twice_at_most(deployment: Deployment) -> None:
    """An utterance over which two takers fell silent is off the stream; a renewed one stays its taker's."""
    first, second = await worker(deployment, "first", LEASE_MS), await worker(deployment, "second", LEASE_MS)
    session = await deployment.spoken(Story(talk()))
    await second.take(1)
    ids = await offers(first, session.run, 1)
    [taken] = await first.take(1)

    async def taken_over() -> list[Taken]:
        return await second.take(1)

    [again] = await eventually_async(taken_over)
    assert again == taken._replace(keys=again.keys)
    assert await first.find_removed(ids) == []

    async def given_up() -> bool:
        return await first.take(1) == [] and await first.find_removed(ids) == ids

    await eventually_async(given_up)
    assert await pending(first) == 0


async def pending(one: SharedRecognition) -> int:
    """How many utterances are with a taker."""
    found: int = (await one._server.execute("XPENDING", one._stream, RECOGNISERS))[0]
    return found


async def test_renewed_utterances_stay_and_released_ones_go(single: Deployment) -> None:
    """A taker that renews its claims keeps what it took, and what it releases another takes at once."""
    first, second = await worker(single, "first"), await worker(single, "second")
    session = await single.spoken(Story(talk()))
    await second.take(1)
    await offers(first, session.run, 2)
    kept, released = await first.take(2)
    await first.release([kept.entry_id, released.entry_id])
    await first.renew([kept.entry_id])
    assert starts(await second.take(5)) == [1]


async def test_settled_utterances_are_not_renewed(single: Deployment) -> None:
    """A late renewal brings no utterance back that was settled, or lost with the whole stream."""
    one, other = await worker(single, "one"), await worker(single, "other")
    session = await single.spoken(Story(talk()))
    await other.take(1)
    [entry_id] = await offers(one, session.run, 1)
    await one.take(1)
    await one.remove([entry_id])
    await one.renew([entry_id])
    assert await pending(one) == 0
    await single.server.execute("UNLINK", one._stream)
    await one.renew([entry_id])
    await one.remove([entry_id])
    assert await one.find_removed([entry_id]) == [entry_id]


async def test_what_another_version_offered_is_left_to_it(single: Deployment) -> None:
    """An offer that can't be read is taken off the stream, for its holder to recognise, and the next is taken."""
    one, other = await worker(single, "one"), await worker(single, "other")
    session = await single.spoken(Story(talk()))
    await other.take(1)
    odd = await single.server.execute("XADD", one._stream, "*", "run", session.run.member, "utterance", '{"page": 1}')
    await offers(one, session.run, 1)
    assert starts(await other.take(5)) == [0]
    assert await one.find_removed([odd.decode()]) == [odd.decode()]


@pytest.mark.parametrize("channels", [1, 2])
async def test_audio_is_cut_out_of_the_chunks_that_hold_it(deployment: Deployment, channels: int) -> None:
    """Whatever the chunks, a taker has exactly the utterance's samples of its channel."""
    one = await worker(deployment, "one")
    samples = talk(16_000, channels)
    session = await deployment.open(Story(samples, finalized=[16_000, 16_000, 40_000]))
    await session.say(session.story.entries([*range(0, 50_000, 777), 90_000])[1:])
    spans = [(0, 500), (777, 1_554), (778, 1_553), (15_000, 41_000), (60_000, 100_001), (140_000, len(samples))]
    wanted = [
        Taken(f"{number}-{channel}", session.run, reference(start, end, channel, channels))
        for number, (start, end) in enumerate(spans) for channel in range(channels)
    ]  # fmt: skip
    fetched = await one.read_audio(wanted)
    assert fetched.stale == []
    for taken in wanted:
        part = samples[taken.reference.start_samples : taken.reference.end_samples, taken.reference.channel]
        assert np.array_equal(np.frombuffer(fetched.pcm[taken.entry_id], "<i2"), part)


async def claimed(deployment: Deployment, session: Session) -> Claim:
    """Its claim, held by another worker."""
    claims = await deployment.claims("holder", 5_000)
    await claims.ensure_groups()
    [claim] = await claims.take_new([session.keys.partition], 1)
    await claims.load([claim])
    return claim


async def stale(one: SharedRecognition, run: RunKeys, *references: Reference) -> list[int]:
    """The stale ones of them."""
    fetched = await one.read_audio([Taken(f"{number}-0", run, found) for number, found in enumerate(references)])
    return [int(entry_id.partition("-")[0]) for entry_id in fetched.stale]


async def test_useless_utterances_are_stale(deployment: Deployment) -> None:
    """An utterance that is committed, recognised, beyond the audio, of an ended run or an erased session is stale."""
    one = await worker(deployment, "one")
    session = await deployment.spoken(Story(talk(), holes=[(30_000, 34_000)]))
    claim = await claimed(deployment, session)
    checked = [reference(0, 9_000), reference(9_000, 12_000), reference(12_000, 20_000), reference(29_000, 35_000),
               reference(9_000_000, 9_001_000)]
    assert await stale(one, session.run, *checked) == [3, 4]
    await one.store_results({session.run: [(checked[1], b"{}")]})
    assert await stale(one, session.run, *checked) == [1, 3, 4]
    first = commit(claim, 1, final(0))
    boundaries = msgspec.structs.replace(first.checkpoint, boundaries=(9_000,))
    await deployment.log.commit([first._replace(checkpoint=boundaries)])
    assert await stale(one, session.run, *checked) == [0, 1, 3, 4]
    await deployment.log.commit([commit(claim, 2, ended(1), ends=True)])
    assert await stale(one, session.run, *checked) == [0, 1, 2, 3, 4]


async def test_results_are_kept_for_a_while(deployment: Deployment) -> None:
    """A run's results can be asked for by name or all at once, expire soon, and can be dropped."""
    one = await worker(deployment, "one")
    session = await deployment.spoken(Story(talk()))
    first, second, third = (reference(1_000 * number, 1_000 * number + 1) for number in range(3))
    assert await one.store_results({session.run: [(first, b"1"), (second, b"2")]}) == []
    names = [one_.name for one_ in (first, third)]
    assert await one.read_results({session.run: names}) == {session.run: {first.name: b"1"}}
    assert await one.read_results({session.run: ()}) == {session.run: {first.name: b"1", second.name: b"2"}}
    assert 0 < await deployment.server.execute("TTL", session.run.recognised) <= module.RESULTS_TTL_S
    await one.delete_results({session.run: [first.name]})
    assert await one.read_results({session.run: ()}) == {session.run: {second.name: b"2"}}
    await one.delete_results({session.run: ()})
    assert await deployment.server.execute("EXISTS", session.run.recognised) == 0


async def test_nothing_is_kept_of_what_is_gone(deployment: Deployment) -> None:
    """A result that comes after a session's deletion, or its run's end, leaves no key (STITCH-5)."""
    one = await worker(deployment, "one")
    erased, over = await deployment.spoken(Story(talk())), await deployment.spoken(Story(talk()))
    await one.store_results({erased.run: [(reference(), b"words")]})
    assert await erase(deployment.server, erased.keys, "")
    claim = await claimed(deployment, over)
    await deployment.log.commit([commit(claim, 1, ended(0), ends=True)])
    await one.store_results({erased.run: [(reference(), b"words")], over.run: [(reference(), b"words")]})
    for run in (erased.run, over.run):
        assert await deployment.server.execute("EXISTS", run.recognised) == 0


async def test_forgotten_consumers_are_deleted(single: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has long been silent and holds nothing is no consumer any more; one that holds something is."""
    monkeypatch.setattr(module, "POLL_RECORDED_MS", 0)
    idle, busy, one = [await worker(single, name) for name in ("idle", "busy", "one")]
    session = await single.spoken(Story(talk()))
    await idle.take(1)
    ids = await offers(one, session.run, 3)
    await idle.remove([taken.entry_id for taken in await idle.take(1)])
    await busy.take(1)
    monkeypatch.setattr(module, "IDLE_CONSUMER_MS", 0)
    await one.take(1)
    found = await single.server.execute("XINFO", "CONSUMERS", one._stream, RECOGNISERS)
    assert sorted(fields[1] for fields in found) == [b"busy", b"one"]
    assert await one.find_removed(ids) == ids[:1]


async def test_audio_ahead_of_the_checkpoint_is_never_trimmed(single: Deployment) -> None:
    """With nothing retained behind it, a commit frees no chunk that holds a sample of an utterance after it."""
    session = await single.open(Story(talk()))
    await session.say(session.story.entries(range(0, len(talk()), 100))[1:])
    claim = await claimed(single, session)
    one = await worker(single, "one")
    boundary = 80_050
    trimmed = commit(claim, 1, final(0), trim_before=Position(boundary, 0))
    await single.log.commit([trimmed])
    [(first, _)] = await single.server.execute("XRANGE", session.keys.audio, "-", "+", "COUNT", 1)
    assert Position.parse(first).offset > 10_000, "something was freed"
    assert await stale(one, session.run, reference(boundary, boundary + 1_000)) == []


async def test_two_takers_at_once_share_out(single: Deployment) -> None:
    """Takers that ask at the same moment get different utterances."""
    workers = [await worker(single, f"worker {number}") for number in range(4)]
    session = await single.spoken(Story(talk()))
    await workers[1].take(1)
    await offers(workers[0], session.run, 20)
    taken = await asyncio.gather(*(one.take(3) for one in workers for _ in range(2)))
    assert sorted(start for part in taken for start in starts(part)) == list(range(20))
