"""Shared recognition on the log's side: utterances offered to all workers, the workers that take them, the results.

An utterance is offered by reference: where it lies in a session's audio. A pending entry is one worker's work; one
whose taker fell silent for a lease is taken by another, twice at most. The run's holder itself recognises an utterance
whose entry is gone without a result. Doing any step twice does no harm.
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

MAX_OFFERED = 4096
"""Entries of one stream: 1 MB, or 12 MB if all have the longest terms and prompts, and more than a hundred cores
recognise in a minute. Beyond it holders keep theirs."""

OFFERED_TTL_S = 3600
"""Life of the stream after the last offer; its entries then are of runs that are long over."""

RESULTS_TTL_S = 600
"""Life of results after the last one of a run: long after the next holder has taken a dead one's place."""

MAX_DELIVERIES = 2
"""Takers that may fall silent over one utterance: one may be chance. Its holder is the next to try."""

POLL_RECORDED_MS = 1_000
"""A worker's polls for work are recorded this often at most, however often it polls."""

SILENT_MS = 5_000
"""A worker that has not polled for so long is busy, or gone: nothing is offered for it."""

IDLE_CONSUMER_MS = 600_000
"""A consumer that holds nothing is deleted after so long; one that comes back is made again."""

_boundaries = msgspec.json.Decoder(tuple[int, ...])


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """Where an utterance lies, and what its recogniser needs beside the samples."""

    channel: int
    channels: int
    """In the session's audio."""
    start_samples: int
    end_samples: int
    sample_rate_hz: int
    language: str
    voiced_ms: int
    model: str = ""
    terms: tuple[str, ...] = ()
    prompt: str = ""

    @property
    def name(self) -> str:
        """Its name, unique within its run."""
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
    """The audio of utterances that were taken.

    Attributes:
        pcm: Mono samples by entry id.
        stale: Ids of those that no run needs any more: committed, recognised, of a run that is over, or without audio.
            Ids in neither could not be read now.
    """

    pcm: dict[str, bytes]
    stale: list[str]


_reference = msgspec.json.Decoder(Reference)


