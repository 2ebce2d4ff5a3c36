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

from stenolog.client.websocket import ClientError, UnreachableError, http_url

BLOCK_BYTES = 65_536
"""Read and sent at a time."""

CONNECT_S = 10.0
"""Bound of one connection's making; an edge answers in milliseconds."""

PATIENCE_S = 60.0
"""Without a word from the server after which a recording is given up: four of the comments that keep a stream open."""

PAUSE_S = 0.2
"""Between two looks for what comes in a moment; doubled up to `LONGEST_PAUSE_S` where a server stays away."""

LONGEST_PAUSE_S = 5.0

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


class Watcher(NamedTuple):
    """Who is told how a recording goes on; each is called often and must be quick."""

    on_sent: Callable[[int], None]
    """With the number of its bytes that were sent."""
    on_taken: Callable[[Answer], None]
    """With the answer once it is durable, from when on it is processed whoever waits for it."""
    on_status: Callable[[Answer], None]
    """With each status message."""


class BatchClient:
    """Sends recordings to one edge; a context manager around its connections."""

    def __init__(self, url: str, *, token: str = "") -> None:
        """`url` is the edge's; `token` goes with each request, for a deployment that asks for one."""
        self._url = url
        self._http = httpx2.AsyncClient(
            headers={"authorization": f"Bearer {token}"} if token else {},
            timeout=httpx2.Timeout(PATIENCE_S, connect=CONNECT_S, write=None, pool=None),
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        """Ready."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def send(self, recording: Recording, watcher: Watcher) -> Answer:
        """Send a recording; what the server says of it once it is durable.

        Raises:
            ClientError: if it is refused, or the server stays away.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer = await self._posted(recording, watcher)
            if answer.status_code not in RETRIED or time.monotonic() > deadline:
                break
            await asyncio.sleep(float(answer.headers.get("retry-after", "1")))
        taken = _checked(answer)
        watcher.on_taken(taken)
        return taken

    async def result(self, taken: Answer, watcher: Watcher) -> Answer:
        """Follow a recording to its end; its result.

        Raises:
            ClientError: if it can't be processed, or the server stays away.
        """
        await self._follow(taken, watcher)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer = await self._got(taken["result_url"])
            if answer is not None and answer.status_code not in {ACCEPTED, *RETRIED}:
                return _checked(answer)
            if time.monotonic() > deadline:
                raise ClientError(f"the result is not there yet; look at {http_url(self._url, taken['result_url'])}")
            await asyncio.sleep(PAUSE_S)

    async def _posted(self, recording: Recording, watcher: Watcher) -> httpx2.Response:
        headers = {
            "prefer": "respond-async", "content-type": "application/octet-stream",
            "content-length": str(recording.size_bytes), **recording.headers,
        }  # fmt: skip
        try:
            return await self._http.post(
                http_url(self._url, "/batch/process"), content=_blocks(recording.file, watcher), headers=headers,
                params=dict(recording.options),
            )  # fmt: skip
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise ClientError(f"{self._url} is no address of an edge") from error
        except httpx2.ConnectError as error:
            raise UnreachableError(f"no edge answers at {self._url} ({error})") from error
        except httpx2.HTTPError as error:
            raise ClientError(f"the recording could not be sent: {error or type(error).__name__}") from error

    async def _follow(self, taken: Answer, watcher: Watcher) -> None:
        """Hand on every status message until the last; a connection that breaks is renewed where it was."""
        last_id, heard, pause_s = "0-0", time.monotonic(), PAUSE_S
        while time.monotonic() - heard < PATIENCE_S:
            with contextlib.suppress(httpx2.HTTPError):
                async for event_id, status in self._statuses(taken["status_url"], last_id):
                    last_id, heard, pause_s = event_id, time.monotonic(), PAUSE_S
                    watcher.on_status(status)
                    if status["status"] != "processing":
                        return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        raise ClientError(f"the server stayed away; look at {http_url(self._url, taken['result_url'])} later")

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


async def _blocks(file: Path, watcher: Watcher) -> AsyncIterator[bytes]:
    sent = 0
    with file.open("rb") as source:
        while data := source.read(BLOCK_BYTES):
            yield data
            sent += len(data)
            watcher.on_sent(sent)


def _checked(answer: httpx2.Response) -> Answer:
    try:
        body: Answer = answer.json()
        if answer.is_success:
            return body
        message, code = body["detail"], body["code"]
    except (ValueError, KeyError, TypeError):
        raise ClientError(f"the server answered {answer.status_code}") from None
    raise ClientError(f"{message} ({code})")
