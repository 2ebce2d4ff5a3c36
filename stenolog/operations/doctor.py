"""Checks a running deployment from outside, as a client would find it (STITCH-8)."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx2
import msgspec

from eventlog.keys import READ_MODELS
from stenolog.client.wav import Recording, WavError
from stenolog.client.websocket import Client, ClientError, Message, http_url
from stenolog.local.demo import blocks, recordings

REQUEST_TIMEOUT_S = 5.0
"""Every request is answered in milliseconds; an edge that takes longer is found to be ill."""

PROBE_TIMEOUT_S = 90.0
"""For three seconds of speech: also enough for a CPU that is busy, and for the client's tries to come back."""

PATIENCE_S = 20.0
"""Longer than a worker's lease: a takeover under way is no defect."""

WORDS_RIGHT = 0.5
"""Of the recording's words that must be in the transcript: the smallest model hears nine of ten; noise, none."""

MOCK_ENGINE = "mock"  # its words have nothing to do with what was said


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What one look found."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    """What to do about it, if it isn't well."""


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
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx2.AsyncClient(timeout=REQUEST_TIMEOUT_S, headers=headers)
        self._session_id = ""

    async def examine(self) -> AsyncIterator[Check]:
        """Every check, each as soon as it is made; what can't be made after a failure is left out."""
        async with self._http:
            try:
                async for check in self._checks():
                    yield check
            except (httpx2.HTTPError, ValueError, LookupError) as error:
                detail = f"an answer failed: {_said(error)}"
                yield Check(name="answers", ok=False, detail=detail, remedy="see the edge's logs, and try again")

    async def _checks(self) -> AsyncIterator[Check]:
        found = await self._address()
        yield found
        if not found.ok:
            return
        yield await self._ready()
        answer = await self._get("/v1/diagnostics")
        if (access := _access(answer)) is not None:
            yield access
            return
        diagnosis = answer.json()
        yield _redis(diagnosis)
        if (durable := diagnosis.get("durability")) is not None:  # an edge of an older version says nothing of it
            yield _durability(durable)
        roles = [_role(expected, diagnosis["processes"]) for expected in _EXPECTED]
        for role in roles:
            yield role
        if diagnosis["redis"] and all(role.ok for role in roles):
            yield await self._probe(diagnosis["engine"])
            yield await self._erased()
        else:
            yield Check(name="transcription", ok=False, detail="not tried", remedy="mend what is named above first")
        yield _errors((await self._get("/v1/diagnostics")).json())

    async def _get(self, path: str) -> httpx2.Response:
        return await self._http.get(http_url(self._url, path))

    async def _address(self) -> Check:
        started = time.perf_counter()
        remedy = "start one with `stenolog up`, or give its address with --url"
        try:
            answer = await self._get("/v1/health")
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            return Check(name="address", ok=False, detail=f"no answer: {_said(error)}", remedy=remedy)
        try:
            version = answer.json()["version"]
        except (ValueError, LookupError, TypeError):
            version = None
        if answer.status_code != httpx2.codes.OK or not version:
            detail = f"what answers there is no Stenolog edge (HTTP status {answer.status_code})"
            return Check(name="address", ok=False, detail=detail, remedy=remedy)
        took_ms = (time.perf_counter() - started) * 1000
        return Check(name="address", ok=True, detail=f"version {version}, answers in {took_ms:.0f} ms")

    async def _ready(self) -> Check:
        body = (await self._get("/v1/ready")).json()
        if body["ready"]:
            told = [f"{body['active_sessions']} sessions live", *body.get("warnings", ())]
            return Check(name="ready", ok=True, detail="; ".join(told))
        reasons = "; ".join(body["reasons"])
        return Check(name="ready", ok=False, detail=reasons, remedy="see the checks below")

    async def _probe(self, engine: str) -> Check:
        remedy = "look at the workers' and projections' logs for this session"
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                return await self._transcribed(engine)
        except (ClientError, WavError) as error:
            return Check(name="transcription", ok=False, detail=str(error), remedy=remedy)
        except TimeoutError:
            detail = f"session {self._session_id} was not transcribed within {PROBE_TIMEOUT_S:g} s"
            return Check(name="transcription", ok=False, detail=detail, remedy=remedy)

    async def _transcribed(self, engine: str) -> Check:
        path = min(recordings(), key=lambda found: found.stat().st_size)
        with path.open("rb") as file:
            rate_hz = Recording(file).sample_rate_hz
        hearing = _Hearing()
        client = Client(
            self._url, sample_rate_hz=rate_hz, on_message=hearing.take, patience_s=PATIENCE_S, token=self._token
        )
        try:
            end = await client.run(blocks([path]))
        finally:
            self._session_id = client.session_id
        words = str(end.get("transcript") or "").split()
        missing = None if engine == MOCK_ENGINE else _missing(path.name, words)
        if not words or hearing.first_final_s is None or missing:
            detail = f"session {client.session_id} gave {len(words)} words" + (f"; {missing}" if missing else "")
            return Check(
                name="transcription", ok=False, detail=detail,
                remedy="look at the workers' logs, and at the engine and model that they are started with",
            )  # fmt: skip
        detail = f"{len(words)} words by engine {engine}, the first final after {hearing.first_final_s:.2f} s"
        return Check(name="transcription", ok=True, detail=detail)

    async def _erased(self) -> Check:
        path = f"/v1/sessions/{self._session_id}"
        answer = await self._http.delete(http_url(self._url, path)) if self._session_id else None
        if answer is not None and answer.status_code in {httpx2.codes.NO_CONTENT, httpx2.codes.OK}:
            answer = await self._get(path)
            if answer.status_code == httpx2.codes.NOT_FOUND:
                return Check(name="deletion", ok=True, detail="the probe session is gone")
        detail = "there was no session" if answer is None else f"HTTP status {answer.status_code}"
        return Check(
            name="deletion", ok=False, detail=f"the probe session could not be deleted: {detail}",
            remedy=f"DELETE {path}, with a token of scope ingest; or wait until it expires",
        )  # fmt: skip