class SharedRecognition:
    """One worker's access to shared utterances; every method may raise `LogUnavailableError`."""

    def __init__(self, server: Server, engine: str, consumer: str, *, lease_ms: int) -> None:
        """Act as `consumer` among the workers with `engine`; a taker silent for `lease_ms` loses what it took."""
        self._server = server
        self._stream = keys_module.shared_utterances(engine)
        self._recognisers = keys_module.recognisers(engine)
        self.wakeup = keys_module.recognise_wakeup(engine)
        """Sharded channel with a message for each offer."""
        self._consumer = consumer
        self.lease_ms = lease_ms

    async def offer(self, offers: Sequence[tuple[RunKeys, Reference]]) -> list[str]:
        """Offer utterances to the other workers, in order; return the ids of those offered, the first so many.

        No ids if no other worker has polled for work lately, and fewer if the stream is full.
        """
        utterances: list[Argument] = []
        for keys, reference in offers:
            utterances += (keys.member, msgspec.json.encode(reference))
        found = await self._server.run(
            script("offer_utterances"),
            [self._stream, self._recognisers, self.wakeup],
            [self._consumer, SILENT_MS, MAX_OFFERED, OFFERED_TTL_S, *utterances],
        )
        return [entry_id.decode() for entry_id in found]

    async def take(self, room: int) -> list[Taken]:
        """Take at most `room` utterances, in the order offered; those whose takers fell silent come first.

        A call records that this worker is idle, so that others offer.
        """
        found = await self._server.run(
            script("take_utterances"),
            [self._stream, self._recognisers],
            [self._consumer, room, self.lease_ms, MAX_DELIVERIES, POLL_RECORDED_MS, IDLE_CONSUMER_MS, OFFERED_TTL_S],
        )
        taken, unknown = [], []
        for entry_id, member, data in found:
            try:
                reference = _reference.decode(data)
                taken.append(Taken(entry_id.decode(), self._server.keys.of_run(member.decode()), reference))
            except msgspec.DecodeError:  # of another version, whose own workers know better
                unknown.append(entry_id.decode())
        await self.remove(unknown)
        return taken

    async def read_audio(self, taken: Sequence[Taken]) -> Fetched:
        """Return the audio of taken utterances, each from the chunks that hold it."""
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

    async def store_results(self, results: Mapping[RunKeys, Sequence[tuple[Reference, bytes]]]) -> list[RunKeys]:
        """Store results for the runs' holders; return the runs for which the call's fate is unknown.

        Nothing is stored for a run that has ended, or whose session is gone.
        """
        calls = [
            Call(
                script("store_recognitions"),
                [keys.session.session, keys.transcript, keys.checkpoint, keys.recognised],
                [RESULTS_TTL_S, *(part for reference, data in found for part in (reference.name, data))],
            )
            for keys, found in results.items()
        ]
        answers = await self._server.run_many(calls)
        return [
            keys for keys, answer in zip(results, answers, strict=True) if isinstance(answer, LogUnavailableError)
        ]

    async def read_results(self, wanted: Mapping[RunKeys, Sequence[str]]) -> dict[RunKeys, dict[str, bytes]]:
        """Return the stored results among those named; all of a run's if none is named."""
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

    async def delete_results(self, done: Mapping[RunKeys, Sequence[str]]) -> None:
        """Delete results that were read; all of a run's if none is named."""
        await self._server.execute_many([
            ("HDEL", keys.recognised, *names) if names else ("UNLINK", keys.recognised)
            for keys, names in done.items()
        ])  # fmt: skip

    async def remove(self, entry_ids: Sequence[str]) -> None:
        """Remove entries from the stream: their utterances are recognised, or no run needs them."""
        if entry_ids:
            await self._server.execute_many(
                [("XACK", self._stream, RECOGNISERS, *entry_ids), ("XDEL", self._stream, *entry_ids)]
            )

    async def renew(self, entry_ids: Sequence[str]) -> None:
        """Record that this worker still recognises them."""
        if entry_ids:
            await self._claim(0, entry_ids)

    async def release(self, entry_ids: Sequence[str]) -> None:
        """Let another worker take them at once."""
        if entry_ids:
            await self._claim(self.lease_ms, entry_ids)

    async def find_removed(self, entry_ids: Sequence[str]) -> list[str]:
        """Return the entries that are not on the stream any more: done by now, or given up."""
        commands = [("XRANGE", self._stream, entry_id, entry_id) for entry_id in entry_ids]
        answers = await self._server.execute_many(commands)
        return [entry_id for entry_id, answer in zip(entry_ids, answers, strict=True) if answer == []]

    async def _claim(self, idle_ms: int, entry_ids: Iterable[str]) -> None:
        """Set how long ago this worker was active; entries that were removed meanwhile stay removed."""
        try:
            await self._server.execute(
                "XCLAIM", self._stream, RECOGNISERS, self._consumer, 0, *entry_ids, "IDLE", idle_ms, "JUSTID"
            )
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            # The stream is gone, with a Redis that lost its data perhaps: no run waits for these any more.


def _is_past(reference: Reference, done: bytes | None, boundaries: bytes | None) -> bool:
    """Whether a run's checkpoint, by two of its fields, has passed an utterance."""
    return done is not None or reference.is_behind(_boundaries.decode(boundaries) if boundaries else ())


def _cut(reference: Reference, entries: Sequence[Any]) -> bytes | None:
    """Return an utterance's samples from the chunks that hold them; None if any is missing."""
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


def _pairs(answer: Any) -> list[tuple[str, bytes]]:  # noqa: ANN401 - a hash in either protocol version's form
    items = answer.items() if isinstance(answer, dict) else zip(answer[::2], answer[1::2], strict=True)
    return [(name.decode(), data) for name, data in items]
