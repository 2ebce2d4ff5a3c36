"""Connections: real HTTPS on loopback, and names that lead where they shouldn't."""

import asyncio
import contextlib
import functools
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpcore2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from eventlog.projection.webhook_subscriptions import Subscriptions
from eventlog.redis.server import Server
from projections.forwarding.sink import SENT, Outcome
from projections.webhooks import Webhooks
from projections.webhooks.guarded_transport import GuardedBackend, SystemResolver
from tests.integration.webhooks.receivers import Receiver, make_event, receiving, subscribe

NAME = "hooks.example"
WAIT_S = 30.0
PUBLIC = "93.184.215.14"


@dataclass
class Names:
    """A resolver that answers as a test wants, the last answer again and again."""

    answers: list[Sequence[str]]
    requests: list[tuple[str, int]] = field(default_factory=list)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """The next answer."""
        self.requests.append((host, port))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not answer:
            raise OSError("no such name")
        return answer


class Network(httpcore2.AnyIOBackend):
    """The machine's own network, in which public addresses lead to loopback; it records the connections."""

    def __init__(self) -> None:
        """No connection yet."""
        self.reached: list[str] = []

    async def connect_tcp(self, host: str, port: int, *args: object, **more: object) -> httpcore2.AsyncNetworkStream:
        """A connection to loopback, whatever the address; a name is none."""
        assert ip_address(host)
        self.reached.append(host)
        return await super().connect_tcp("127.0.0.1", port, *args, **more)  # type: ignore[arg-type]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """In place of the machine's, so that a public address can be reached without leaving it."""
    made = Network()
    monkeypatch.setattr(httpcore2, "AnyIOBackend", lambda: made)
    return made


@dataclass
class Authority:
    """A private one, and what it signed for `NAME`, for another name, and for a loopback address."""

    folder: Path

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._write("ca", self._key, [x509.DNSName("ca")], is_authority=True)
        self._write("right", ec.generate_private_key(ec.SECP256R1()),
                    [x509.DNSName(NAME), x509.IPAddress(ip_address("127.0.0.1"))], is_authority=False)  # fmt: skip
        self._write("wrong", ec.generate_private_key(ec.SECP256R1()), [x509.DNSName("x.example")], is_authority=False)

    def _write(
        self, name: str, key: ec.EllipticCurvePrivateKey, names: list[x509.GeneralName], *, is_authority: bool
    ) -> None:
        def named(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder(named("ca"), named(name), key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False).sign(self._key, hashes.SHA256())
        )  # fmt: skip
        (self.folder / f"{name}.pem").write_bytes(made.public_bytes(Encoding.PEM))
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.folder / f"{name}.key").write_bytes(secret)

    def server(self, name: str = "right") -> ssl.SSLContext:
        """For a receiver."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        return context

    def client(self) -> ssl.SSLContext:
        """For a sink that believes this authority."""
        return ssl.create_default_context(cafile=self.folder / "ca.pem")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Made once."""
    return Authority(tmp_path_factory.mktemp("authority"))


@contextlib.asynccontextmanager
async def sinking(
    redis: Server, names: Names | None = None, tls: ssl.SSLContext | None = None, *, private: bool = False
) -> AsyncIterator[Webhooks]:
    """A sink with these names and this belief."""
    sink = Webhooks(redis, private=private, resolve=names, tls=tls, hold_s=WAIT_S, timeout_s=WAIT_S)
    try:
        yield sink
    finally:
        await sink.stop()


def at(receiver: Receiver, host: str) -> Receiver:
    """Has a receiver subscribe under another name for its machine."""
    receiver.url = receiver.url.replace("127.0.0.1", host)
    return receiver


async def test_https_is_posted_to_the_address_that_was_judged(
    redis: Server, subscriptions: Subscriptions, authority: Authority, network: Network
) -> None:
    """The connection goes to the resolved address, TLS and the Host header name the name, and others share it."""
    names = Names([[PUBLIC]])
    async with receiving(authority.server()) as receiver, sinking(redis, names, authority.client()) as sink:
        await subscribe(subscriptions, at(receiver, NAME))
        assert await sink.send([make_event(1)]) == [SENT]
        assert await sink.send([make_event(2)]) == [SENT]
        port = receiver.url.rpartition(":")[2].partition("/")[0]
        assert receiver.posts[0].headers["host"] == f"{NAME}:{port}"
        assert (network.reached, names.requests) == ([PUBLIC], [(NAME, int(port))])


async def test_certificates_are_checked(
    redis: Server, subscriptions: Subscriptions, authority: Authority, network: Network
) -> None:
    """A certificate for another name, and one of an unknown authority, get nothing."""
    for certificate, tls in (("wrong", authority.client()), ("right", None)):
        async with receiving(authority.server(certificate)) as receiver, sinking(redis, Names([[PUBLIC]]), tls) as sink:
            made = await subscribe(subscriptions, at(receiver, NAME))
            [result] = await sink.send([make_event()])
            assert result.outcome is Outcome.RETRY
            assert receiver.posts == []
            await subscriptions.remove("acme", made.id)
    assert network.reached == [PUBLIC] * 2


async def test_https_on_loopback_needs_to_be_allowed(
    redis: Server, subscriptions: Subscriptions, authority: Authority
) -> None:
    """A receiver on loopback gets its events where private addresses are allowed, and nothing elsewhere."""
    async with receiving(authority.server()) as receiver:
        await subscribe(subscriptions, receiver)
        async with sinking(redis, tls=authority.client()) as sink:
            [result] = await sink.send([make_event()])
            assert (result.outcome, receiver.connections) == (Outcome.REJECTED, 0)
        async with sinking(redis, tls=authority.client(), private=True) as sink:
            assert await sink.send([make_event()]) == [SENT]


