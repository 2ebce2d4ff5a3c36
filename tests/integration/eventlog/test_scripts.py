import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import eventlog
from edge.auth.limits import RequestLimit
from edge.session.reservations import Reservation, Reservations
from eventlog.archive.progress import ArchiveProgress
from eventlog.events import SessionStarted, SourceDescribed
from eventlog.keys import RunKeys, SessionKeys
from eventlog.log import Code
from eventlog.positions import SEALED, START, Position
from eventlog.projection.dead_letters import MOVED, finish_redrives, read_dead_letters, read_redriven, redrive
from eventlog.projection.operations import add, publish
from eventlog.projection.rebuild import CopiedPart, ListingEntry, Rebuilds, RebuiltKeys, Swap
from eventlog.projection.sink_state import PartitionClaims
from eventlog.projection.webhook_subscriptions import Subscription, Subscriptions
from eventlog.readmodel.listings import list_sessions
from eventlog.readmodel.views import read_views, sum_views
from eventlog.redis.scripts import script
from eventlog.redis.server import Call
from eventlog.work import heartbeats
from eventlog.work.claims import GROUP
from eventlog.work.early_trim import free_processed
from eventlog.work.erasure import erase
from eventlog.work.lag import read_lag
from eventlog.work.promotion import promote
from eventlog.work.quarantine import Quarantine, list_quarantined_runs
from eventlog.work.replays import Replays
from eventlog.work.shared_recognition import Reference, SharedRecognition
from eventlog.work.uploads import TrimPoint, Uploads
from tests.integration.eventlog.stage import LEASE_MS, TOKEN, Stage, commit, ended, final

LUA = Path(eventlog.__file__).parent / "redis/lua"
# As headers name them, and as TYPE does; a channel is no key.
TYPES = {
    "list": "list", "hash": "hash", "stream": "stream", "string": "string", "sorted set": "zset", "channel": "none",
}  # fmt: skip


def header(name: str, label: str) -> str:
    """One entry of a script's header, on one line."""
    text = (LUA / f"{name}.lua").read_text(encoding="utf-8")
    entry = re.search(rf"^-- {label}: (.*(?:\n--  .*)*)", text, re.MULTILINE)
    assert entry, f"{name} has no {label}"
    return re.sub(r"\n--\s+", " ", entry[1])


def named_types(name: str) -> list[str]:
    """The Redis types of a script's keys, in order; for scripts over many of a kind those of one."""
    return [TYPES[kind] for kind in re.findall(rf"\(({'|'.join(TYPES)})\b", header(name, "KEYS"))]


def fits(given_count: int, entry: str) -> bool:
    """Whether a call with so many arguments matches the ARGV entry of a header."""
    if entry == "none":
        return given_count == 0
    plain = re.sub(r"\([^()]*\)", "", re.sub(r'"[^"]*"', "", entry))
    fixed, _, repeated = plain.rpartition("per ")
    each = len(repeated.partition(":")[2].split(",")) if repeated.partition(":")[1] else 0
    numbers = [int(number) for number in re.findall(r"(?:^|, )(\d+) ", fixed or plain)]
    first = max(numbers, default=0)
    if each and fixed.strip() in ("", "then"):
        return given_count % each == 0
    if each:
        return given_count >= first and (given_count - first) % each == 0
    return given_count >= first if "…" in plain else given_count == first


