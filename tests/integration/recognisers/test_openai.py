import io
import json
import threading
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from processor.recognisers import Clip, Recogniser, RecogniserError, load

Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Endpoint:
    """A transcription endpoint on this machine: what it replies in turn, and what it was sent."""

    replies: list[Reply] = field(default_factory=list)
    requests: list[dict[str, bytes]] = field(default_factory=list)
    headers: list[Message] = field(default_factory=list)
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reply(self, headers: Message, fields: dict[str, bytes]) -> Reply:
        """Note a request and return its reply: the next one set, or how many samples its file has."""
        with self.lock:
            self.headers.append(headers)
            self.requests.append(fields)
            if self.replies:
                return self.replies.pop(0)
        with wave.open(io.BytesIO(fields["file"])) as reader:
            return 200, {}, json.dumps({"text": f" {reader.getnframes()} samples ", "extra": 1}).encode()


def parse(headers: Message, body: bytes) -> dict[str, bytes]:
    """Return the fields of a multipart form."""
    head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
    form = BytesParser(policy=HTTP).parsebytes(head + body)
    return {
        str(part.get_param("name", header="content-disposition")): bytes(part.get_payload(decode=True))
        for part in form.iter_parts()
    }


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """Serve an endpoint on a free port of loopback."""
    served = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, content = served.reply(
                self.headers, {**parse(self.headers, body), "path": self.path.encode()}
            )
            if status == 0:  # hang up without an answer
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class names it so
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        served.url = f"http://127.0.0.1:{server.server_port}"
        yield served
        server.shutdown()
        thread.join()


@contextmanager
def recogniser(
    endpoint: Endpoint, pause: Callable[[float], None] = lambda _: None, **settings: object
) -> Iterator[Recogniser]:
    """Load the recogniser for an endpoint and close it afterwards."""
    loaded = load("openai", base_url=endpoint.url, pause=pause, **settings)
    try:
        yield loaded
    finally:
        loaded.close()


def clip(samples: int) -> Clip:
    """Return a clip of so many samples."""
    return Clip(pcm=bytes(2 * samples), sample_rate_hz=8_000, language="en-GB")


def test_clips_are_sent_as_wav_and_answered_in_order(endpoint: Endpoint) -> None:
    """Each clip goes out as a WAV form with model, language and key, and the texts come back in the clips' order."""
    with recogniser(endpoint, api_key="key", model="large") as remote:
        found = remote.recognise([clip(3), clip(2), clip(0), clip(1)])
    assert [each.text for each in found] == ["3 samples", "2 samples", "", "1 samples"]
    assert {request["path"] for request in endpoint.requests} == {b"/v1/audio/transcriptions"}
    assert {(request["model"], request["language"]) for request in endpoint.requests} == {(b"large", b"en")}
    assert {headers["Authorization"] for headers in endpoint.headers} == {"Bearer key"}


@pytest.mark.parametrize("status", [429, 500, 503, 0])
def test_a_passing_error_is_retried(endpoint: Endpoint, status: int) -> None:
    """An overloaded, failing or vanished endpoint is tried again after growing pauses."""
    endpoint.replies = [(status, {}, b""), (status, {}, b"")]
    pauses: list[float] = []
    with recogniser(endpoint, pauses.append) as remote:
        assert remote.recognise([clip(5)])[0].text == "5 samples"
    assert len(pauses) == 2
    assert 0.125 <= pauses[0] < 0.375 <= 2 * pauses[1] < 1.5


def test_a_retry_after_is_honoured_within_a_bound(endpoint: Endpoint) -> None:
    """The endpoint's own Retry-After is waited for, but not for hours."""
    endpoint.replies = [(429, {"Retry-After": "2"}, b""), (429, {"Retry-After": "7200"}, b"")]
    pauses: list[float] = []
    with recogniser(endpoint, pauses.append) as remote:
        remote.recognise([clip(5)])
    assert pauses == [2.0, 8.0]


def test_attempts_are_bounded(endpoint: Endpoint) -> None:
    """An endpoint that stays down is an error that may be retried later."""
    endpoint.replies = [(503, {}, b"")] * 9
    with recogniser(endpoint, max_attempts=3) as remote, pytest.raises(RecogniserError, match="503") as raised:
        remote.recognise([clip(5)])
    assert raised.value.retryable
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(("reply", "message"), [((401, {}, b"no"), "401"), ((200, {}, b"<html>"), "no transcription")])
def test_a_refusal_is_final(endpoint: Endpoint, reply: Reply, message: str) -> None:
    """A refused key or an answer in another format is not tried again."""
    endpoint.replies = [reply]
    with recogniser(endpoint) as remote, pytest.raises(RecogniserError, match=message) as raised:
        remote.recognise([clip(5)])
    assert not raised.value.retryable
    assert len(endpoint.requests) == 1


def test_a_slow_endpoint_times_out(endpoint: Endpoint) -> None:
    """An endpoint that does not answer in time is an error that may be retried later."""
    with endpoint.lock, recogniser(endpoint, timeout_s=0.2, max_attempts=1) as remote:
        with pytest.raises(RecogniserError, match="ReadTimeout") as raised:
            remote.recognise([clip(5)])
        assert raised.value.retryable
