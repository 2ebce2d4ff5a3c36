"""What an ack promises: what Redis is asked for before a write counts as done, and whether it can give that.

`fast` and `safe` are the server's own affair (its append-only file synced once a second, or before every answer).
`wait:N` asks here: each round of calls ends with WAIT on its own connection, and what fewer than N replicas have isn't
told to anybody as done.

Why that is enough. A master's writes reach its replicas as one stream in one order, so a replica that has a write has
everything that the master wrote before it, whoever wrote it. WAIT asks for the last write *of its own connection*: a
round that wrote nothing would be told of replicas that lack what an earlier round wrote. So every answer that may end
in an ack comes from a call that wrote: an append that finds its entry there already writes the guard as it is.

Commits needn't wait. A commit that was lost leaves the audio that it was made of, for its trimming is part of it and of
the same stream, and from that audio the same utterances are decided again.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from redis.exceptions import NoPermissionError

from eventlog.log import LogUnavailableError
from eventlog.redis.server import Call, Server

_SETTING = re.compile("fast|safe|wait:[1-9]")  # nine replicas of one master are more than anybody has

PROBE_MS = 20
"""While too few replicas answer and nobody waits for them: a replica that is back is seen by this, and appends that
are acked without them are held up no longer than two flushes."""

Mode = Literal["fast", "safe", "wait"]

log = logging.getLogger(__name__)


class Durability(NamedTuple):
    """What is asked for."""

    mode: Mode = "fast"
    replicas: int = 0
    """That must have a write before it counts as done; 0 without `wait`."""
    timeout_ms: int = 1000
    """How long a round waits for them."""
    goes_on: bool = False
    """What too few replicas had counts as done nevertheless, and is told in metrics and logs."""

    def __str__(self) -> str:
        """As it is set."""
        return f"wait:{self.replicas}" if self.replicas else self.mode


FAST = Durability()


def durability(text: str, *, timeout_ms: int = 1000, on_shortfall: str = "block") -> Durability:
    """What the settings say.

    Raises:
        ValueError: if `text` says nothing of that kind.
    """
    if not _SETTING.fullmatch(text):
        raise ValueError(f"durability is fast, safe or wait:N (1 to 9), not {text!r}")
    mode, _, replicas = text.partition(":")
    return Durability(mode, int(replicas or 0), timeout_ms, on_shortfall == "degrade")  # type: ignore[arg-type] # the pattern's


class Round(NamedTuple):
    """Calls' answers, and which of them may be told as done."""

    answers: list[Any]
    confirmed: list[bool]


class Confirming:
    """Runs calls whose effects somebody is told of as done."""

    def __init__(self, server: Server, asked: Durability) -> None:
        """Run on `server`, and ask for what `asked` says."""
        self.asked = asked
        self.unconfirmed = 0
        """Calls so far that too few replicas had in time."""
        self.is_short = False
        """The last round had such a call."""
        self._server = server

    async def run(self, calls: Sequence[Call]) -> Round:
        """See `Server.run_many`."""
        asked = self.asked
        if not asked.replicas:
            answers = await self._server.run_many(calls)
            return Round(answers, [True] * len(answers))
        timeout_ms = PROBE_MS if asked.goes_on and self.is_short else asked.timeout_ms
        answers, replicas = await self._server.run_waiting(calls, asked.replicas, timeout_ms)
        short = [
            count < asked.replicas and not isinstance(answer, LogUnavailableError)
            for answer, count in zip(answers, replicas, strict=True)
        ]
        self._count(sum(short), min(replicas, default=0))
        return Round(answers, [asked.goes_on or not one for one in short])

    async def run_one(self, call: Call) -> Any:  # noqa: ANN401 - a script's answer has the script's own shape
        """The answer of a call that can be made again.

        Raises:
            LogUnavailableError: if nothing is known of its fate, or too few replicas have its effects.
        """
        [answer], [confirmed] = await self.run([call])
        if isinstance(answer, Exception):
            raise answer
        if not confirmed:
            raise LogUnavailableError("too few replicas have it")
        return answer

    def _count(self, short: int, least: int) -> None:
        self.unconfirmed += short
        if short and not self.is_short:
            then = "acked nevertheless" if self.asked.goes_on else "holding back"
            log.warning("too few replicas answer", extra={"wanted": self.asked.replicas, "least": least, "then": then})
        elif self.is_short and not short:
            log.info("enough replicas answer again", extra={"wanted": self.asked.replicas})
        self.is_short = bool(short)


