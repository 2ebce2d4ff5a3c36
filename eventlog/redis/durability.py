"""What an ack promises: what Redis is asked for before a write counts as done, and whether it can give that.

`fast` and `safe` are the server's own affair (its append-only file synced once a second, or before every answer).
`wait:N` asks here: each round of calls ends with WAIT on its own connection, and a write that fewer than N replicas
have is reported to no client as done.

Why that is enough. A master's writes reach its replicas as one stream in one order, so a replica that has a write has
everything that the master wrote before it, from any client. WAIT asks for the last write *of its own connection*: for a
round that wrote nothing it would count replicas that lack what an earlier round wrote. So every answer that may end in
an ack comes from a call that wrote: an append whose entry exists already writes the guard unchanged.

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

_SETTING = re.compile("fast|safe|wait:[1-9]")  # nine replicas of one master are more than any deployment has

PROBE_MS = 20
"""Timeout while too few replicas answer and writes count without them: enough to see that a replica is back, and it
holds up such appends no longer than two flushes."""

Mode = Literal["fast", "safe", "wait"]

_log = logging.getLogger(__name__)


class Durability(NamedTuple):
    """The durability that is asked for."""

    mode: Mode = "fast"
    replicas: int = 0
    """That must have a write before it counts as done; 0 without `wait`."""
    timeout_ms: int = 1000
    """How long a round waits for them."""
    may_degrade: bool = False
    """Whether a write counts as done on a shortfall too, which metrics and logs report."""

    def __str__(self) -> str:
        """The setting's own text."""
        return f"wait:{self.replicas}" if self.replicas else self.mode


FAST = Durability()


def parse_durability(text: str, *, timeout_ms: int = 1000, on_shortfall: str = "block") -> Durability:
    """Return the durability that the settings ask for.

    Raises:
        ValueError: if `text` names none.
    """
    if not _SETTING.fullmatch(text):
        raise ValueError(f"durability is fast, safe or wait:N (1 to 9), not {text!r}")
    mode, _, replicas = text.partition(":")
    return Durability(mode, int(replicas or 0), timeout_ms, on_shortfall == "degrade")  # type: ignore[arg-type] # the pattern's


class DurableAnswers(NamedTuple):
    """Calls' answers, and which of the calls count as done."""

    answers: list[Any]
    confirmed: list[bool]


class DurableCalls:
    """Runs the calls that a client gets acks for."""

    def __init__(self, server: Server, durability: Durability) -> None:
        """Run on `server`, and ask for `durability`."""
        self.durability = durability
        self.unconfirmed = 0
        """Calls so far that too few replicas had in time."""
        self.is_short = False
        """Whether the last round had such a call."""
        self._server = server

    async def run(self, calls: Sequence[Call]) -> DurableAnswers:
        """See `Server.run_waiting`."""
        wanted = self.durability
        timeout_ms = PROBE_MS if wanted.may_degrade and self.is_short else wanted.timeout_ms
        answers, counts = await self._server.run_waiting(calls, wanted.replicas, timeout_ms)
        if not wanted.replicas:
            return DurableAnswers(answers, [True] * len(answers))
        short = [
            count < wanted.replicas and not isinstance(answer, Exception)
            for answer, count in zip(answers, counts, strict=True)
        ]
        self._record(sum(short), min(counts, default=0))
        return DurableAnswers(answers, [wanted.may_degrade or not one for one in short])

    async def run_one(self, call: Call) -> Any:  # noqa: ANN401 - a script's answer has the script's own shape
        """Return the answer of a call that can be made again.

        Raises:
            LogUnavailableError: if nothing is known of its fate, or too few replicas have its effects.
        """
        [answer], [confirmed] = await self.run([call])
        if isinstance(answer, Exception):
            raise answer
        if not confirmed:
            raise LogUnavailableError("too few replicas have it")
        return answer

    def _record(self, short: int, least: int) -> None:
        self.unconfirmed += short
        if short and not self.is_short:
            action = "acking without them" if self.durability.may_degrade else "blocking acks"
            _log.warning(
                "too few replicas answered", extra={"wanted": self.durability.replicas, "least": least, "then": action}
            )
        elif self.is_short and not short:
            _log.info("enough replicas answered again", extra={"wanted": self.durability.replicas})
        self.is_short = bool(short)


