"""The sessions whose audio can be processed again."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import numpy as np

from eventlog.log import Code
from eventlog.positions import Position
from stenolog.operations.replay.log_source import LogSource
from stenolog.operations.replay.sources import Replayable, Selection
from tests.integration.replay.replays import TenantStory, found
from tests.support.deployment import Deployment
from tests.support.pcm import Story, talk

SHORT = np.zeros((1_600, 1), np.int16)


class Elsewhere:
    """Another place that has audio."""

    name = "elsewhere"

    def __init__(self, *sessions: Replayable) -> None:
        """It has these."""
        self._sessions = sessions

    async def find(self, selection: Selection) -> AsyncIterator[Replayable]:
        """Those that are wanted."""
        for one in self._sessions:
            if selection.matches(one.start):
                yield one


async def test_the_log_knows_what_can_be_replayed(deployment: Deployment) -> None:
    """REPLAY-1: each session of the log is found with its length, or with what stands against a replay."""
    whole = await deployment.spoken(Story(talk(8_000, 2), sample_rate_hz=8_000))
    going = await deployment.open(Story(SHORT, sealed=False))
    trimmed = await deployment.spoken(Story(talk()))
    await deployment.server.execute("XTRIM", trimmed.keys.audio, "MINID", str(Position(1, 0)))
    replayables = {one.session_id: one for one in await found([LogSource(deployment.server)])}
    codes = {session_id: one.code for session_id, one in replayables.items()}
    assert codes == {
        whole.keys.session_id: Code.OK, going.keys.session_id: Code.NOT_ENDED, trimmed.keys.session_id: Code.TRIMMED,
    }  # fmt: skip
    one = replayables[whole.keys.session_id]
    assert one.total_samples == len(whole.story.samples)
    assert one.audio_s == len(whole.story.samples) / 8_000
    assert one.start == msgspec.structs.replace(whole.story.start, session_id=one.session_id)
    assert one.source == ""


async def test_a_selection_is_by_tenant_and_time(single: Deployment) -> None:
    """REPLAY-1: only the sessions of that tenant, started in that range, are found, the oldest first."""
    for tenant, started_ms in (("a", 300), ("a", 100), ("b", 200), ("a", 200)):
        await single.spoken(TenantStory(SHORT, tenant_id=tenant, started_ms=started_ms))
    source = LogSource(single.server)

    async def times(**bounds: Any) -> list[tuple[str, int]]:  # noqa: ANN401 - text and numbers
        return [(one.tenant_id, one.started_ms) for one in await found([source], Selection(**bounds))]

    assert sorted(await times()) == [("a", 100), ("a", 200), ("a", 300), ("b", 200)]
    assert [at for _, at in await times()] == [100, 200, 200, 300]
    assert await times(tenant_id="a") == [("a", 100), ("a", 200), ("a", 300)]
    assert await times(tenant_id="a", since_ms=200) == [("a", 200), ("a", 300)]
    assert await times(tenant_id="a", since_ms=200, until_ms=300) == [("a", 200)]
    assert await times(tenant_id="nobody") == []


async def test_named_sessions_are_found_alone(single: Deployment) -> None:
    """REPLAY-1: of named sessions the existing ones are found, once each."""
    one, _other = [await single.spoken(Story(SHORT)) for _ in range(2)]
    name = one.keys.session_id
    replayables = await found([LogSource(single.server)], Selection((name, "nobody", name)))
    assert [replayable.session_id for replayable in replayables] == [name]


async def test_many_sessions_are_found_once_each(single: Deployment) -> None:
    """REPLAY-1: a walk over more sessions than one look takes finds every one, however often the index names it."""
    sessions = [await single.open(Story(SHORT)) for _ in range(250)]
    keys = sessions[0].keys
    await single.server.execute("ZADD", keys.partition.index, 1, keys.run("another").member)
    replayables = await found([LogSource(single.server)])
    assert sorted(one.session_id for one in replayables) == sorted(one.keys.session_id for one in sessions)


async def test_another_source_has_what_the_log_lost(single: Deployment) -> None:
    """REPLAY-1: audio that the log hasn't whole is taken from the next source; what the log has stays the log's."""
    kept, trimmed = [await single.spoken(Story(talk())) for _ in range(2)]
    await single.server.execute("XTRIM", trimmed.keys.audio, "MINID", str(Position(1, 0)))
    log = LogSource(single.server)
    in_log = {one.session_id: one for one in await found([log])}
    gone = in_log[kept.keys.session_id].start
    gone = msgspec.structs.replace(gone, session_id="long-ago")
    elsewhere = Elsewhere(
        *(one._replace(source="elsewhere", code=Code.OK) for one in in_log.values()),
        Replayable("long-ago", "", 0, gone, 5, "elsewhere"),
    )
    sources = {one.session_id: (one.source, one.code) for one in await found([log, elsewhere])}
    assert sources == {
        kept.keys.session_id: ("", Code.OK), trimmed.keys.session_id: ("elsewhere", Code.OK),
        "long-ago": ("elsewhere", Code.OK),
    }  # fmt: skip
