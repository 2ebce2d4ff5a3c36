"""Checks a running deployment from outside, as a client would find it (STITCH-8)."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx2
import msgspec

from eventlog.keys import READ_MODELS
from stenolog.client.edge import bearer, http_url, refusal
from stenolog.client.websocket import Client, Message
from stenolog.errors import UserError
from stenolog.local.demo import RATE_HZ, blocks, recordings

REQUEST_TIMEOUT_S = 5.0
"""Every request is answered in milliseconds; an edge that takes longer fails the check."""

PROBE_TIMEOUT_S = 90.0
"""For three seconds of speech: also enough for a CPU that is busy, and for the client's tries to come back."""

SERVER_TIMEOUT_S = 20.0
"""Longer than a worker's lease: a takeover under way is no defect."""

MIN_WORDS_RIGHT = 0.5
"""Of the recording's words that must be in the transcript: the smallest model recognises nine of ten; noise, none."""

MOCK_ENGINE = "mock"  # its words have nothing to do with the speech


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    """What to do about a failure."""


class _Expected(NamedTuple):
    """A role that must be up, and how it is started."""

    role: str
    command: str


_EXPECTED = (
    _Expected("edge", "stenolog edge"),
    _Expected("worker", "stenolog worker"),
    *(_Expected(f"projection.{name}", f"stenolog projector {name}") for name in READ_MODELS),
)


class Doctor:
    """One examination; the checks come as they are made."""

    def __init__(self, url: str, token: str = "") -> None:
        """Of the deployment behind the edge at `url`; `token` needs the scopes ingest and read."""
        self._url = url
        self._token = token
        self._http = httpx2.AsyncClient(timeout=REQUEST_TIMEOUT_S, headers=bearer(token))
        self._session_id = ""

    async def examine(self) -> AsyncIterator[Check]:
        """Yield every check when it is made; a failure skips the checks that depend on it."""
        async with self._http:
            try:
                async for check in self._checks():
                    yield check
            except (httpx2.HTTPError, ValueError, LookupError) as error:
                detail = f"an answer failed: {_message(error)}"
                yield Check(name="answers", ok=False, detail=detail, remedy="see the edge's logs, and try again")

    async def _checks(self) -> AsyncIterator[Check]:
        found = await self._check_address()
        yield found
        if not found.ok:
            return
        yield await self._check_readiness()
        answer = await self._get("/v1/diagnostics")
        if (access := _check_access(answer)) is not None:
            yield access
            return
        diagnosis = answer.json()
        yield _check_redis(diagnosis)
        if (durable := diagnosis.get("durability")) is not None:  # an edge of an older version says nothing of it
            yield _check_durability(durable)
        roles = [_check_role(expected, diagnosis["processes"]) for expected in _EXPECTED]
        for role in roles:
            yield role
        if diagnosis["redis"] and all(role.ok for role in roles):
            yield await self._check_transcription(diagnosis["engine"])
            yield await self._check_deletion()
        else:
            yield Check(name="transcription", ok=False, detail="not tried", remedy="fix the failures above first")
        yield _check_errors((await self._get("/v1/diagnostics")).json())

    async def _get(self, path: str) -> httpx2.Response:
        return await self._http.get(http_url(self._url, path))

    async def _check_address(self) -> Check:
        started = time.perf_counter()
        remedy = "start one with `stenolog up`, or give its address with --url"
        try:
            answer = await self._get("/v1/health")
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            return Check(name="address", ok=False, detail=f"no answer: {_message(error)}", remedy=remedy)
        try:
            version = answer.json()["version"]
        except (ValueError, LookupError, TypeError):
            version = None
        if answer.status_code != httpx2.codes.OK or not version:
            detail = f"the server is no Stenolog edge (HTTP status {answer.status_code})"
            return Check(name="address", ok=False, detail=detail, remedy=remedy)
        took_ms = (time.perf_counter() - started) * 1000
        return Check(name="address", ok=True, detail=f"version {version}, answers in {took_ms:.0f} ms")

    async def _check_readiness(self) -> Check:
        body = (await self._get("/v1/ready")).json()
        if body["ready"]:
            facts = [f"{body['active_sessions']} sessions live", *body.get("warnings", ())]
            return Check(name="ready", ok=True, detail="; ".join(facts))
        reasons = "; ".join(body["reasons"])
        return Check(name="ready", ok=False, detail=reasons, remedy="see the checks below")

    async def _check_transcription(self, engine: str) -> Check:
        remedy = "look at the workers' and projections' logs for this session"
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                return await self._transcribe(engine)
        except UserError as error:
            return Check(name="transcription", ok=False, detail=str(error), remedy=remedy)
        except TimeoutError:
            detail = f"session {self._session_id} was not transcribed within {PROBE_TIMEOUT_S:g} s"
            return Check(name="transcription", ok=False, detail=detail, remedy=remedy)

    async def _transcribe(self, engine: str) -> Check:
        path = min(recordings(), key=lambda found: found.stat().st_size)
        finals = _FirstFinal()
        client = Client(
            self._url, sample_rate_hz=RATE_HZ, on_message=finals.take, server_timeout_s=SERVER_TIMEOUT_S,
            token=self._token,
        )  # fmt: skip
        try:
            end = await client.run(blocks([path]))
        finally:
            self._session_id = client.session_id
        words = str(end.get("transcript") or "").split()
        missing = None if engine == MOCK_ENGINE else missing_words(path.name, words)
        if not words or finals.latency_s is None or missing:
            detail = f"session {client.session_id} gave {len(words)} words" + (f"; {missing}" if missing else "")
            return Check(
                name="transcription", ok=False, detail=detail,
                remedy="look at the workers' logs, and at the engine and model that they are started with",
            )  # fmt: skip
        detail = f"{len(words)} words by engine {engine}, the first final after {finals.latency_s:.2f} s"
        return Check(name="transcription", ok=True, detail=detail)

    async def _check_deletion(self) -> Check:
        path = f"/v1/sessions/{self._session_id}"
        answer = await self._http.delete(http_url(self._url, path)) if self._session_id else None
        if answer is not None and answer.status_code in {httpx2.codes.NO_CONTENT, httpx2.codes.OK}:
            answer = await self._get(path)
            if answer.status_code == httpx2.codes.NOT_FOUND:
                return Check(name="deletion", ok=True, detail="the probe session is gone")
        detail = "no session was opened" if answer is None else f"HTTP status {answer.status_code}"
        return Check(
            name="deletion", ok=False, detail=f"the probe session could not be deleted: {detail}",
            remedy=f"DELETE {path}, with a token of scope ingest; or wait until it expires",
        )  # fmt: skip


