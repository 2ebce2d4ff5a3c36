"""A client of `POST /batch/process`: sends recordings, follows them by their status streams, fetches the results."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx2

from stenolog.client.edge import ClientError, UnreachableError, bearer, http_url, refusal

BLOCK_BYTES = 65_536
"""Read and sent at a time."""

CONNECT_TIMEOUT_S = 10.0
"""Bound of one connection's making; an edge answers in milliseconds."""

SERVER_TIMEOUT_S = 60.0
"""Time without a message of the server after which a recording is given up: four keep-alive comments of a stream."""

MIN_RETRY_S, MAX_RETRY_S = 0.2, 5.0
"""Pauses between two tries; doubled from the first to the second where a server stays away."""

OK, ACCEPTED = 200, 202
RETRIED = frozenset({429, 503})
"""Statuses after which the same request may be made again later."""

Answer = dict[str, Any]


class Recording(NamedTuple):
    """A file and how it is to be processed."""

    file: Path
    size_bytes: int
    headers: Mapping[str, str]
    options: Mapping[str, str]


class Callbacks(NamedTuple):
    """Report a recording's progress; each is called often and must be quick."""

    on_sent: Callable[[int], None]
    """With the number of its bytes that were sent."""
    on_accepted: Callable[[Answer], None]
    """With the answer once it is durable: from then on it is processed, waited for or not."""
    on_status: Callable[[Answer], None]
    """With each status message."""


class BatchClient:
    """Sends recordings to one edge; a context manager around its connections."""

    def __init__(self, url: str, *, token: str = "") -> None:
        """`url` is the edge's; `token` goes with each request, for a deployment that asks for one."""
        self._url = url
        self._http = httpx2.AsyncClient(
            headers=bearer(token),
            timeout=httpx2.Timeout(SERVER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S, write=None, pool=None),
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        """Ready."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def send(self, recording: Recording, callbacks: Callbacks) -> Answer:
        """Send a recording; returns the server's answer, which comes once it is durable.

        Raises:
            ClientError: if it is refused, or the server stays away.
        """
        deadline = time.monotonic() + SERVER_TIMEOUT_S
        while True:
            answer = await self._posted(recording, callbacks)
            if answer.status_code not in RETRIED or time.monotonic() > deadline:
                break
            await asyncio.sleep(float(answer.headers.get("retry-after", "1")))
        accepted = _checked(answer)
        callbacks.on_accepted(accepted)
        return accepted

    async def result(self, accepted: Answer, callbacks: Callbacks) -> Answer:
        """Follow a recording to its end; returns its result.

        Raises:
            ClientError: if it can't be processed, or the server stays away.
        """
        await self._follow(accepted, callbacks)
        deadline = time.monotonic() + SERVER_TIMEOUT_S
        while True:
            answer = await self._got(accepted["result_url"])
            if answer is not None and answer.status_code not in {ACCEPTED, *RETRIED}:
                return _checked(answer)
            if time.monotonic() > deadline:
                raise ClientError(f"the result is not ready yet; look at {http_url(self._url, accepted['result_url'])}")
            await asyncio.sleep(MIN_RETRY_S)

    async def _posted(self, recording: Recording, callbacks: Callbacks) -> httpx2.Response:
        headers = {
            "prefer": "respond-async", "content-type": "application/octet-stream",
            "content-length": str(recording.size_bytes), **recording.headers,
        }  # fmt: skip
        try:
            return await self._http.post(
                http_url(self._url, "/batch/process"), content=_blocks(recording.file, callbacks), headers=headers,
                params=dict(recording.options),
            )  # fmt: skip
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise ClientError(f"{self._url} is no address of an edge") from error
        except httpx2.ConnectError as error:
            raise UnreachableError(self._url, error) from error
        except httpx2.HTTPError as error:
            raise ClientError(f"the recording could not be sent: {error or type(error).__name__}") from error

    async def _follow(self, accepted: Answer, callbacks: Callbacks) -> None:
        """Hand on every status message until the last; a connection that breaks is renewed where it was."""
        last_id, last_message, pause_s = "0-0", time.monotonic(), MIN_RETRY_S
        while time.monotonic() - last_message < SERVER_TIMEOUT_S:
            with contextlib.suppress(httpx2.HTTPError):
                async for event_id, status in self._statuses(accepted["status_url"], last_id):
                    last_id, last_message, pause_s = event_id, time.monotonic(), MIN_RETRY_S
                    callbacks.on_status(status)
                    if status["status"] != "processing":
                        return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_RETRY_S)
        raise ClientError(f"the server stayed away; look at {http_url(self._url, accepted['result_url'])} later")

    async def _statuses(self, path: str, last_id: str) -> AsyncIterator[tuple[str, Answer]]:
        headers = {"accept": "text/event-stream", "last-event-id": last_id}
        async with self._http.stream("GET", http_url(self._url, path), headers=headers) as answer:
            if answer.status_code in RETRIED:
                return
            if answer.status_code != OK:
                await answer.aread()
                _checked(answer)
            event_id = last_id
            async for line in answer.aiter_lines():
                if line.startswith("id: "):
                    event_id = line.removeprefix("id: ")
                elif line.startswith("data: "):
                    yield event_id, json.loads(line.removeprefix("data: "))

    async def _got(self, path: str) -> httpx2.Response | None:
        try:
            return await self._http.get(http_url(self._url, path))
        except httpx2.HTTPError:
            return None  # the next look may succeed


async def _blocks(file: Path, callbacks: Callbacks) -> AsyncIterator[bytes]:
    sent = 0
    with file.open("rb") as source:
        while data := source.read(BLOCK_BYTES):
            yield data
            sent += len(data)
            callbacks.on_sent(sent)


def _checked(answer: httpx2.Response) -> Answer:
    if not answer.is_success:
        raise refusal(answer.status_code, answer.content)
    try:
        body: Answer = answer.json()
    except ValueError:
        raise ClientError(f"the server answered {answer.status_code}") from None
    return body
