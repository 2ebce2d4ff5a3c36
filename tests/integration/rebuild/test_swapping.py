"""The log's side of rebuilds: copies that are abandoned, erased, contested or outrun."""

from eventlog.log import Code
from eventlog.positions import OPENED, START, Position
from eventlog.projection.operations import push
from eventlog.projection.projection_log import Apply, ProjectionLog
from eventlog.projection.rebuild import COPY_TTL_S, CopiedPart, Rebuilds, RebuiltKeys, Swap, rebuild_keys
from eventlog.redis.server import Server
from eventlog.work.erasure import erase
from tests.integration.projections.facts import a_run, conversation, keys_of, write
from tests.integration.rebuild.read_models import TTL_S, no_leftovers, parts_of, project, rebuild, remembered
from tests.support.key_search import remains

WORDS = "unmistakable words"


async def started(server: Server) -> RebuiltKeys:
    """A run with a List of its own, and a copy of the first of its facts."""
    run = a_run(server)
    await write(server, run, conversation(run, 2))
    await project(server, [run], ["lists"])
    keys = RebuiltKeys(run)
    assert await rebuilds(server).begin([keys]) == [Code.OK]
    assert await copied(server, keys, START, OPENED) == Code.OK
    return keys


def rebuilds(server: Server) -> Rebuilds:
    """Those of `lists`."""
    return Rebuilds(server, "lists", session_ttl_s=TTL_S)


async def copied(server: Server, keys: RebuiltKeys, expected: Position, new: Position) -> Code:
    """A rebuild's operation for a final, which differs from the facts."""
    log = ProjectionLog(server, "lists", "c", session_ttl_s=COPY_TTL_S)
    [applied] = await log.apply([Apply(keys, expected, new, [push(keys.list, WORDS.encode())])])
    return applied.code


async def swapped(server: Server, keys: RebuiltKeys, position: Position) -> Code:
    """The answer to a swap at `position`."""
    parts = [CopiedPart("list", exists=True), CopiedPart("document", exists=False)]
    [answer] = await rebuilds(server).swap([Swap(keys, position, parts, [], [], [], [])], keep=False, mend=False)
    return answer.code


async def test_copies_of_a_killed_rebuild_expire(log: Server) -> None:
    """REPLAY-2: an abandoned copy has a short life of its own, and the next rebuild begins again."""
    keys = await started(log)
    before = await remembered(log)
    lives = [await log.execute("TTL", key) for key in (keys.list, keys.projected("lists"))]
    assert all(0 < life_s <= COPY_TTL_S for life_s in lives)
    report = await rebuild(log, "lists")
    assert (report.runs, report.differing) == (1, [])
    assert await no_leftovers(log, keys.of)
    copies = {keys.list, keys.projected("lists")}
    assert await remembered(log) == {key: value for key, value in before.items() if key not in copies}


async def test_erasing_deletes_copies(log: Server) -> None:
    """REPLAY-2: nothing is left of a session that is erased while it is rebuilt, and nothing comes back."""
    keys = await started(log)
    await log.execute("SET", keys.before("document"), WORDS)
    assert await erase(log, keys.session, "tenant")
    assert await remains(log, WORDS) == []
    assert await copied(log, keys, START, OPENED) == Code.GONE
    assert await swapped(log, keys, OPENED) == Code.GONE
    assert await rebuilds(log).begin([keys]) == [Code.GONE]
    assert await remains(log, keys.session_id, WORDS) == [keys.partition.erased]


async def test_a_copy_expires_with_its_facts(log: Server) -> None:
    """REPLAY-2: once its facts are gone, a run's copy is dropped, and the rest of its read model is unchanged."""
    keys = await started(log)
    before = await remembered(log)
    await log.execute("DEL", keys.transcript)
    assert await swapped(log, keys, OPENED) == Code.GONE
    assert await no_leftovers(log, keys.of)
    after = await remembered(log)
    assert {key: after[key] for key in parts_of(keys.of, "lists")} == {
        key: before[key] for key in parts_of(keys.of, "lists")
    }


async def test_a_copy_with_fewer_facts_takes_no_place(log: Server) -> None:
    """REPLAY-2: while the old read model has more facts than the copy, the swap is refused and changes nothing."""
    keys = await started(log)
    before = await remembered(log)
    assert await swapped(log, keys, OPENED) == Code.STALE
    assert await remembered(log) == before


async def test_a_copy_that_was_changed_takes_no_place(log: Server) -> None:
    """REPLAY-2: a swap is refused if another rebuild moved the copy on, or a part of it has expired."""
    keys = await started(log)
    await log.execute("DEL", keys.of.projected("lists"))
    assert await copied(log, keys, OPENED, Position(1, 0)) == Code.OK
    before = await remembered(log)
    assert await swapped(log, keys, OPENED) == Code.LOST
    assert await remembered(log) == before
    await log.execute("DEL", keys.list)
    assert await swapped(log, keys, Position(1, 0)) == Code.LOST
    assert await log.execute("LLEN", keys.of.list) == 2


async def test_a_repeated_swap_changes_nothing(log: Server) -> None:
    """REPLAY-2: a swap whose answer was lost answers LOST the second time, and what it put in place stays."""
    keys = await started(log)
    await log.execute("DEL", keys.of.projected("lists"))
    assert await swapped(log, keys, OPENED) == Code.OK
    before = await remembered(log)
    assert await swapped(log, keys, OPENED) == Code.LOST
    assert await remembered(log) == before
    assert await log.execute("LRANGE", keys.of.list, 0, -1) == [WORDS.encode()]


def test_a_copy_has_keys_of_its_own() -> None:
    """REPLAY-2: no key of a copy is one of the run's own, and all of them are in its partition's slot."""
    run = keys_of("s1")
    copies = rebuild_keys(run)
    assert len(copies) == len(set(copies)) == 4 + 2 * 5
    assert not set(copies) & set(run.expiring())
    assert all(key.startswith(f"{{{run.partition.tag}}}:") for key in copies)
