"""Redis behind a password, least rights and TLS."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from redis.exceptions import ResponseError

from eventlog.log import LogUnavailableError
from eventlog.redis.server import DeploymentMismatchError, Tls, connect
from tests.integration.edge.conftest import behind
from tests.integration.edge.replicas import FRAME_SAMPLES, PARTITIONS, Replica, replica
from tests.support.servers import Node, Server
from tests.support.tree import PACKAGES, ROOT, modules, scripts

RULE = re.search(r"^ACL SETUSER (stenolog .*)$", (ROOT / "docs/security.md").read_text(encoding="utf-8"), re.MULTILINE)
"""As the documentation has it."""

HTTP_ONLY: set[str] = set()
# Asked where it is allowed, for it shows passwords too; without it, durability `safe` is taken on trust.
OPTIONAL = {"config"}
# Of `stenolog backup` alone, whose user is another, as docs/backup.md says.
OF_BACKUPS = {"sync", "replconf"}
BY_THE_CLIENT = {
    "command", "client|setinfo", "cluster|slots", "cluster|shards", "asking", "sunsubscribe",
}  # fmt: skip
"""What redis-py sends of itself."""


SETINFO = "+client|setinfo"
"""A command of Redis 7.2; an older one refuses rules that name it."""


def allow(node: Node, *rule: str) -> None:
    """Make a user by this rule, as far as the server knows its commands."""
    try:
        node.command("ACL", "SETUSER", *rule)
    except ResponseError:
        node.command("ACL", "SETUSER", *(part for part in rule if part != SETINFO))


@pytest.fixture
def least(server: Server) -> Iterator[str]:
    """Address of a Redis for a user with the documented rights alone."""
    assert RULE
    for node in server.nodes:
        allow(node, *RULE[1].split())
        node.command("ACL", "LOG", "RESET")
    yield server.url.replace("redis://", "redis://stenolog:password@")
    for node in server.nodes:
        node.command("ACL", "DELUSER", "stenolog")


async def test_everything_works_with_the_least_rights(server: Server, least: str) -> None:
    """A session from its first sample to its deletion takes no right but the documented ones (SAFE-4)."""
    async with behind(least), replica(least, ready_stale_s=60.0) as edge:
        async with edge.connect() as client:
            session_id = (await client.next())["session_id"]
            await client.speak(20)
            await client.send("stop")
            assert (await client.until("session_end"))["transcript"] is not None
        for status in await statuses(edge, session_id):
            assert status < 500
    denied = [entry for node in server.nodes for entry in node.command("ACL", "LOG")]
    assert denied == []


async def statuses(edge: Replica, session_id: str) -> list[int]:
    """Those of all operations, reading ones first and deletion last."""
    order = ("GET", "POST", "PUT", "PATCH", "DELETE")
    operations = sorted(edge.operations, key=lambda one: order.index(one.method))
    found = []
    async with httpx2.AsyncClient(base_url=edge.http, timeout=15) as http:
        for one in operations:
            path = one.path.replace("{session_id}", session_id)
            async with http.stream(one.method, path) as answer:
                found.append(answer.status_code)
    return found


def test_the_documented_rights_are_those_that_are_used(standalone: Server) -> None:
    """Every command that scripts and modules name is in the documented rule, and none that they don't (SAFE-4)."""
    assert RULE
    allowed = {word[1:] for word in RULE[1].split() if word.startswith("+")}
    called = {
        name.lower() for path in scripts()
        for name in re.findall(r"redis\.p?call\('([A-Z]+)", path.read_text(encoding="utf-8"))
    }  # fmt: skip
    assert called
    assert called - allowed == set()
    assert allowed & {"keys", "flushall", "flushdb", "config", "acl", "shutdown", "debug", "monitor", "script"} == set()
    assert not [word for word in RULE[1].split() if word.startswith("+@")]
    texts = {text.lower() for module in modules(*PACKAGES) for text in module.strings() if text.isupper()}
    used = called | texts & set(standalone.nodes[0].command("COMMAND"))
    assert used - allowed - OPTIONAL - OF_BACKUPS == HTTP_ONLY
    assert allowed - used == BY_THE_CLIENT


async def test_a_wrong_password_is_reported(redis_url: str) -> None:
    """Without the right password connecting fails, and the error has Redis's reason."""
    with pytest.raises(LogUnavailableError, match=r"(?i)password"):
        await connect(redis_url.replace("redis://", "redis://stenolog:wrong@"), partitions=PARTITIONS)


async def test_a_missing_right_is_reported(standalone: Server) -> None:
    """A command whose user lacks a right names the missing right, without a traceback."""
    allow(standalone.nodes[0], "weak", "on", ">password", "~*", "-@all", "+ping", SETINFO)
    with pytest.raises(DeploymentMismatchError, match="info"):
        await connect(standalone.url.replace("redis://", "redis://weak:password@"), partitions=PARTITIONS)
    standalone.nodes[0].command("ACL", "DELUSER", "weak")


# TLS


@dataclass
class Certificates:
    """An authority, and what it signed for a server on 127.0.0.1 and for a client."""

    folder: Path

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._write("ca", self._key, is_authority=True)
        for name in ("server", "client"):
            self._write(name, ec.generate_private_key(ec.SECP256R1()), is_authority=False)

    def _write(self, name: str, key: ec.EllipticCurvePrivateKey, *, is_authority: bool) -> None:
        now = datetime.now(UTC)
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        certificate = (
            x509.CertificateBuilder(_named("ca"), _named(name), key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        )  # fmt: skip
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        (self.folder / f"{name}.key").write_bytes(private)

    def path(self, name: str) -> str:
        """Of one file."""
        return str(self.folder / name)

    def tls(self, client: str = "client") -> Tls:
        """What an edge has of it."""
        return Tls(self.path("ca.pem"), client and self.path(f"{client}.pem"), client and self.path(f"{client}.key"))


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"tests {name}")])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Made once."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def encrypted(standalone: Server, certificates: Certificates) -> AsyncIterator[str]:
    """Address of Redis behind TLS, which wants a certificate; the bundled server is built without it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates.path("ca.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificates.path("server.pem"), certificates.path("server.key"))

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", standalone.nodes[0].port)
        await asyncio.gather(_copied(reader, back), _copied(there, writer))

    proxy = await asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=context)
    yield f"rediss://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    proxy.close()


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def test_redis_is_reached_by_tls(encrypted: str, certificates: Certificates) -> None:
    """Over TLS, with certificates on both sides, a session opens, is acked, and wake-ups arrive (SAFE-4)."""
    async with replica(encrypted, tls=certificates.tls()) as edge, edge.connect() as client:
        await client.next()
        await client.speak(1)
        await client.acked(FRAME_SAMPLES)
        await edge.core.fanout.listening()


@pytest.mark.parametrize("client", ["", "server"])
async def test_a_server_of_an_unknown_authority_is_refused(
    encrypted: str, certificates: Certificates, client: str
) -> None:
    """A certificate of an authority that isn't trusted, and a client without one, make no connection (SAFE-4)."""
    tls = certificates.tls(client) if not client else Tls()
    with pytest.raises(LogUnavailableError):
        await connect(encrypted, partitions=PARTITIONS, tls=tls)


async def test_a_certificate_for_another_name_is_refused(encrypted: str, certificates: Certificates) -> None:
    """A certificate that isn't for the address asked makes no connection (SAFE-4)."""
    with pytest.raises(LogUnavailableError, match=r"(?i)hostname|mismatch"):
        await connect(encrypted.replace("127.0.0.1", "localhost"), partitions=PARTITIONS, tls=certificates.tls())