async def test_an_address_that_was_allowed_once_is_checked_again(
    redis: Server, subscriptions: Subscriptions, network: Network, receiver: Receiver
) -> None:
    """A plain HTTP subscription of a time when that was allowed gets nothing any more, however public its name."""
    await subscribe(subscriptions, at(receiver, NAME))
    async with sinking(redis, Names([[PUBLIC]])) as sink:
        [result] = await sink.send([make_event()])
    assert result.outcome is Outcome.REJECTED
    assert "https" in result.reason
    assert (network.reached, receiver.connections) == ([], 0)


@pytest.mark.parametrize("addresses", [
    ["127.0.0.1"], ["10.0.0.1"], ["169.254.169.254"], ["100.64.0.1"], ["::1"], ["fe80::1%lo"], ["fd00::1"],
    ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"], ["2002:7f00:1::"], [PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC],
])  # fmt: skip
async def test_names_that_lead_inside_get_nothing(
    redis: Server, subscriptions: Subscriptions, network: Network, receiver: Receiver, addresses: list[str]
) -> None:
    """Nothing is sent, nor even connected, to a name any of whose addresses isn't public, and it is final."""
    receiver.url = receiver.url.replace("http", "https")
    made = await subscribe(subscriptions, at(receiver, NAME))
    async with sinking(redis, Names([addresses])) as sink:
        [result] = await sink.send([make_event()])
    assert result.outcome is Outcome.REJECTED
    assert result.reason == f"webhook {made.id}: its address isn't public"
    assert (network.reached, receiver.connections) == ([], 0)


async def test_a_name_that_changes_its_mind_is_caught(
    redis: Server, subscriptions: Subscriptions, authority: Authority, network: Network
) -> None:
    """A name that is public at first and private for the next connection gets the first event alone."""
    names = Names([[PUBLIC], ["127.0.0.1"]])
    async with receiving(authority.server()) as receiver, sinking(redis, names, authority.client()) as sink:
        await subscribe(subscriptions, at(receiver, NAME))
        assert await sink.send([make_event(1)]) == [SENT]
        await sink._poster._pool.aclose()  # type: ignore[union-attr]
        [result] = await sink.send([make_event(2)])
        assert result.outcome is Outcome.REJECTED
        assert (network.reached, len(receiver.posts)) == ([PUBLIC], 1)


async def test_a_name_is_resolved_once_a_connection(network: Network) -> None:
    """Between judging an address and connecting to it no name is asked for again."""
    names = Names([[PUBLIC], ["127.0.0.1"]])
    async with receiving() as receiver:
        port = int(receiver.url.rpartition(":")[2].partition("/")[0])
        stream = await GuardedBackend(names, private=False).connect_tcp(NAME, port, WAIT_S)
        await stream.aclose()
    assert (network.reached, len(names.requests)) == ([PUBLIC], 1)


async def test_a_name_without_an_address_is_tried_again(redis: Server, subscriptions: Subscriptions) -> None:
    """A name that can't be resolved now leaves the event for later."""
    receiver = Receiver()
    receiver.url = "https://hooks.example/"
    await subscribe(subscriptions, receiver)
    async with sinking(redis, Names([[]])) as sink:
        [result] = await sink.send([make_event()])
    assert (result.outcome, result.reason.partition(": ")[2]) == (Outcome.RETRY, "its name has no address")


async def test_other_addresses_are_tried(redis: Server, subscriptions: Subscriptions) -> None:
    """Where one address of a name doesn't answer, the next one is tried."""
    async with receiving() as receiver, sinking(redis, Names([["127.0.0.9", "127.0.0.1"]]), private=True) as sink:
        await subscribe(subscriptions, at(receiver, NAME))
        assert await sink.send([make_event()]) == [SENT]


async def test_the_system_resolves_names() -> None:
    """By default the system's resolver is asked, and each address is returned once."""
    resolver = SystemResolver()
    found = await resolver("localhost", 80)
    assert "127.0.0.1" in found
    assert len(set(found)) == len(found)
    assert list(await resolver("8.8.8.8", 80)) == ["8.8.8.8"]
    resolver.close()


async def test_proxies_of_the_environment_are_ignored(
    redis: Server, subscriptions: Subscriptions, receiver: Receiver, other: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that the environment names gets nothing, for it would resolve names by itself."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, other.url.removesuffix("/hook"))
    await subscribe(subscriptions, receiver)
    async with sinking(redis, private=True) as sink:
        assert await sink.send([make_event()]) == [SENT]
    assert other.connections == 0


async def test_a_resolver_that_hangs_is_bounded(redis: Server, subscriptions: Subscriptions) -> None:
    """The bound of a request holds for the resolving too."""
    receiver = Receiver()
    receiver.url = "https://hooks.example/"
    await subscribe(subscriptions, receiver)

    async def silent(_host: str, _port: int, never: asyncio.Event) -> Sequence[str]:
        await never.wait()
        return []

    sink = Webhooks(redis, resolve=functools.partial(silent, never=asyncio.Event()), timeout_s=0.1, hold_s=WAIT_S)
    [result] = await sink.send([make_event()])
    assert result.reason.endswith("no answer within 0.1 s")
    await sink.stop()
