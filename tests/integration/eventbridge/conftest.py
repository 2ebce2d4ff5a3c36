"""An emulator of AWS on loopback, and an environment in which nothing of the machine's own AWS set-up is seen."""

import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from tests.integration.eventbridge.scripted import ScriptedAws, serving

KEY_ID, SECRET, TOKEN = "AKIAIOSFODNN7EXAMPLE", "a+very/secret/access/key/of/the/tests", "a-session-token-of-the-tests"


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide all credentials of the machine, and the metadata service."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def credentials(no_credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that the emulator takes as it takes any."""
    assert no_credentials is None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)


@pytest.fixture(scope="session")
def _moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def emulator(_moto: str, credentials: None) -> str:
    """Address of an empty emulator."""
    assert credentials is None
    with urllib.request.urlopen(urllib.request.Request(f"{_moto}/moto-api/reset", method="POST"), timeout=30):  # noqa: S310
        return _moto


@pytest.fixture
def scripted(credentials: None) -> Iterator[ScriptedAws]:
    """A server that answers as a test scripts it."""
    assert credentials is None
    with serving() as server:
        yield server
