"""Shared recognition on the log's side: utterances that are offered to any worker, who takes them, and the results.

An utterance is offered by reference: where it lies in a session's audio. An entry that is pending is somebody's work;
one whose taker fell silent for a lease is taken by another, twice at most. One that is gone without a result is its
run's holder's own to recognise. Whatever happens twice does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import ResponseError

from eventlog import keys as keys_module
from eventlog.keys import RunKeys
from eventlog.log import LogUnavailableError
from eventlog.redis.scripts import script
from eventlog.redis.server import Argument, Call, Server

RECOGNISERS = "recogniser"
"""The consumer group of every ``recognise`` stream; the Lua side names it too."""

OFFERED_MOST = 4096
"""Entries of one stream: 1 MB, and more than a hundred cores recognise in a minute. Beyond it holders keep theirs."""

OFFERED_TTL_S = 3600
"""Life of the stream after the last offer; what is in it then was offered by runs that are long over."""

KEPT_TTL_S = 600
"""Life of results after the last one of a run: long after the next holder has taken a dead one's place."""

DELIVERIES_MOST = 2
"""Takers that may fall silent over one utterance: one may be chance. Its holder is the next to try."""

LOOK_NOTED_MS = 1_000
"""Who looks for work is noted this often at most, however often it looks."""

SILENT_MS = 5_000
"""Who has not looked for so long is busy, or gone: nothing is offered for it."""

FORGOTTEN_MS = 600_000
"""A consumer that holds nothing is forgotten after so long; one that comes back is made again."""

_boundaries = msgspec.json.Decoder(tuple[int, ...])


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """Where an utterance lies, and what a recogniser must know of it beside the samples."""

    channel: int
    channels: int
    """In the session's audio."""
    start_samples: int
    end_samples: int
    sample_rate_hz: int
    language: str
    voiced_ms: int

    @property
    def name(self) -> str:
        """Which one of its run it is."""
        return f"{self.channel}:{self.start_samples}-{self.end_samples}"

    def is_behind(self, boundaries: Sequence[int]) -> bool:
        """Whether a checkpoint with these boundaries has passed it."""
        return self.channel < len(boundaries) and boundaries[self.channel] >= self.end_samples


class Taken(NamedTuple):
    """An utterance that this worker is to recognise."""

    entry_id: str
    keys: RunKeys
    reference: Reference


class Fetched(NamedTuple):
    """What there is of the audio of utterances that were taken.

    Attributes:
        pcm: Mono samples by entry id.
        stale: Ids of those that nobody needs any more: committed, recognised, of a run that is over, or without audio.
            What is in neither could not be asked for now.
    """

    pcm: dict[str, bytes]
    stale: list[str]


_reference = msgspec.json.Decoder(Reference)