class Finding(NamedTuple):
    """A way in which a server falls short of the durability, or can't be asked."""

    node: str
    text: str
    remedy: str
    is_fatal: bool = False
    """With its configuration it never gives it: a promise that can't be kept isn't made."""
    is_unverified: bool = False
    """It may give it all the same."""


async def check_durability(server: Server, durability: Durability) -> list[Finding]:
    """Return how the servers fall short of `durability`; an unreachable node is left out.

    Raises:
        LogUnavailableError: if none answers.
    """
    found: list[Finding] = []
    persistence = await server.each_master("INFO", "persistence")
    syncing = await server.each_master("CONFIG", "GET", "appendfsync") if durability.mode == "safe" else {}
    replication = await server.each_master("INFO", "replication") if durability.replicas else {}
    for node in persistence:
        found += _check_file(node, durability, persistence[node], syncing.get(node))
        found += _check_replicas(node, durability, replication.get(node))
    return found


def is_met(durability: Durability, findings: Iterable[Finding]) -> bool:
    """Whether the servers give `durability` now, as far as that can be verified; `fast` asks for nothing."""
    return durability.mode == "fast" or all(one.is_unverified for one in findings)


def find_fatal(durability: Durability, findings: Iterable[Finding]) -> str:
    """Return why a process can't start with `durability`; empty if it can. Log every finding."""
    fatal = ""
    for one in findings:
        fatal = fatal or (f"durability {durability} is set, and {one.text} ({one.node}): {one.remedy}" * one.is_fatal)
        _log.warning("durability not met", extra={"finding": one.text, "node": one.node, "remedy": one.remedy})
    return fatal


def _check_file(node: str, durability: Durability, info: Any, fsync: Any) -> list[Finding]:  # noqa: ANN401 - Redis's answers
    if not isinstance(info, Mapping):
        return []
    is_strict = durability.mode == "safe"
    if not int(info.get("aof_enabled", 0)):
        text = "Redis keeps no append-only file, so what it has is gone when it ends"
        return [Finding(node, text, "set appendonly yes", is_fatal=is_strict)]
    if info.get("aof_last_write_status", "ok") != "ok":
        return [Finding(node, "Redis can't write its append-only file", "see its log")]
    return _check_syncing(node, fsync) if is_strict else []


def _check_syncing(node: str, fsync: Any) -> list[Finding]:  # noqa: ANN401 - Redis's answer
    if isinstance(fsync, NoPermissionError):
        text = "it can't be seen whether the append-only file is synced before every answer"
        return [Finding(node, text, "see to appendfsync always; the user may not CONFIG GET", is_unverified=True)]
    policy = _policy(fsync)
    if policy in {"", "always"}:
        return []
    text = f"the append-only file is synced by appendfsync {policy}"
    return [Finding(node, text, "set appendfsync always", is_fatal=True)]


def _policy(answer: Any) -> str:  # noqa: ANN401 - a pair, a dictionary, or an exception
    value: bytes | str = ""
    if isinstance(answer, Mapping):
        value = next(iter(answer.values()), "")
    elif isinstance(answer, Sequence) and len(answer) > 1:
        value = answer[1]
    return value.decode() if isinstance(value, bytes) else value


def _check_replicas(node: str, durability: Durability, info: Any) -> list[Finding]:  # noqa: ANN401 - Redis's answer
    if not isinstance(info, Mapping):
        return []
    connected = int(info.get("connected_slaves", 0))
    if connected >= durability.replicas:
        return []
    then = "what they lack is acked nevertheless" if durability.may_degrade else "nothing is acked until they are back"
    text = f"{connected} of {durability.replicas} replicas are connected: {then}"
    return [Finding(node, text, "start replicas, or ask for fewer")]
