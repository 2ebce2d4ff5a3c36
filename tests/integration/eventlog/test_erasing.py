"""Erasing: only an id is left, and no late write brings a key back."""

from collections.abc import Awaitable, Callable

import msgspec
import pytest

from eventlog.events import CONTAINER, SourceDescribed
from eventlog.keys import READ_MODELS, SessionKeys, reservations, tenant_reservations
from eventlog.log import Claim, Code
from eventlog.positions import OPENED, START, Position
from eventlog.projection.operations import add, push, put, put_fields, rank
from eventlog.projection.projection_log import Apply, ProjectionLog
from eventlog.redis.scripts import script
from eventlog.redis.server import Call
from eventlog.work import erasure
from eventlog.work.claims import Claims
from eventlog.work.erasure import erase, finish_erasures
from eventlog.work.uploads import TrimPoint, Uploads
from tests.integration.eventlog.stage import TOKEN, TTL_S, Stage, chunk, commit, ended, final, started
from tests.integration.eventlog.test_scripts import fits, header, named_types
from tests.support.key_search import all_keys, remains

TENANT = "t1"
WORDS = "unmistakable words"


async def filled(stage: Stage, session_id: str = "s1") -> tuple[SessionKeys, Claims, Claim]:
    """A session with every key that one can have, a second run and references elsewhere, and its claim."""
    keys = stage.keys(session_id)
    start = msgspec.structs.replace(started(session_id), encoding=CONTAINER)
    assert (await stage.log.open(keys, start, TOKEN)).code == Code.OK
    assert (await stage.append(chunk(keys, OPENED))).code == Code.OK
    assert (await stage.append(chunk(keys.upload, OPENED))).code == Code.OK
    worker = await stage.worker("w")
    claim = await stage.claimed(worker)
    assert [one.code for one in await worker.load([claim])] == [Code.OK]
    assert (await stage.commit(commit(claim, 1, final(0, WORDS)))).code == Code.OK
    for name in READ_MODELS:
        await projected(stage, keys, name, Position(1, 0))
    partition = keys.partition
    replay = keys.run("r1")
    for key in replay.expiring():
        await stage.do("SET", key, WORDS, "NX")
    await stage.do("ZADD", partition.index, 1, replay.member)
    for stream in (partition.quarantined, *map(partition.dead_letters, READ_MODELS)):
        for member in (claim.keys.member, "somebody-else live"):
            await stage.do("XADD", stream, "*", "reason", "a defect", "run", member)
    for places in (reservations(), tenant_reservations(TENANT)):
        await stage.do("ZADD", places, 1, session_id)
    return keys, worker, claim


async def projected(stage: Stage, keys: SessionKeys, name: str, new: Position) -> Code:
    """Write the keys that a projection writes for a fact."""
    run, partition = keys.run(), keys.partition
    log = ProjectionLog(stage.server, name, "c", session_ttl_s=TTL_S)
    made = {
        "lists": [push(run.list, WORDS.encode()), put(run.document, WORDS.encode())],
        "feeds": [add(run.feed, str(new), {"event": WORDS}, most=100)],
        "status": [add(run.status, "*", {"status": WORDS}, most=100), log.dead_letter(run, new, "a defect")],
        "sessions": [
            put_fields(run.view, {"state": "ACTIVE"}),
            *(rank(key, run.member, 1, expires=True)
              for key in (partition.open_runs, partition.ended_runs, partition.tenant_runs(TENANT))),
        ],
    }  # fmt: skip
    [applied] = await log.apply([Apply(run, START, new, made[name])])
    return applied.code


async def test_only_the_id_is_left(stage: Stage) -> None:
    """After an erasure only the tombstone has a session's id, no key its words, and neighbours continue (STITCH-5)."""
    keys, _, _ = await filled(stage)
    neighbour = await stage.opened("s2")
    assert await erase(stage.server, keys, TENANT)
    assert await remains(stage.server, "s1", WORDS) == [keys.partition.erased]
    assert await stage.do("EXISTS", neighbour.session, neighbour.audio, neighbour.run().transcript) == 3
    left = [await stage.do("XLEN", stream) for stream in map(keys.partition.dead_letters, READ_MODELS)]
    assert left == [1] * len(READ_MODELS)
    assert not await erase(stage.server, keys, TENANT)


