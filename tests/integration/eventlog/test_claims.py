"""Claims on one server and on a cluster."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from eventlog.codec import UPCASTERS, encode
from eventlog.log import Checkpoint, Claim, Code, Committed
from eventlog.positions import OPENED, START
from eventlog.redis.server import Call
from eventlog.redis.wakeups import Wakeups
from eventlog.work.claims import GROUP, Claims, LoadedRun, ReofferPage
from tests.integration.eventlog.stage import LEASE_MS, TTL_S, Stage, commit, ended, final, started, token

FRESH = LoadedRun(Code.OK, started("s1"), Checkpoint(), OPENED)


async def taken_over(stage: Stage, claim: Claim, by: Claims) -> Claim:
    """The claim after its holder died and `by` took it."""
    await stage.age(claim)
    [claim] = await by.take_over(100)
    return claim


async def suspicion(worker: Claims, claim: Claim) -> int:
    """The suspicion count that a worker gets as it loads a claim."""
    [loaded] = await worker.load([claim])
    assert loaded.code == Code.OK
    return loaded.checkpoint.suspicion


async def consumers(stage: Stage, claim: Claim) -> set[bytes]:
    """The consumers of the group of the claim's partition."""
    found = await stage.do("XINFO", "CONSUMERS", claim.keys.partition.sessions, GROUP)
    return {one["name"] if isinstance(one, dict) else one[1] for one in found}


async def test_an_opened_session_is_claimed_once(stage: Stage) -> None:
    """A session is taken by one worker, from its beginning, and not by the next one that polls."""
    await stage.opened()
    a, b = await stage.worker("a"), await stage.worker("b")
    claim = await stage.claimed(a)
    assert (claim.keys.member, claim.consumer, claim.deliveries) == ("s1 live", "a", 1)
    assert await a.load([claim]) == [FRESH]
    assert await b.take_new(stage.server.keys.partitions, 100) == []


async def test_sessions_from_before_the_group_are_claimed(stage: Stage) -> None:
    """A session that was opened before any worker ever ran is taken by the first one, and groups are made only once."""
    await stage.opened()
    await stage.worker("a")
    assert (await stage.claimed(await stage.worker("b"))).keys.member == "s1 live"


@pytest.mark.parametrize("room", [1, 2, 5, 13])
async def test_a_worker_never_takes_more_than_it_has_room_for(stage: Stage, room: int) -> None:
    """Neither new claims nor takeovers exceed a worker's room, however small, and all come in the end."""
    await asyncio.gather(*(stage.opened(f"s{number}") for number in range(32)))
    a, b = await stage.worker("a"), await stage.worker("b")
    new: list[Claim] = []
    while len(new) < 32:
        claims = await a.take_new(stage.server.keys.partitions, room)
        assert 1 <= len(claims) <= room
        new += claims
    for claim in new:
        await stage.age(claim)
    taken: list[Claim] = []
    while len(taken) < 32:
        claims = await b.take_over(room)
        assert 1 <= len(claims) <= room
        taken += claims
    assert {claim.keys.member for claim in taken} == {claim.keys.member for claim in new}


