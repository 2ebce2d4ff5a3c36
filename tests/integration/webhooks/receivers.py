"""Receivers of webhooks for the tests: real servers that check signatures, and answer as a test sets."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import ssl
import uuid
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from eventlog.keys import Keys
from eventlog.positions import Position
from eventlog.projection.webhook_subscriptions import DEFAULT_KINDS, Subscription, Subscriptions, new_secret
from projections.forwarding.sink import Outcome, Result
from projections.integration_events import Event, Kind, event_id

TENANT = "acme"
SAID = "what nobody else may read"


@dataclass
class Reply:
    """What a receiver does with one request."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    held: asyncio.Event | None = None
    """It answers when this is set."""
    cut: bool = False
    """It closes the connection instead."""


@dataclass
class Post:
    """A request that came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event_id(self) -> str:
        """Which event it brought."""
        return self.headers["webhook-id"]

    @property
    def content(self) -> dict[str, Any]:
        """What it says."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class Receiver:
    """A server on loopback."""

    def __init__(self) -> None:
        """Answers 204 unless `replies` says otherwise for its next requests, or `always` for all of them."""
        self.secret = new_secret()
        self.posts: list[Post] = []
        self.taken: list[str] = []
        """Ids of the events that were answered with a success, in order."""
        self.replies: deque[Reply] = deque()
        self.always: Reply | None = None
        self.connections = 0
        self.most_at_once = 0
        self.url = ""
        self.serving: set[asyncio.Task[None]] = set()
        self._now = 0

    @property
    def event_ids(self) -> list[str]:
        """Of all requests, in order."""
        return [post.event_id for post in self.posts]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the requests of one connection."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        # Cancelled at the end of a test, of which asyncio's streams would complain.
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError, asyncio.CancelledError):
            while await self._answer(reader, writer):
                pass
        self.serving.discard(task)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        post = Post(head[0].split()[1], headers, await reader.readexactly(int(headers["content-length"])))
        self.posts.append(post)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            return await self._replied(post, writer)
        finally:
            self._now -= 1

    async def _replied(self, post: Post, writer: asyncio.StreamWriter) -> bool:
        reply = self.replies.popleft() if self.replies else self.always or Reply()
        if reply.held is not None:
            await reply.held.wait()
        if reply.cut:
            return False
        assert self.signed(post), "a signature that doesn't fit"
        if reply.status < 300:
            self.taken.append(post.event_id)
        lines = [f"HTTP/1.1 {reply.status} X", f"content-length: {len(reply.body)}",
                 *(f"{name}: {value}" for name, value in reply.headers.items())]  # fmt: skip
        writer.write("\r\n".join([*lines, "", ""]).encode() + reply.body)
        await writer.drain()
        return True

    def signed(self, post: Post) -> bool:
        """Whether the request is signed with this receiver's secret, computed here independently."""
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        signed = f"{post.event_id}.{post.headers['webhook-timestamp']}.".encode() + post.body
        made = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return made == post.headers["webhook-signature"]


@contextlib.asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[Receiver]:
    """Runs a receiver."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, host, 0, ssl=tls)
    scheme = "http" if tls is None else "https"
    receiver.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield receiver
    finally:
        server.close()
        for task in tuple(receiver.serving):
            task.cancel()
        await asyncio.gather(*receiver.serving, return_exceptions=True)


async def subscribe(
    subscriptions: Subscriptions, receiver: Receiver, kinds: Sequence[str] = DEFAULT_KINDS, tenant_id: str = TENANT,
) -> Subscription:  # fmt: skip
    """Subscribes a receiver to a tenant's events."""
    made = Subscription(
        id=str(uuid.uuid4()), url=receiver.url, kinds=tuple(kinds), description="", secret=receiver.secret,
        created_ms=1_000,
    )  # fmt: skip
    assert await subscriptions.add(tenant_id, made)
    return made


def make_event(
    number: int = 1, kind: Kind = Kind.SESSION_ENDED, session: str = "s1", tenant_id: str = TENANT
) -> Event:
    """An event of a session, as a forwarder hands it over."""
    keys, position = Keys(8).of(session).run(), Position(number * 160, 0)
    body = {"session_id": session, "number": number, "text": SAID}
    return Event(
        event_id=event_id(keys, position, kind), kind=kind, session_id=session, tenant_id=tenant_id,
        occurred_ms=1_700_000_000_000 + number, body=body,
    )  # fmt: skip


def utterances(count: int, session: str = "s1") -> list[Event]:
    """The first utterances of a session."""
    return [make_event(number, Kind.UTTERANCE, session) for number in range(1, count + 1)]


def outcomes(results: Sequence[Result]) -> list[Outcome]:
    """Without the reasons."""
    return [result.outcome for result in results]
