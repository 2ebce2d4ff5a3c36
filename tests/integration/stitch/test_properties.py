"""STITCH-7: properties of every transcript, however clients speak, drop, stop or leave, on a real Redis."""

import asyncio
import re
import uuid

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from eventlog.readmodel.documents import encode_final
from eventlog.readmodel.views import read_document
from tests.integration.stitch.path import TTL_S, Held, Path, bounded
from tests.integration.stitch.speakers import RATE_HZ, TALKATIVE, Speaker, speakers
from tests.support.waiting import eventually_async


async def held(path: Path, crowd: list[Speaker]) -> list[Held]:
    """All these sessions at once, spread over the replicas."""
    return await asyncio.gather(*(path.hold(speaker, first) for first, speaker in enumerate(crowd)))


seen_ids: set[str] = set()


@given(places=st.lists(st.integers(0, 1), min_size=1, max_size=8), speaker=st.just(TALKATIVE[1]))
@bounded
async def test_ids_are_unique_and_sent_first(path: Path, places: list[int], speaker: Speaker) -> None:
    """STITCH-1, STITCH-7: any connection's first message is its id, a UUID v4 no other has but its own resumptions."""
    sessions = await asyncio.gather(path.hold(speaker, places[0]), *(path.hold(EMPTY, place) for place in places))
    for session in sessions:
        assert {message["type"] for message in session.first_messages} == {"session_start"}
        [session_id] = {message["session_id"] for message in session.first_messages}
        assert str(uuid.UUID(session_id)) == session_id
        assert uuid.UUID(session_id).version == 4
        assert session_id not in seen_ids
        seen_ids.add(session_id)
    assert len(sessions[0].first_messages) == 2


EMPTY = Speaker(0, 1, (), stops=True)


@given(crowd=speakers())
@example(crowd=TALKATIVE)
@bounded
async def test_every_final_is_in_list_and_feed(path: Path, crowd: list[Speaker]) -> None:
    """STITCH-2, STITCH-3, STITCH-7: List and feed hold each final that the audio gives, once each and in order."""
    for session in await held(path, crowd):
        in_feed = [event for event in await path.feed(session) if event["type"] == "final"]
        assert await path.listed(session) == session.owed
        assert in_feed == [msgspec.json.decode(encode_final(final)) for final in session.owed]
        if session.end is not None:
            assert session.received == in_feed


@given(crowd=speakers())
@example(crowd=TALKATIVE)
@example(crowd=[EMPTY, EMPTY._replace(stops=False)])
@bounded
async def test_stitching_is_joining_the_finals(path: Path, crowd: list[Speaker]) -> None:
    """STITCH-4, STITCH-6, STITCH-7: stopped or left, document and client have the finals joined, or nothing of none."""
    for session in await held(path, crowd):
        joined = " ".join(final.text for final in session.owed)
        document = await read_document(path.server, session.run)
        assert document is not None
        assert (document.transcript, document.utterances) == (joined, session.owed)
        assert document.reason == ("idle" if session.end is None else "stop")
        if session.end is not None:
            assert session.end["transcript"] == joined


@given(word=st.text(st.characters(categories=["L", "N"]), min_size=1))
@bounded
async def test_stitching_reads_the_list(path: Path, word: str) -> None:
    """STITCH-4: the transcript is made of the List, so a correction made there before the end is in it."""

    async def corrected(session: Held) -> None:
        await eventually_async(lambda: path.listed(session))
        [first, *_] = await path.listed(session)
        better = msgspec.structs.replace(first, text=word)
        await path.server.execute("LSET", session.run.list, 0, encode_final(better))

    session = await path.hold(TALKATIVE[0], said=corrected)
    assert session.end is not None
    assert session.end["transcript"].startswith(word + " ")


@given(crowd=speakers(least=2, most=5))
@example(crowd=[speaker._replace(seed=2 * number + speaker.seed) for number in range(3) for speaker in TALKATIVE])
@bounded
async def test_sessions_never_mix(path: Path, crowd: list[Speaker]) -> None:
    """STITCH-7: however many speak at once in one partition, each gets the words of its own audio alone."""
    sessions = await held(path, crowd)
    for session in sessions:
        document = await read_document(path.server, session.run)
        assert document is not None
        assert document.session_id == session.keys.session_id
        assert document.utterances == session.owed
        assert document.audio_seconds == len(session.samples) / RATE_HZ
    said = [final.text for session in sessions for final in session.owed if final.text.count(" ") > 2]
    assert len(said) == len(set(said))


NAMES = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# One script, so that no key comes or expires between the names and their times.
EXPIRIES = """
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  found[#found + 1] = key
  found[#found + 1] = redis.call('PTTL', key)
end
return found
"""


async def expiries(path: Path) -> dict[str, int]:
    """Every key that is named after a session, and the milliseconds that it has left."""
    flat = await path.server.execute("EVAL", EXPIRIES, 0)
    found = zip(map(bytes.decode, flat[::2]), flat[1::2], strict=True)
    return {name: left_ms for name, left_ms in found if NAMES.search(name)}


@given(crowd=speakers())
@example(crowd=TALKATIVE)
@bounded
async def test_every_key_of_a_session_expires_at_every_moment(path: Path, crowd: list[Speaker]) -> None:
    """STITCH-5, STITCH-7: whenever one looks, each key named after a session has a TTL, refreshed by what happens."""
    looks: list[dict[str, int]] = []

    async def look_on() -> None:
        while True:
            looks.append(await expiries(path))

    async def nearly_forgotten(session: Held) -> None:
        for name in await expiries(path):
            if session.keys.session_id in name:
                await path.server.execute("EXPIRE", name, TTL_S // 10)

    looking = asyncio.create_task(look_on())
    sessions = await asyncio.gather(*(path.hold(speaker, said=nearly_forgotten) for speaker in crowd))
    for session in sessions:
        await eventually_async(lambda session=session: refreshed(path, session))  # type: ignore[misc]
    looking.cancel()
    assert [name for look in looks for name, left_ms in look.items() if not 0 < left_ms <= TTL_S * 1000] == []


async def refreshed(path: Path, session: Held) -> bool:
    """Whether all keys of a session, which are several, have been given their full time again."""
    left = [left_ms for name, left_ms in (await expiries(path)).items() if session.keys.session_id in name]
    return len(left) > 5 and min(left) > TTL_S * 100
