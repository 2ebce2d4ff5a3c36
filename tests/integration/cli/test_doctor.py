"""`stenolog doctor` where no edge answers (STITCH-8)."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from click.testing import CliRunner

from stenolog.cli import cli


class OtherServer(BaseHTTPRequestHandler):
    """A server that is no edge."""

    def do_GET(self) -> None:
        """Answer with a page."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>hello</html>")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def other_url() -> Iterator[str]:
    """The address of a server that is no edge."""
    with HTTPServer(("127.0.0.1", 0), OtherServer) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no.such.host.invalid", "nonsense://x", "http://["])
def test_an_address_without_an_edge_is_reported(url: str) -> None:
    """STITCH-8: where no edge answers the one line says so and the remedy, without a traceback."""
    done = CliRunner().invoke(cli, ["doctor", "--url", url])
    assert (done.exit_code, done.stderr) == (1, "")
    first, remedy = done.stdout.splitlines()
    assert first.startswith("✗ address")
    assert "--url" in remedy


def test_another_server_is_no_edge(other_url: str) -> None:
    """STITCH-8: a server that answers but is no edge is reported as such."""
    done = CliRunner().invoke(cli, ["doctor", "--url", other_url])
    assert done.exit_code == 1
    assert "no Stenolog edge" in done.stdout