class _Hearing:
    """When the first final came, counted from the session's start."""

    def __init__(self) -> None:
        self.first_final_s: float | None = None
        self._started = 0.0

    def take(self, message: Message) -> None:
        """Hear one message."""
        if message["type"] == "session_start" and not self._started:
            self._started = time.perf_counter()
        elif message["type"] == "final" and self.first_final_s is None:
            self.first_final_s = time.perf_counter() - self._started


def _access(answer: httpx2.Response) -> Check | None:
    """The failed check if the deployment can't be examined further, None if it can."""
    match answer.status_code:
        case httpx2.codes.OK:
            return None
        case httpx2.codes.UNAUTHORIZED | httpx2.codes.FORBIDDEN:
            return Check(
                name="access", ok=False, detail=answer.json()["detail"],
                remedy="give a token with scopes ingest and read by --token; `stenolog token` mints one",
            )  # fmt: skip
        case status:
            return Check(
                name="access", ok=False, detail=f"/v1/diagnostics gave HTTP status {status}",
                remedy="see the edge's logs; is it of this version?",
            )  # fmt: skip


def _redis(diagnosis: dict[str, Any]) -> Check:
    if diagnosis["redis"]:
        return Check(name="redis", ok=True, detail=f"takes a write in {diagnosis['redis_write_ms']:.1f} ms")
    return Check(
        name="redis", ok=False, detail="takes no write",
        remedy="is it up, is REDIS_URL right, is its memory full, is it a replica? the edge's logs tell",
    )  # fmt: skip


def _durability(durable: dict[str, Any]) -> Check:
    detail = "; ".join([durable["setting"], *durable["findings"]])
    return Check(
        name="durability", ok=durable["kept"], detail=detail,
        remedy="give Redis what the setting asks for, or set STENOLOG_DURABILITY to what it gives: docs/durability.md",
    )  # fmt: skip


def _is_up(role: str, report: dict[str, Any]) -> bool:
    return bool(report["role"] == role and report["alive"])


def _role(expected: _Expected, processes: list[dict[str, Any]]) -> Check:
    living = [one for one in processes if _is_up(expected.role, one)]
    name = expected.role.replace("projection.", "projection ")
    if living:
        return Check(name=name, ok=True, detail=f"{len(living)} up")
    ages = [one["age_s"] for one in processes if one["role"] == expected.role]
    detail = f"none up; the last was heard {min(ages):.0f} s ago" if ages else "none up"
    return Check(name=name, ok=False, detail=detail, remedy=f"start one: `{expected.command}`")


def _errors(diagnosis: dict[str, Any]) -> Check:
    count = diagnosis["errors_5min"]
    if not count:
        return Check(name="errors", ok=True, detail="none logged by any role in the last 5 minutes")
    guilty = {one["name"] or one["role"] for one in diagnosis["processes"] if one["errors_5min"]}
    detail = f"{count} logged in the last 5 minutes by {', '.join(sorted(guilty))}"
    return Check(name="errors", ok=False, detail=detail, remedy='look for `"level":"error"` in their logs')


def _missing(recording: str, words: list[str]) -> str | None:
    """How the transcript falls short of what is said in a recording, None if it doesn't."""
    said = _references().get(recording, "").split()
    heard = {_bare(word) for word in words}
    right = sum(word in heard for word in said)
    return None if right >= WORDS_RIGHT * len(said) else f"{right} of the {len(said)} words said are among them"


def _references() -> dict[str, str]:
    table = recordings()[0].with_name("references.tsv")
    if not table.exists():
        raise WavError("what is said in the bundled recording is not installed")
    lines = (line.split("\t") for line in table.read_text(encoding="utf-8").splitlines())
    return {fields[0]: fields[1] for fields in lines}


def _bare(word: str) -> str:
    return word.strip(".,;:!?\"'").lower()


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
