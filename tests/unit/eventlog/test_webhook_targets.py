"""Which addresses may be sent to."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.projection.webhook_targets import MOST_URL_CHARACTERS, Target, UnfitAddressError, is_public, parse_target

NOT_PUBLIC = {
    "unspecified": ["0.0.0.0", "0.1.2.3", "::"],  # noqa: S104
    "loopback": ["127.0.0.1", "127.255.0.9", "::1"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fdff::1", "fec0::1"],
    "carrier": ["100.64.0.1", "100.127.255.254"],
    "link-local and metadata": ["169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254"],
    "mapped": ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:7f00:1", "::127.0.0.1"],
    "NAT64": ["64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::8.8.8.8"],
    "6to4": ["2002:7f00:1::", "2002:a00:1::1", "2002:a9fe:a9fe::"],
    "Teredo": ["2001:0:4136:e378:8000:63bf:3fff:fdd2"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "192.0.0.8", "192.0.0.9", "192.88.99.1",
                 "3fff::1", "198.18.0.1", "192.0.2.1", "203.0.113.9", "2001:db8::1",
                 "100::1", "4000::1", "::ffff:0:8.8.8.8", "5f00::1"],
}  # fmt: skip
PUBLIC = ["8.8.8.8", "93.184.215.14", "100.63.0.1", "172.32.0.1", "2606:4700:4700::1111", "2a00:1450::1",
          "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"]  # fmt: skip


@pytest.mark.parametrize("kind", NOT_PUBLIC)
def test_addresses_that_are_not_public_are_known(kind: str) -> None:
    """No class of addresses but the public ones counts as public, however IPv4 is written inside IPv6."""
    assert [one for one in NOT_PUBLIC[kind] if is_public(one)] == []


def test_public_addresses_are_known() -> None:
    """Public addresses are public, right beside private ones too, and inside a NAT64 or 6to4 address."""
    assert [one for one in PUBLIC if not is_public(one)] == []


@pytest.mark.parametrize(("url", "target"), [
    ("https://example.com", Target("https", "example.com", 443, "/")),
    ("HTTPS://Example.COM:8443/a/b?c=d%20e", Target("https", "example.com", 8443, "/a/b?c=d%20e")),
    ("https://a_b.example./?x", Target("https", "a_b.example.", 443, "/?x")),
    ("https://8.8.8.8:1/", Target("https", "8.8.8.8", 1, "/")),
    ("https://[2606:4700::1]:99/", Target("https", "2606:4700::1", 99, "/")),
])  # fmt: skip
def test_an_address_is_taken_apart(url: str, target: Target) -> None:
    """Scheme, host, port and path of a fit address are found, odd ports included."""
    assert parse_target(url, private=False) == target


def test_the_host_header_is_the_address_as_it_was_given() -> None:
    """The authority names the port unless it is the scheme's own, and has brackets around IPv6."""
    given = ["https://example.com", "https://example.com:444", "https://[2606:4700::1]", "https://[2606:4700::1]:444"]
    assert [parse_target(one, private=False).authority for one in given] == [one[8:] for one in given]


@pytest.mark.parametrize("url", [
    "", "example.com", "ftp://example.com/", "file:///etc/passwd", "https:", "https://", "https:///x", "//example.com",
    "https://user@example.com/", "https://user:password@example.com/", "https://@example.com/", "https://a@b@c/",
    "https://example.com:0/", "https://example.com:65536/", "https://example.com:x/", "https://example.com#part",
    "https://example.com/#", "https://exa mple.com/", "https://example.com/\r\nx: y", "https://example.com/\x00",
    "https://example.com\\@127.0.0.1/", "https://bücher.example/", "https://a..b/", "https://-a.example/", "https://./",
    "https://[::1", "https://[v1.x]/", "https://[example.com]/", "https://[8.8.8.8]/", "https://[fe80::1%25eth0]/",
    "https://[2606:4700::1%25eth0]/", "https://127.1/", "https://2130706433/", "https://0x7f000001/",
    "https://0177.0.0.1/", "https://1.2.3.4.5/", "https://8.8.8.8./", "https://a.0x1/", "https://%31/",
    "https://" + "a" * 64 + "/", "https://example.com/" + "a" * MOST_URL_CHARACTERS,
])  # fmt: skip
def test_malformed_and_ambiguous_addresses_are_refused(url: str) -> None:
    """What parsers and resolvers may read differently is refused, whatever is allowed otherwise."""
    for private in (False, True):
        with pytest.raises(UnfitAddressError):
            parse_target(url, private=private)


@pytest.mark.parametrize("url", [
    "http://example.com/", "https://localhost/", "https://a.localhost./", "https://127.0.0.1/", "https://10.0.0.1:9/",
    "https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://169.254.169.254/latest/meta-data/",
])  # fmt: skip
def test_private_addresses_need_to_be_allowed(url: str) -> None:
    """Plain HTTP and literal addresses that aren't public are taken only where private ones are allowed."""
    with pytest.raises(UnfitAddressError):
        parse_target(url, private=False)
    assert parse_target(url, private=True).port


@given(st.text(max_size=80) | st.builds("https://{}".format, st.text("a.-_0x[]:%@/", max_size=60)))
def test_any_text_is_taken_apart_or_refused(url: str) -> None:
    """Whatever is given, it is an address with a host of plain characters, or it is refused in words of our own."""
    try:
        target = parse_target(url, private=True)
    except UnfitAddressError:
        return
    assert target.host.isascii()
    assert not set(target.host + target.path) & set(" \r\n\t@#\\\x00") - set("@")
    assert target.path.startswith("/")


def test_no_host_takes_long_to_judge() -> None:
    """Judging the worst of hosts takes no noticeable time."""
    started = time.perf_counter()
    for host in ("a" * 2000, "a-" * 900, "a." * 900 + "!", "1" * 2000, "a" * 63 + "-." * 500):
        with pytest.raises(UnfitAddressError):
            parse_target(f"https://{host}/", private=False)
    assert time.perf_counter() - started < 1
