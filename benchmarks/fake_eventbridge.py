"""An EventBridge that fails on purpose: PutEvents by HTTP on loopback, as far as a forwarder can see."""

from __future__ import annotations

import json
import random
import threading
import uuid
from collections import Counter
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self

TARGET = "AWSEvents.PutEvents"


class FaultRates(NamedTuple):
    """How often each fault happens, as fractions.

    Attributes:
        entries: Entries that fail by themselves (`FailedEntryCount`).
        throttled: Requests that are refused as a whole.
        unanswered: Requests that are taken, but whose answer is an error: all their events come again.
    """

    entries: float = 0.3
    throttled: float = 0.1
    unanswered: float = 0.02


class FakeEventBridge:
    """Takes events and remembers their ids; a context manager."""

    def __init__(self, rates: FaultRates, seed: int) -> None:
        """Fail at these `rates`, by the random numbers of `seed`."""
        self._rates = rates
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.arrived: Counter[tuple[str, str]] = Counter()
        """How often each event came and was taken: interaction id and event id."""
        self.counts: Counter[str] = Counter()
        """Requests and entries by their outcome."""
        bus = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = bus.put_events(self.headers["X-Amz-Target"], request)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def put_events(self, target: str, request: bytes) -> tuple[HTTPStatus, dict[str, Any]]:
        """The answer to a request."""
        if target != TARGET:
            return HTTPStatus.BAD_REQUEST, {"__type": "UnknownOperationException"}
        with self._lock:
            self.counts["requests"] += 1
            if self._happens(self._rates.throttled):
                self.counts["throttled"] += 1
                return HTTPStatus.BAD_REQUEST, {"__type": "ThrottlingException", "message": "Rate exceeded"}
            answers = [self._put(entry) for entry in json.loads(request)["Entries"]]
            if self._happens(self._rates.unanswered):
                self.counts["unanswered"] += 1
                return HTTPStatus.INTERNAL_SERVER_ERROR, {"__type": "InternalException", "message": "lost"}
        failed = sum("ErrorCode" in answer for answer in answers)
        return HTTPStatus.OK, {"FailedEntryCount": failed, "Entries": answers}

    def _put(self, entry: dict[str, Any]) -> dict[str, str]:
        if self._happens(self._rates.entries):
            self.counts["failed_entries"] += 1
            return {"ErrorCode": "InternalFailure", "ErrorMessage": "try again"}
        [event_id] = entry["Resources"]
        self.arrived[json.loads(entry["Detail"])["interaction_id"], event_id.removeprefix("urn:uuid:")] += 1
        return {"EventId": str(uuid.uuid4())}

    def _happens(self, fraction: float) -> bool:
        return self._random.random() < fraction