class Finding(NamedTuple):
    """Where a server doesn't give what is asked for, or can't be asked."""

    node: str
    text: str
    remedy: str
    refused: bool = False
    """It never will as it is configured: a promise that can't be kept isn't made."""
    unseen: bool = False
    """It may give it all the same."""


async def examine(server: Server, asked: Durability) -> list[Finding]:
    """How the servers fall short of what is asked for; a node that is away is left out.

    Raises:
        LogUnavailableError: if none answers.
    """
    found: list[Finding] = []
    persistence = await server.each_master("INFO", "persistence")
    syncing = await server.each_master("CONFIG", "GET", "appendfsync") if asked.mode == "safe" else {}
    replication = await server.each_master("INFO", "replication") if asked.replicas else {}
    for node in persistence:
        found += _of_file(node, asked, persistence[node], syncing.get(node))
        found += _of_replicas(node, asked, replication.get(node))
    return found


def is_kept(asked: Durability, found: Iterable[Finding]) -> bool:
    """Whether what is asked for is given now, as far as it can be seen; `fast` is whatever the server does."""
    return asked.mode == "fast" or all(one.unseen for one in found)


def refusal(asked: Durability, found: Iterable[Finding]) -> str:
    """Why it can't be begun with that; empty if it can. What else was found is logged."""
    refused = ""
    for one in found:
        refused = refused or (f"durability {asked} is set, and {one.text} ({one.node}): {one.remedy}" * one.refused)
        log.warning("durability", extra={"finding": one.text, "node": one.node, "remedy": one.remedy})
    return refused


def _of_file(node: str, asked: Durability, info: Any, fsync: Any) -> list[Finding]:  # noqa: ANN401 - Redis's answers
    if not isinstance(info, Mapping):
        return []
    strict = asked.mode == "safe"
    if not int(info.get("aof_enabled", 0)):
        text = "Redis keeps no append-only file, so what it has is gone when it ends"
        return [Finding(node, text, "set appendonly yes", refused=strict)]
    if info.get("aof_last_write_status", "ok") != "ok":
        return [Finding(node, "Redis can't write its append-only file", "see its log")]
    return _of_syncing(node, fsync) if strict else []


def _of_syncing(node: str, fsync: Any) -> list[Finding]:  # noqa: ANN401 - Redis's answer
    if isinstance(fsync, NoPermissionError):
        text = "it can't be seen whether the append-only file is synced before every answer"
        return [Finding(node, text, "see to appendfsync always; the user may not CONFIG GET", unseen=True)]
    policy = _policy(fsync)
    if policy in {"", "always"}:
        return []
    text = f"the append-only file is synced by appendfsync {policy}"
    return [Finding(node, text, "set appendfsync always", refused=True)]


def _policy(answer: Any) -> str:  # noqa: ANN401 - a pair, a dictionary, or an exception
    value: bytes | str = ""
    if isinstance(answer, Mapping):
        value = next(iter(answer.values()), "")
    elif isinstance(answer, Sequence) and len(answer) > 1:
        value = answer[1]
    return value.decode() if isinstance(value, bytes) else value


def _of_replicas(node: str, asked: Durability, info: Any) -> list[Finding]:  # noqa: ANN401 - Redis's answer
    if not isinstance(info, Mapping):
        return []
    there = int(info.get("connected_slaves", 0))
    if there >= asked.replicas:
        return []
    then = "what they lack is acked nevertheless" if asked.goes_on else "nothing is acked until they are back"
    text = f"{there} of {asked.replicas} replicas are connected: {then}"
    return [Finding(node, text, "start replicas, or ask for fewer")]
