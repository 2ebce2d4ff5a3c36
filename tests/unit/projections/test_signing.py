"""Body and signature of a webhook."""

import msgspec
import pytest

from eventlog.projection.webhook_subscriptions import DEFAULT_KINDS, KINDS, decode_secret, new_secret
from projections.integration_events import EXTERNAL_KINDS
from projections.webhooks.signing import payload, signature, signed_headers
from tests.integration.webhooks.receivers import make_event

# Published with the specification's own libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIME_S = 1_614_265_330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_signatures_are_those_of_the_specification() -> None:
    """The published test vector of Standard Webhooks gives the published signature."""
    assert signature(decode_secret(SECRET), MESSAGE, TIME_S, BODY) == SIGNATURE


def test_headers_name_the_event_the_time_and_the_signature() -> None:
    """The headers are those of Standard Webhooks, the id being the event's."""
    assert dict(signed_headers(decode_secret(SECRET), MESSAGE, TIME_S, BODY)) == {
        b"content-type": b"application/json", b"webhook-id": MESSAGE.encode(), b"webhook-timestamp": b"1614265330",
        b"webhook-signature": SIGNATURE.encode(),
    }  # fmt: skip


def test_the_body_has_the_three_fields_of_the_specification() -> None:
    """The body is type, time in ISO 8601 and data, the same bytes for the same event each time."""
    event = make_event()
    assert payload(event) == payload(make_event())
    assert msgspec.json.decode(payload(event)) == {
        "type": "TranscriptEnded", "timestamp": "2023-11-14T22:13:20.001+00:00", "data": event.body,
    }  # fmt: skip


def test_secrets_are_new_and_long() -> None:
    """Each secret that is made differs, has 32 bytes, and is one that would be taken."""
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(decode_secret(one)) for one in made} == {32}


@pytest.mark.parametrize("secret", [
    "", "whsec_", "secret", SECRET.removeprefix("whsec_"), "whsec_c2hvcnQ=", "whsec_" + "A" * 32,
    "whsec_" + "QUJD" * 12, SECRET[:-1], SECRET + "\n", "whsec_" + SECRET[6:] * 4, SECRET.replace("r", "-"),
])  # fmt: skip
def test_secrets_that_can_be_guessed_are_refused(secret: str) -> None:
    """A secret that isn't 24 to 64 random bytes in base64 is refused, in words that don't quote it."""
    with pytest.raises(ValueError, match="secret") as caught:
        decode_secret(secret)
    assert not secret.removeprefix("whsec_") or secret not in str(caught.value) or secret == "secret"


def test_all_kinds_can_be_subscribed_to() -> None:
    """The kinds that may be asked for are those that are published."""
    assert set(KINDS) == {kind.value for kind in EXTERNAL_KINDS}
    assert set(DEFAULT_KINDS) == set(KINDS) - {"TranscriptUtterance"}