@pytest.fixture
def calls(single: Stage, monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Every script call of the test, in order."""
    made: list[Call] = []
    run_waiting = single.server.run_waiting

    async def recorded(calls: Sequence[Call], replicas: int, timeout_ms: int) -> tuple[list[Any], list[int]]:
        made.extend(calls)
        return await run_waiting(calls, replicas, timeout_ms)

    monkeypatch.setattr(single.server, "run_waiting", recorded)
    return made


async def everything(stage: Stage) -> None:
    """Calls each script of log, claims, reservations and heartbeats in the course of four sessions."""
    a, b = await stage.worker("a"), await stage.worker("b")
    for number in range(4):
        keys, _ = await stage.spoken(f"s{number}")
    await stage.log.resume(keys, TOKEN)
    await stage.log.touch([(keys, 2)])
    assert await stage.log.begin_close([(keys, 2)], grace_ms=60_000) == [Code.OK]
    one, two, three, four = await a.take_new(stage.server.keys.partitions, 100)
    assert {started.code for started in await a.load([one, two, three, four])} == {Code.OK}
    assert await a.renew([one, two, three, four]) == []
    uploads = Uploads(stage.server)
    started = await uploads.start_decoding(one)
    assert started.start is not None
    source = SourceDescribed(sample_rate_hz=16_000, channels=1, container="ogg", codec="opus")
    described = await uploads.describe(one.keys.session, started.epoch, started.start, source)
    assert described.code == Code.MISPLACED
    assert await uploads.grant_credit(one, 9, TrimPoint(b"{}", 1, b"head")) == Code.GONE
    await uploads.free(one.keys.session)
    assert (await stage.commit(commit(one, 1, final(0), trim_before=Position(1, 0)))).code == Code.OK
    marks = ArchiveProgress(stage.server, part_s=10, frees=True)
    assert await marks.start(one.keys.session) is not None
    assert await marks.record(one.keys, 1)
    assert await stage.log.seal(one.keys.session, "idle") == Code.OK
    assert (await stage.commit(commit(one, 2, ended(1), ends=True))).code == Code.OK
    assert await replay(stage, one.keys.session.run("again")) == Code.OK
    assert await replay(stage, one.keys) == Code.EXISTS
    assert [done.code for done in await promote(stage.server, [one.keys])] == [Code.NOT_ENDED]
    await a.hand_over([two])
    assert await a.quarantine(three, "broken") == Code.OK
    await drained(stage, three.keys.session)
    await stage.age(four)
    assert len(await b.take_over(10)) == 1
    await a.reoffer_missing(keys.partition)
    await a.delete_consumer()
    places = Reservations(stage.server, limit=2, ttl_s=60)
    wanted = [Reservation(name, "acme") for name in ("s0", "s1", "s2")]
    assert await places.take(wanted) == [Code.OK, Code.OK, Code.FULL]
    await RequestLimit(stage.server, per_minute=1, now=lambda: 0.0).count("acme")
    webhook = Subscription(id="w", url="", kinds=(), description="", secret="", created_ms=0)
    webhooks = Subscriptions(stage.server)
    assert await webhooks.add("acme", webhook)
    assert await webhooks.replace("acme", webhook, webhook)
    await heartbeats.write(stage.server, "worker", "a", {"runs": 1})
    await read_views(stage.server, [keys.run()])
    await sum_views(stage.server, [keys.run()])
    assert (await list_sessions(stage.server)).views == []
    assert (await read_lag(stage.server)).unclaimed_s >= 0
    await letters(stage, keys.run())
    await utterances(stage, keys.run())
    await rebuilt(stage, keys.run())
    await erase(stage.server, keys, "t1")


async def rebuilt(stage: Stage, run: RunKeys) -> None:
    """Calls the scripts of a rebuild, with a place in a listing, a message and dead letters."""
    rebuilds, keys = Rebuilds(stage.server, "sessions", session_ttl_s=60), RebuiltKeys(run)
    assert await rebuilds.begin([keys]) == [Code.OK]
    letter = add(run.partition.dead_letters("sessions"), "*", {"run": run.member}, most=9)
    place = ListingEntry(run.partition.open_runs, 1, expires=False, member=run.member)
    swap = Swap(
        keys, START, [CopiedPart("view", exists=False)], [place], [publish(run.partition.feed_channel, b"")], [letter],
        ["1-1"],
    )
    assert [one.code for one in await rebuilds.swap([swap], keep=True, mend=False)] == [Code.OK]


async def drained(stage: Stage, keys: SessionKeys) -> None:
    """Calls each script for the quarantined run, and the one that frees its audio."""
    [quarantined] = [one async for one in list_quarantined_runs(stage.server)]
    acts = Quarantine(stage.server, session_ttl_s=60)
    assert await acts.redrive(quarantined) == Code.OK
    assert await acts.fail(quarantined) == Code.LOST
    assert await free_processed(stage.server, [keys], keeps_unarchived=False) == 0


async def replay(stage: Stage, run: RunKeys) -> Code:
    """Calls the script that starts a replay."""
    start = SessionStarted(session_id=run.session_id, sample_rate_hz=16_000)
    return await Replays(stage.server, session_ttl_s=60).start(run, start, "mock", total_samples=1)


async def utterances(stage: Stage, keys: RunKeys) -> None:
    """Calls each script of workers that share one utterance."""
    one = SharedRecognition(stage.server, "mock", "a", lease_ms=LEASE_MS)
    reference = Reference(
        channel=0, channels=1, start_samples=0, end_samples=800, sample_rate_hz=16_000, language="en", voiced_ms=50
    )
    assert await SharedRecognition(stage.server, "mock", "b", lease_ms=LEASE_MS).take(1) == []
    assert len(await one.offer([(keys, reference)])) == 1
    [taken] = await one.take(1)
    assert await one.store_results({taken.keys: [(taken.reference, b"{}")]}) == []


async def letters(stage: Stage, keys: RunKeys) -> None:
    """Calls each script of forwarders with one letter."""
    holders = await PartitionClaims(stage.server, "kafka", "a", lease_ms=LEASE_MS).hold({keys.partition: True})
    assert holders == {keys.partition: "a"}
    await stage.do("XADD", keys.partition.dead_letters("kafka"), "*", "run", keys.member, "fact", "1-0")
    found = [letter async for page in read_dead_letters(stage.server, ["kafka"]) for letter in page]
    assert await redrive(stage.server, found) == [MOVED]
    [moved] = await read_redriven(stage.server, "kafka", [keys.partition], 1)
    await finish_redrives(stage.server, [moved._replace(reason="")], consumer="a", ttl_s=60)


async def test_calls_match_the_headers(single: Stage, calls: list[Call]) -> None:
    """Each call of a script has the keys, of the types, and the number of arguments that the script's header names."""
    await everything(single)
    wrong: list[tuple[str, str, object]] = []
    for call in calls:
        # A varying number of keys; tests/integration/eventlog/test_erasing.py and tests/integration/rebuild have them.
        if call.script.name in {"erase_session", "swap_rebuilt"}:
            continue
        types = named_types(call.script.name)
        found = [(await single.do("TYPE", key)).decode() for key in call.keys]
        expected = types * (len(found) // len(types))
        known = [named if one == "none" else one for one, named in zip(found, expected, strict=False)]
        if len(found) != len(expected) or known != expected:
            wrong.append((call.script.name, "KEYS", found))
        if not fits(len(call.arguments), header(call.script.name, "ARGV")):
            wrong.append((call.script.name, "ARGV", len(call.arguments)))
    assert wrong == []
    of_projections = {"apply_projection", "pull_facts", "read_changes", "trim_changes", "scan_index", "finish_walk"}
    assert {call.script.name for call in calls} == {path.stem for path in LUA.glob("*.lua")} - of_projections


def test_codes_are_the_same_on_both_sides() -> None:
    """The Lua table of codes has each name and number of the enum but UNKNOWN, which no script returns."""
    table = dict(re.findall(r"(\b[A-Z_]+) = (\d+)", (LUA / "includes/codes.lua").read_text(encoding="utf-8")))
    assert {name: int(number) for name, number in table.items()} == {
        code.name: code.value for code in Code if code not in {Code.UNKNOWN, Code.BROKEN}
    }


def test_names_are_the_same_on_both_sides() -> None:
    """Wherever Lua names the group of workers or the largest id, it is the one that Python names."""
    texts = [path.read_text(encoding="utf-8") for path in LUA.rglob("*.lua")]
    ends = {end for text in texts for end in re.findall(r"END = '([^']*)'", text)}
    groups = {group for text in texts for group in re.findall(r"GROUP = '([^']*)'", text)}
    assert (ends, groups) == ({str(SEALED)}, {GROUP})


def test_includes_are_pulled_in() -> None:
    """A script's text has its includes in it, begins with its flags, and is named by the same hash as in Redis."""
    found = script("commit_facts")
    assert found.text.startswith("#!lua flags=allow-oom\n")
    assert "@include" not in found.text
    assert "local CODE = {" in found.text
    assert re.fullmatch("[0-9a-f]{40}", found.sha1)


halves = st.integers(0, 2**64 - 1) | st.integers(0, 20) | st.integers(2**53 - 2, 2**53 + 2)
ids = st.builds(Position, halves, halves)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(ids, ids), min_size=1, max_size=50))
@example(pairs=[(Position(2**53, 1), Position(2**53 + 1, 0)), (Position(1, 2**53), Position(1, 2**53 + 1))])
@example(pairs=[(Position(9, 0), Position(10, 0)), (Position(10, 0), Position(9, 0))])
async def test_ids_compare_in_lua_as_in_redis(single: Stage, pairs: list[tuple[Position, Position]]) -> None:
    """Lua orders ids by their numbers, those too that a Lua number can't hold."""
    text = (LUA / "includes/ids.lua").read_text(encoding="utf-8") + (
        "local found = {} for i = 1, #ARGV, 2 do found[#found + 1] = id_before(ARGV[i], ARGV[i + 1]) and 1 or 0 end "
        "return found"
    )
    found = await single.do("EVAL", text, 0, *(str(position) for pair in pairs for position in pair))
    assert found == [int(one < other) for one, other in pairs]