LATE: dict[str, Callable[[Stage, SessionKeys, Claims, Claim], Awaitable[object]]] = {
    "append": lambda stage, keys, _, __: stage.append(chunk(keys, chunk(keys, OPENED).position)),
    "upload": lambda stage, keys, _, __: stage.append(chunk(keys.upload, chunk(keys, OPENED).position)),
    "touch": lambda stage, keys, _, __: stage.log.touch([(keys, 1), (keys.upload, 1)]),
    "resume": lambda stage, keys, _, __: stage.log.resume(keys, TOKEN),
    "resume upload": lambda stage, keys, _, __: stage.log.resume(keys.upload, TOKEN),
    "seal": lambda stage, keys, _, __: stage.log.seal(keys, "idle"),
    "seal upload": lambda stage, keys, _, __: stage.log.seal(keys.upload, "idle"),
    "open": lambda stage, keys, _, __: stage.log.open(keys, started(keys.session_id), TOKEN),
    "commit": lambda stage, _, __, claim: stage.commit(commit(claim, 2, final(1, WORDS))),
    "last commit": lambda stage, _, __, claim: stage.commit(commit(claim, 2, ended(1), ends=True)),
    "begin": lambda _, __, worker, claim: worker.load([claim]),
    "begin a takeover": lambda _, __, worker, claim: worker.load([claim._replace(deliveries=2)]),
    "renew": lambda _, __, worker, claim: worker.renew([claim]),
    "hand over": lambda _, __, worker, claim: worker.hand_over([claim]),
    "set aside": lambda _, __, worker, claim: worker.quarantine(claim, "a defect"),
    "sweep": lambda _, keys, worker, __: worker.reoffer_missing(keys.partition),
    "take over": lambda _, __, worker, ___: worker.take_over(10),
    "take new": lambda stage, _, worker, __: worker.take_new(stage.server.keys.partitions, 10),
    "begin decoding": lambda stage, _, __, claim: Uploads(stage.server).start_decoding(claim),
    "describe source": lambda stage, keys, _, __: Uploads(stage.server).describe(
        keys, 1, started(keys.session_id),
        SourceDescribed(sample_rate_hz=16_000, channels=1, container="wav", codec="pcm"),
    ),
    "grant an upload credit": lambda stage, _, __, claim: Uploads(stage.server).grant_credit(
        claim, 9, TrimPoint(b"{}", 1, b"head")
    ),
    "free upload": lambda stage, keys, _, __: Uploads(stage.server).free(keys),
    "refresh": lambda stage, _, __, claim: stage.server.execute_many(
        [*(("EXPIRE", key, TTL_S) for key in claim.keys.expiring()),
         ("ZADD", claim.keys.partition.index, "XX", 1, claim.keys.member)]
    ),
    **{name: lambda stage, keys, _, __, name=name: projected(stage, keys, name, Position(2, 0))  # type: ignore[misc]
       for name in READ_MODELS},
}  # fmt: skip


@pytest.mark.parametrize("late", LATE)
async def test_no_late_call_brings_a_key_back(single: Stage, late: str) -> None:
    """Late calls of clients, workers and projections after an erasure bring no key back (STITCH-5)."""
    keys, worker, claim = await filled(single)
    assert await erase(single.server, keys, TENANT)
    before = await all_keys(single.server)
    await LATE[late](single, keys, worker, claim)
    assert await remains(single.server, "s1", WORDS) == [keys.partition.erased]
    assert await all_keys(single.server) == before


async def test_late_calls_get_gone(single: Stage) -> None:
    """A late append, resume and opening answer GONE, a late commit LOST."""
    keys, _, claim = await filled(single)
    await erase(single.server, keys, TENANT)
    assert (await single.append(chunk(keys, chunk(keys, OPENED).position))).code == Code.GONE
    assert (await single.log.resume(keys, TOKEN)).code == Code.GONE
    assert (await single.log.open(keys, started("s1"), TOKEN)).code == Code.GONE
    assert (await single.commit(commit(claim, 2, final(1)))).code == Code.LOST
    assert await single.log.read_position(keys) is None


async def test_an_unfinished_erasure_is_finished(single: Stage) -> None:
    """References to an erased session that came late, or that a crash left, go with a sweep."""
    keys, _, claim = await filled(single)
    await erase(single.server, keys, TENANT)
    partition = keys.partition
    for stream in (partition.changes, partition.quarantined, partition.dead_letters("feeds")):
        await single.do("XADD", stream, "*", "run", claim.keys.member)
    await single.do("ZADD", reservations(), 1, "s1")
    await single.do("SET", keys.run("r2").transcript, WORDS)
    await single.do("ZADD", partition.index, 1, keys.run("r2").member)
    assert await finish_erasures(single.server) == 1
    assert await remains(single.server, "s1", WORDS) == [partition.erased]
    assert await finish_erasures(single.server) == 0


async def test_tombstones_are_bounded(single: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of erased sessions no more ids are kept than the bound, the latest ones, and only for a time."""
    monkeypatch.setattr(erasure, "MAX_ERASED", 3)
    partition = single.keys().partition
    names = [name for name in map(str, range(200)) if single.keys(name).partition is partition][:5]
    for age, name in enumerate(names):
        await single.opened(name)
        await erase(single.server, single.keys(name), TENANT)
        await single.do("ZINCRBY", partition.erased, age - 100, name)
    assert await single.do("ZRANGE", partition.erased, 0, -1) == [name.encode() for name in names[2:]]
    assert 0 < await single.do("PTTL", partition.erased) <= erasure.ERASED_RETENTION_MS
    await single.do("ZADD", partition.erased, 1, names[2])
    await single.opened("another")
    await erase(single.server, single.keys(names[0]), TENANT)
    assert names[2].encode() not in await single.do("ZRANGE", partition.erased, 0, -1)


async def test_the_erasing_call_matches_its_header(single: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys of an erasure are of the types that the script's header names, and so are its arguments."""
    keys, _, _ = await filled(single)
    made: list[Call] = []
    run_many = single.server.run_many

    async def recorded(calls: list[Call]) -> object:
        for call in calls:
            if call.script is script("erase_session"):
                made.append(call)
                types = [(await single.do("TYPE", key)).decode() for key in call.keys]
                known = zip(types, named_types("erase_session"), strict=False)
                assert [one for one, named in known if one not in {named, "none"}] == []
        return await run_many(calls)

    monkeypatch.setattr(single.server, "run_many", recorded)
    await erase(single.server, keys, TENANT)
    [call] = made
    assert len(call.keys) > len(named_types("erase_session"))
    assert fits(len(call.arguments), header("erase_session", "ARGV").replace("then members", "per run: a member"))