async def test_many_claims_are_renewed_in_several_calls(single: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """For any number of claims, no call holds more than its bound, and the lost ones of all calls are returned."""
    monkeypatch.setattr("eventlog.work.claims.CLAIMS_PER_CALL", 4)
    await asyncio.gather(*(single.opened(f"s{number}") for number in range(10)))
    a = await single.worker("a")
    claims = await a.take_new(single.server.keys.partitions, 100)
    stale = {number: claims[number]._replace(deliveries=7) for number in (0, 5, 9)}
    sizes_seen: list[int] = []
    run_many = single.server.run_many

    async def counted(calls: Sequence[Call]) -> list[Any]:
        sizes_seen.extend(len(call.keys) for call in calls)
        return await run_many(calls)

    monkeypatch.setattr(single.server, "run_many", counted)
    assert await a.renew([stale.get(number, claim) for number, claim in enumerate(claims)]) == list(stale.values())
    assert sizes_seen == [4, 4, 2]


async def test_a_worker_shares_its_room_among_partitions(stage: Stage) -> None:
    """A worker takes no more than its room, and leaves the rest to others."""
    await asyncio.gather(*(stage.opened(f"s{number}") for number in range(64)))
    a, b = await stage.worker("a"), await stage.worker("b")
    partitions = stage.server.keys.partitions
    mine = await a.take_new(partitions, 16)
    assert 1 <= len(mine) <= 16
    assert await b.take_new(partitions, 0) == []
    others = [claim for _ in range(64) for claim in await b.take_new(partitions, 16)]
    assert sorted(claim.keys.session_id for claim in [*mine, *others]) == sorted(f"s{n}" for n in range(64))


async def test_a_claim_is_taken_over_after_its_lease_only(stage: Stage) -> None:
    """A claim that isn't renewed is taken over once it is idle for the lease, and not before."""
    await stage.opened()
    a, b = await stage.worker("a"), await stage.worker("b")
    claim = await stage.claimed(a)
    await stage.age(claim, LEASE_MS // 2)
    assert await b.take_over(100) == []
    await stage.age(claim)
    [taken] = await b.take_over(100)
    assert token(taken) == token(claim._replace(consumer="b", deliveries=2))


async def test_renewed_claims_are_not_taken_over(stage: Stage) -> None:
    """Renewing resets the idle time and nothing else, so live workers keep their claims under the same token."""
    await asyncio.gather(*(stage.opened(f"s{number}") for number in range(5)))
    a, b = await stage.worker("a"), await stage.worker("b")
    claims = await a.take_new(stage.server.keys.partitions, 100)
    for claim in claims:
        await stage.age(claim)
    assert await a.renew(claims) == []
    assert await b.take_over(100) == []
    assert [loaded.code for loaded in await a.load(claims)] == [Code.OK] * 5


async def test_renewing_returns_lost_claims(stage: Stage) -> None:
    """Of many renewed claims exactly those that another worker holds now are returned, and stay the other's."""
    for number in range(4):
        await stage.opened(f"s{number}")
    a, b = await stage.worker("a"), await stage.worker("b")
    claims = await a.take_new(stage.server.keys.partitions, 100)
    theirs = await taken_over(stage, claims[2], b)
    assert await a.renew(claims) == [claims[2]]
    assert await b.renew([theirs]) == []


async def test_a_claim_that_came_back_is_another_one(stage: Stage) -> None:
    """When a claim goes from A to B and back to A, the first token of A is invalid (SAFE-2)."""
    await stage.opened()
    a, b = await stage.worker("a"), await stage.worker("b")
    first = await stage.claimed(a)
    third = await taken_over(stage, await taken_over(stage, first, b), a)
    assert token(third) == token(first._replace(deliveries=3))
    assert await a.renew([first, third]) == [first]
    assert (await stage.commit(commit(first, 1, final(0)))).code == Code.LOST
    assert await a.load([first]) == [LoadedRun(Code.LOST)]
    assert await a.quarantine(first, "stale") == Code.LOST
    await a.hand_over([first])
    assert await a.renew([third]) == []


async def test_a_claim_given_away_by_hand_is_lost(stage: Stage) -> None:
    """An entry that was moved to another consumer is that one's alone, though its delivery count is the same."""
    await stage.opened()
    claim = await stage.claimed(await stage.worker("a"))
    await stage.do("XCLAIM", claim.keys.partition.sessions, GROUP, "b", 0, claim.entry_id, "JUSTID")
    assert await stage.commit(commit(claim, 1, final(0))) == Committed(Code.LOST, "b", 0)
    assert (await stage.commit(commit(claim._replace(consumer="b"), 1, final(0)))).code == Code.OK


async def test_two_workers_never_take_over_the_same(stage: Stage) -> None:
    """Two workers that take over at once from a dead one get each of its claims exactly once between them."""
    await asyncio.gather(*(stage.opened(f"s{number}") for number in range(40)))
    a, b, c = [await stage.worker(name) for name in "abc"]
    dead = await a.take_new(stage.server.keys.partitions, 1000)
    for claim in dead:
        await stage.age(claim)
    got = await asyncio.gather(*(worker.take_over(16) for _ in range(20) for worker in (b, c)))
    assert sorted(claim.keys.member for some in got for claim in some) == sorted(claim.keys.member for claim in dead)


async def test_own_forgotten_claims_come_back(stage: Stage) -> None:
    """Entries whose delivery never reached their worker come back to it after a lease, under the token they have."""
    await stage.opened()
    a = await stage.worker("a")
    forgotten = await stage.claimed(a)
    assert await a.take_over(100) == []
    await stage.age(forgotten)
    assert [token(claim) for claim in await a.take_over(100)] == [token(forgotten)]
    assert await suspicion(a, forgotten) == 0


async def test_a_death_is_suspected_once(stage: Stage) -> None:
    """Each takeover counts one suspicion, however often it is loaded, and any commit clears them (SAFE-3)."""
    await stage.opened()
    a, b = await stage.worker("a"), await stage.worker("b")
    second = await taken_over(stage, await stage.claimed(a), b)
    assert [await suspicion(b, second) for _ in range(3)] == [1, 1, 1]
    third = await taken_over(stage, second, a)
    assert await suspicion(a, third) == 2
    assert (await stage.commit(commit(third, 1))).code == Code.OK
    assert await suspicion(a, third) == 0
    assert await suspicion(b, await taken_over(stage, third, b)) == 1


async def test_handing_over_wakes_workers_without_suspicion(stage: Stage) -> None:
    """A run handed over sends a wake-up, is taken at once by another worker, and counts no suspicion (SESS-8)."""
    keys = await stage.opened()
    a, b = await stage.worker("a"), await stage.worker("b")
    claim = await stage.claimed(a)
    received: asyncio.Queue[bytes] = asyncio.Queue()
    channels = [keys.partition.sessions_wakeup]
    wakeups = Wakeups(stage.server, channels, lambda _, run: received.put_nowait(run), lambda: None)
    await wakeups.start()
    await wakeups.listening()
    await a.hand_over([claim])
    async with asyncio.timeout(10):
        assert await received.get() == b"s1 live"
    await wakeups.stop()
    fresh = await stage.claimed(b)
    assert fresh.deliveries == 1
    assert fresh.entry_id != claim.entry_id
    assert await b.load([fresh]) == [FRESH]
    assert await a.renew([claim]) == [claim]


async def test_handing_over_again_changes_nothing(stage: Stage) -> None:
    """A hand-over that is repeated, or comes after the claim was lost, neither doubles nor removes the entry."""
    keys = await stage.opened()
    a = await stage.worker("a")
    claim = await stage.claimed(a)
    await a.hand_over([claim])
    before = await stage.snapshot(keys)
    await a.hand_over([claim])
    assert await stage.snapshot(keys) == before
    assert await stage.do("XLEN", keys.partition.sessions) == 1


async def test_entries_stay_until_their_runs_end(stage: Stage) -> None:
    """Neither taking, renewing, committing nor taking over removes a run's entry; its end does (SAFE-1)."""
    keys = await stage.opened()
    a, b = await stage.worker("a"), await stage.worker("b")
    claim = await stage.claimed(a)
    await a.renew([claim])
    assert (await stage.commit(commit(claim, 1, final(0)))).code == Code.OK
    claim = await taken_over(stage, claim, b)
    await b.load([claim])
    assert [await stage.do(*size) for size in sizes(claim)] == [1, 1]
    assert await stage.commit(commit(claim, 2, ended(1), ends=True)) == Committed(Code.OK, "b", 2)
    assert [await stage.do(*size) for size in sizes(claim)] == [0, 0]
    assert await stage.do("XPENDING", keys.partition.sessions, GROUP, "-", "+", 10) in ([], ())


def sizes(claim: Claim) -> list[tuple[str, str]]:
    """Commands that count the offered runs of the claim's partition."""
    return [("XLEN", claim.keys.partition.sessions), ("HLEN", claim.keys.partition.entries)]


async def test_a_quarantined_run_is_not_offered_again(stage: Stage) -> None:
    """A quarantined run is listed with reason and consumer, and no sweep offers it again (SAFE-3)."""
    keys = await stage.opened()
    a = await stage.worker("a")
    claim = await stage.claimed(a)
    assert await a.quarantine(claim, "killed three workers") == Code.OK
    [(_, fields)] = await stage.do("XRANGE", keys.partition.quarantined, "-", "+")
    assert fields == [
        b"run", b"s1 live", b"reason", b"killed three workers", b"consumer", b"a", b"queue", b"", b"times", b"1",
    ]
    assert await a.reoffer_missing(keys.partition) == ReofferPage("0", [], 0)
    assert [await stage.do(*size) for size in sizes(claim)] == [0, 0]
    assert await a.quarantine(claim, "again") == Code.LOST


async def test_a_sweep_offers_runs_without_an_entry_again(stage: Stage) -> None:
    """An unfinished run whose entry was deleted by hand is offered again; runs with their entry are left alone."""
    keys = await stage.opened()
    a = await stage.worker("a")
    claim = await stage.claimed(a)
    assert await a.reoffer_missing(keys.partition) == ReofferPage("0", ["s1 live"], 0)
    await stage.do("XDEL", keys.partition.sessions, claim.entry_id)
    assert await a.reoffer_missing(keys.partition) == ReofferPage("0", ["s1 live"], 1)
    assert await a.reoffer_missing(keys.partition) == ReofferPage("0", ["s1 live"], 0)
    assert (await stage.claimed(await stage.worker("b"))).keys.member == "s1 live"


async def test_a_sweep_comes_through_many_runs(stage: Stage) -> None:
    """A sweep over more runs than one page has sees them all by continuing from its cursor."""
    partition = stage.keys().partition
    members = {f"x{number} live": "1-1" for number in range(1000)}
    await stage.do("HSET", partition.entries, *(word for item in members.items() for word in item))
    a, seen, cursor = await stage.worker("a"), list[str](), "0"
    while not seen or cursor != "0":
        step = await a.reoffer_missing(partition, cursor)
        assert len(step.members) < 1000
        cursor, seen = step.cursor, seen + step.members
    assert set(seen) == set(members)


async def test_a_claim_with_a_deleted_entry_is_lost(stage: Stage) -> None:
    """A claim whose entry was deleted by hand is lost after a renewal, so that its run isn't held twice."""
    keys = await stage.opened()
    a = await stage.worker("a")
    claim = await stage.claimed(a)
    await stage.do("XDEL", keys.partition.sessions, claim.entry_id)
    await a.renew([claim])
    assert await a.renew([claim]) == [claim]
    await stage.age(claim)
    assert await a.take_over(100) == []


async def test_consumers_with_claims_are_never_deleted(stage: Stage) -> None:
    """A consumer that holds a claim isn't deleted however silent it is, and keeps its claim (SAFE-1)."""
    await stage.opened()
    a = await stage.worker("a")
    claim = await stage.claimed(a)
    await a.delete_consumer()
    await a.delete_silent_consumers(-1)
    assert await consumers(stage, claim) == {b"a"}
    assert await a.renew([claim]) == []


async def test_silent_consumers_are_deleted(stage: Stage) -> None:
    """A consumer without claims is deleted after a long silence or by itself, and not before."""
    await stage.opened()
    a = await stage.worker("a")
    claim = await stage.claimed(a)
    # Redis 7.0 makes a consumer only when it gets an entry, later ones at each read.
    await stage.do("XGROUP", "CREATECONSUMER", claim.keys.partition.sessions, GROUP, "b")
    assert await a.delete_silent_consumers(600_000) == 0
    assert await consumers(stage, claim) == {b"a", b"b"}
    assert await a.delete_silent_consumers(-1) >= 1
    assert await consumers(stage, claim) == {b"a"}
    await a.hand_over([claim])
    await a.delete_consumer()
    assert await consumers(stage, claim) == set()


@pytest.mark.parametrize("missing", ["session", "transcript"])
async def test_an_erased_session_is_not_loaded(stage: Stage, missing: str) -> None:
    """Loading a run whose session or facts are gone answers GONE and removes its entry permanently."""
    keys = await stage.opened()
    a = await stage.worker("a")
    claim = await stage.claimed(a)
    await stage.do("DEL", keys.session if missing == "session" else keys.run().transcript)
    assert await a.load([claim]) == [LoadedRun(Code.GONE)]
    assert [await stage.do(*size) for size in sizes(claim)] == [0, 0]
    assert await a.reoffer_missing(keys.partition) == ReofferPage("0", [], 0)


async def test_a_finished_run_is_not_loaded(stage: Stage) -> None:
    """Loading a run that is done already answers SEALED and removes the entry that offered it again."""
    keys = await stage.opened()
    a = await stage.worker("a")
    assert (await stage.commit(commit(await stage.claimed(a), 1, ended(0), ends=True))).code == Code.OK
    await stage.do("HSET", keys.partition.entries, "s1 live", "1-1")
    assert (await a.reoffer_missing(keys.partition)).offered == 1
    again = await stage.claimed(a)
    assert await a.load([again]) == [LoadedRun(Code.SEALED)]
    assert [await stage.do(*size) for size in sizes(again)] == [0, 0]


async def test_loading_decodes_older_versions(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of an older version is loaded, and an undecodable one keeps no other from it (OPS-1)."""
    for number in range(3):
        await stage.opened(f"s{number}")
    monkeypatch.setitem(UPCASTERS, "session_started.zeroth", lambda raw: raw | {"event": "session_started.v1"})
    await stage.do("HSET", stage.keys("s0").session, "start", encode(started("s0")).replace(b"d.v1", b"d.zeroth"))
    await stage.do("HSET", stage.keys("s1").session, "start", "nothing known")
    a = await stage.worker("a")
    claims = await a.take_new(stage.server.keys.partitions, 100)
    loaded = dict(zip((claim.keys.session_id for claim in claims), await a.load(claims), strict=True))
    assert {name: one.start for name, one in loaded.items()} == {"s0": started("s0"), "s1": None, "s2": started("s2")}


async def test_suspicions_expire_with_their_session(stage: Stage) -> None:
    """The checkpoint that a suspicion makes before any commit has the session's TTL (STITCH-7)."""
    keys = await stage.opened()
    a, b = await stage.worker("a"), await stage.worker("b")
    assert await suspicion(b, await taken_over(stage, await stage.claimed(a), b)) == 1
    assert TTL_S - 60 < await stage.do("TTL", keys.run().checkpoint) <= TTL_S
    assert await stage.log.facts(keys.run(), START) != []


async def test_an_emptied_redis_is_worked_with_again(stage: Stage) -> None:
    """A worker whose Redis was emptied under it makes its groups again and claims sessions that open afterwards."""
    a = await stage.worker("a")
    partitions = stage.server.keys.partitions
    await stage.server.execute_many([("DEL", keys.sessions) for keys in partitions])
    assert await a.take_over(100) == []
    assert await a.delete_silent_consumers(0) == 0
    assert await a.take_new(partitions, 100) == []
    await stage.opened()
    assert (await stage.claimed(a)).keys.member == "s1 live"


async def test_a_look_returns_when_the_next_claim_runs_out(stage: Stage) -> None:
    """A look for abandoned claims returns how long the next one has, so that no worker comes a sweep too late."""
    await stage.opened()
    a, b = await stage.worker("a"), await stage.worker("b")
    claim = await stage.claimed(a)
    assert await b.take_over(100) == []
    assert b.next_takeover_ms == b.lease_ms // 2
    await stage.age(claim, b.lease_ms * 3 // 4)
    assert await b.take_over(100) == []
    assert 0 < b.next_takeover_ms <= b.lease_ms // 4