class _FirstFinal:
    """Measures the time from the session's start to the first final."""

    def __init__(self) -> None:
        self.latency_s: float | None = None
        self._started = 0.0

    def take(self, message: Message) -> None:
        """Take one message."""
        if message["type"] == "session_start" and not self._started:
            self._started = time.perf_counter()
        elif message["type"] == "final" and self.latency_s is None:
            self.latency_s = time.perf_counter() - self._started


def _check_access(answer: httpx2.Response) -> Check | None:
    """The failed check if the edge refuses diagnostics, None if it does not."""
    match answer.status_code:
        case httpx2.codes.OK:
            return None
        case httpx2.codes.UNAUTHORIZED | httpx2.codes.FORBIDDEN:
            return Check(
                name="access", ok=False, detail=refusal(answer.status_code, answer.content).message,
                remedy="give a token with scopes ingest and read by --token; `stenolog token` mints one",
            )  # fmt: skip
        case status:
            return Check(
                name="access", ok=False, detail=f"/v1/diagnostics gave HTTP status {status}",
                remedy="see the edge's logs; is it of this version?",
            )  # fmt: skip


def _check_redis(diagnosis: dict[str, Any]) -> Check:
    if diagnosis["redis"]:
        return Check(name="redis", ok=True, detail=f"takes a write in {diagnosis['redis_write_ms']:.1f} ms")
    return Check(
        name="redis", ok=False, detail="takes no write",
        remedy="is it up, is REDIS_URL right, is its memory full, is it a replica? see the edge's logs",
    )  # fmt: skip


def _check_durability(durable: dict[str, Any]) -> Check:
    detail = "; ".join([durable["setting"], *durable["findings"]])
    return Check(
        name="durability", ok=durable["kept"], detail=detail,
        remedy="give Redis what the setting asks for, or set STENOLOG_DURABILITY to what it gives: docs/durability.md",
    )  # fmt: skip


def _is_up(role: str, report: dict[str, Any]) -> bool:
    return bool(report["role"] == role and report["alive"])


def _check_role(expected: _Expected, processes: list[dict[str, Any]]) -> Check:
    living = [one for one in processes if _is_up(expected.role, one)]
    name = expected.role.replace("projection.", "projection ")
    if living:
        return Check(name=name, ok=True, detail=f"{len(living)} up")
    ages = [one["age_s"] for one in processes if one["role"] == expected.role]
    detail = f"none up; the last heartbeat came {min(ages):.0f} s ago" if ages else "none up"
    return Check(name=name, ok=False, detail=detail, remedy=f"start one: `{expected.command}`")


def _check_errors(diagnosis: dict[str, Any]) -> Check:
    count = diagnosis["errors_5min"]
    if not count:
        return Check(name="errors", ok=True, detail="none logged by any role in the last 5 minutes")
    guilty = {one["name"] or one["role"] for one in diagnosis["processes"] if one["errors_5min"]}
    detail = f"{count} logged in the last 5 minutes by {', '.join(sorted(guilty))}"
    return Check(name="errors", ok=False, detail=detail, remedy='look for `"level":"error"` in their logs')


def missing_words(recording: str, words: list[str]) -> str | None:
    """How the transcript falls short of a recording's words, None if it doesn't."""
    spoken = _references().get(recording, "").split()
    found = {_bare(word) for word in words}
    right = sum(word in found for word in spoken)
    is_enough = right >= MIN_WORDS_RIGHT * len(spoken)
    return None if is_enough else f"{right} of the {len(spoken)} spoken words are among them"


def _references() -> dict[str, str]:
    table = recordings()[0].with_name("references.tsv")
    if not table.exists():
        raise UserError("the text of the bundled recording is not installed")
    lines = (line.split("\t") for line in table.read_text(encoding="utf-8").splitlines())
    return {fields[0]: fields[1] for fields in lines}


def _bare(word: str) -> str:
    return word.strip(".,;:!?\"'").lower()


def _message(error: Exception) -> str:
    return str(error) or type(error).__name__