class SharedRecognition:
    """One worker's dealings with utterances that are shared; every method may raise `LogUnavailableError`."""

    def __init__(self, server: Server, engine: str, consumer: str, *, lease_ms: int) -> None:
        """Act as `consumer` among the workers with `engine`; a taker silent for `lease_ms` loses what it took."""
        self._server = server
        self._stream = keys_module.recognise(engine)
        self._recognisers = keys_module.recognisers(engine)
        self.bell = keys_module.recognise_bell(engine)
        """Sharded channel, rung when something is offered."""
        self._consumer = consumer
        self.lease_ms = lease_ms

    async def offer(self, offers: Sequence[tuple[RunKeys, Reference]]) -> list[str]:
        """Offer utterances to the others, in order; ids of those that are, the first so many.

        None if nobody else has looked for work lately, and fewer if the stream is full.
        """
        utterances: list[Argument] = []
        for keys, reference in offers:
            utterances += (keys.member, msgspec.json.encode(reference))
        found = await self._server.run(
            script("offer_utterances"),
            [self._stream, self._recognisers, self.bell],
            [self._consumer, SILENT_MS, OFFERED_MOST, OFFERED_TTL_S, *utterances],
        )
        return [entry_id.decode() for entry_id in found]

    async def take(self, room: int) -> list[Taken]:
        """At most `room` utterances that nobody works on, in the order offered; theirs first whose takers fell silent.

        Asking says that this worker has nothing better to do, so that others offer.
        """
        found = await self._server.run(
            script("take_utterances"),
            [self._stream, self._recognisers],
            [self._consumer, room, self.lease_ms, DELIVERIES_MOST, LOOK_NOTED_MS, FORGOTTEN_MS, OFFERED_TTL_S],
        )
        taken, unknown = [], []
        for entry_id, member, data in found:
            try:
                reference = _reference.decode(data)
                taken.append(Taken(entry_id.decode(), self._server.keys.of_run(member.decode()), reference))
            except msgspec.DecodeError:  # of another version, whose own workers know better
                unknown.append(entry_id.decode())
        await self.settle(unknown)
        return taken

    async def fetch(self, taken: Sequence[Taken]) -> Fetched:
        """The audio of what was taken, each from the chunks that hold it."""
        commands: list[tuple[Argument, ...]] = []
        for one in taken:
            audio, reference = one.keys.session.audio, one.reference
            commands += (
                ("HMGET", one.keys.checkpoint, "done", "boundaries"),
                ("HEXISTS", one.keys.recognised, reference.name),
                # An entry's id is where it ends: the last one needed is the first past the end.
                ("XRANGE", audio, reference.start_samples + 1, reference.end_samples),
                ("XRANGE", audio, reference.end_samples + 1, "+", "COUNT", 1),
            )
        answers = await self._server.execute_many(commands)
        fetched = Fetched({}, [])
        for one, at in zip(taken, range(0, len(answers), 4), strict=True):
            state, recognised, within, last = part = answers[at : at + 4]
            if any(isinstance(answer, LogUnavailableError) for answer in part):
                continue
            for answer in part:
                if isinstance(answer, Exception):
                    raise answer
            pcm = None if recognised or _is_past(one.reference, *state) else _cut(one.reference, [*within, *last])
            if pcm is None:
                fetched.stale.append(one.entry_id)
            else:
                fetched.pcm[one.entry_id] = pcm
        return fetched

    async def keep(self, results: Mapping[RunKeys, Sequence[tuple[Reference, bytes]]]) -> list[RunKeys]:
        """Leave results for the runs' holders; those runs for which it isn't known whether that went well.

        Nothing is left for a run that has ended, or whose session is gone.
        """
        calls = [
            Call(
                script("keep_recognitions"),
                [keys.session.session, keys.transcript, keys.checkpoint, keys.recognised],
                [KEPT_TTL_S, *(part for reference, data in found for part in (reference.name, data))],
            )
            for keys, found in results.items()
        ]
        answers = await self._server.run_many(calls)
        return [
            keys for keys, answer in zip(results, answers, strict=True) if isinstance(answer, LogUnavailableError)
        ]

    async def kept(self, wanted: Mapping[RunKeys, Sequence[str]]) -> dict[RunKeys, dict[str, bytes]]:
        """The results that are there among those named; all of a run's if none is named."""
        commands: list[tuple[Argument, ...]] = [
            ("HMGET", keys.recognised, *names) if names else ("HGETALL", keys.recognised)
            for keys, names in wanted.items()
        ]
        found: dict[RunKeys, dict[str, bytes]] = {}
        for (keys, names), answer in zip(wanted.items(), await self._server.execute_many(commands), strict=True):
            if isinstance(answer, LogUnavailableError):
                continue
            if isinstance(answer, Exception):
                raise answer
            pairs = zip(names, answer, strict=True) if names else _pairs(answer)
            found[keys] = {name: data for name, data in pairs if data is not None}
        return found

    async def drop(self, done: Mapping[RunKeys, Sequence[str]]) -> None:
        """Forget results that were taken; all of a run's if none is named."""
        await self._server.execute_many([
            ("HDEL", keys.recognised, *names) if names else ("UNLINK", keys.recognised)
            for keys, names in done.items()
        ])  # fmt: skip

    async def settle(self, entry_ids: Sequence[str]) -> None:
        """Take entries off the stream: what they asked for is done, or nobody needs it."""
        if entry_ids:
            await self._server.execute_many(
                [("XACK", self._stream, RECOGNISERS, *entry_ids), ("XDEL", self._stream, *entry_ids)]
            )

    async def renew(self, entry_ids: Sequence[str]) -> None:
        """Say that this worker is still at them."""
        if entry_ids:
            await self._claim(0, entry_ids)

    async def release(self, entry_ids: Sequence[str]) -> None:
        """Let another take them at once."""
        if entry_ids:
            await self._claim(self.lease_ms, entry_ids)

    async def missing(self, entry_ids: Sequence[str]) -> list[str]:
        """Those that are not on the stream any more: done by now, or given up."""
        commands = [("XRANGE", self._stream, entry_id, entry_id) for entry_id in entry_ids]
        answers = await self._server.execute_many(commands)
        return [entry_id for entry_id, answer in zip(entry_ids, answers, strict=True) if answer == []]

    async def _claim(self, idle_ms: int, entry_ids: Iterable[str]) -> None:
        """Set how long ago this worker gave a sign of life; entries that were settled meanwhile stay so."""
        try:
            await self._server.execute(
                "XCLAIM", self._stream, RECOGNISERS, self._consumer, 0, *entry_ids, "IDLE", idle_ms, "JUSTID"
            )
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            # The stream is gone, with a Redis that lost its data perhaps: nobody waits for these any more.


def _is_past(reference: Reference, done: bytes | None, boundaries: bytes | None) -> bool:
    """Whether a run's checkpoint, by two of its fields, has no need of an utterance any more."""
    return done is not None or reference.is_behind(_boundaries.decode(boundaries) if boundaries else ())


def _cut(reference: Reference, entries: Sequence[Any]) -> bytes | None:
    """An utterance's samples out of the chunks that hold them; None if any is missing."""
    frame_bytes = 2 * reference.channels
    at, parts = reference.start_samples, list[memoryview]()
    for entry_id, fields in entries:
        if fields[0] != b"pcm":
            continue
        end = int(entry_id.partition(b"-")[0])
        start = end - len(fields[1]) // frame_bytes
        upto = min(end, reference.end_samples)
        if start > at:
            return None
        if upto > at:
            parts.append(memoryview(fields[1])[(at - start) * frame_bytes : (upto - start) * frame_bytes])
            at = upto
    if at < reference.end_samples:
        return None
    samples = b"".join(parts)
    if reference.channels == 1:
        return samples
    return bytes(memoryview(samples).cast("h")[reference.channel :: reference.channels])


def _pairs(answer: Any) -> list[tuple[str, bytes]]:  # noqa: ANN401 -- a hash as this protocol has it
    items = answer.items() if isinstance(answer, dict) else zip(answer[::2], answer[1::2], strict=True)
    return [(name.decode(), data) for name, data in items]
