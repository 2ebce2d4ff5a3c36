"""A server that speaks AWS's JSON protocol and answers as a test scripts it, in ways that the emulator never does."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Entries = list[dict[str, Any]]
Answer = Callable[[Entries], tuple[int, dict[str, Any]]]


def taken(entries: Entries) -> tuple[int, dict[str, Any]]:
    """Everything is taken."""
    return results([{"EventId": f"id-{number}"} for number in range(len(entries))])


def results(answers: Sequence[dict[str, str]]) -> tuple[int, dict[str, Any]]:
    """An answer with one result an entry."""
    failed = sum("ErrorCode" in answer for answer in answers)
    return 200, {"FailedEntryCount": failed, "Entries": list(answers)}


def refusal(code: str, message: str = "", status: int = 400) -> tuple[int, dict[str, Any]]:
    """The request as a whole is refused."""
    return status, {"__type": code, "message": message}


class ScriptedAws(ThreadingHTTPServer):
    """Answers with the next of `script`, and takes everything after the last."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[Answer] = []
        self.requests: list[Entries] = []
        self.silent = threading.Event()
        self.released = threading.Event()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, entries: Entries) -> tuple[int, dict[str, Any]]:
        """What the next request is answered with."""
        with self._lock:
            self.requests.append(entries)
            return (self.script.pop(0) if self.script else taken)(entries)


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedAws
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer one request."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        status, answer = self.server.answer(body.get("Entries", []))
        if self.server.silent.is_set():
            self.server.released.wait(60)
            return
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[ScriptedAws]:
    """One such server."""
    server = ScriptedAws()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
