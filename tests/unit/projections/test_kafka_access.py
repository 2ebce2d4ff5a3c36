import ssl
from pathlib import Path

import pytest

from projections.kafka import Access, Kafka
from projections.kafka.access import Endpoint
from projections.kafka.publisher import make_credentials
from stenolog.settings import SettingsError, load


def shown(access: Access) -> dict[str, object]:
    """The settings that Faust's driver gives to its client for it."""
    from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth  # noqa: PLC0415 - Faust is heavy

    endpoint = Endpoint("kafka://nobody", access, access.context(), 1000)
    return {name: value for name, value in credentials_to_aiokafka_auth(make_credentials(endpoint)).items() if value}


def test_user_and_password_go_by_the_mechanism_that_is_set() -> None:
    """With a user the brokers are shown user and password, in the clear or inside TLS."""
    access = Access(user="ana", password="secret", mechanism="SCRAM-SHA-256")
    assert shown(access) == {
        "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-256", "sasl_plain_username": "ana",
        "sasl_plain_password": "secret",
    }
    assert shown(Access(tls=True, user="ana", mechanism="PLAIN"))["security_protocol"] == "SASL_SSL"


def test_tls_checks_names() -> None:
    """TLS to the brokers checks certificate and name."""
    context = shown(Access(tls=True))["ssl_context"]
    assert isinstance(context, ssl.SSLContext)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert shown(Access()) == {"security_protocol": "PLAINTEXT"}


def test_a_missing_file_is_reported_at_once(tmp_path: Path) -> None:
    """A sink whose certificate's file isn't there can't be made."""
    with pytest.raises(OSError, match="No such file"):
        Kafka("kafka://nobody", access=Access(tls=True, ca_file=str(tmp_path / "none.pem")))


def test_passwords_are_not_shown() -> None:
    """The password is neither in a repr of the access nor in one of the settings."""
    settings = load({"STENOLOG_KAFKA_PASSWORD": "marzipan"}, None)
    assert settings.kafka_password == "marzipan"
    assert "marzipan" not in repr(settings) + repr(Access(password="marzipan"))


@pytest.mark.parametrize("url", ["localhost:9092", "http://localhost", "kafka://", "kafka://ana:secret@host:9092"])
def test_addresses_of_brokers_are_checked(url: str) -> None:
    """An address of brokers that Faust wouldn't take, or that holds a password, is refused by its name."""
    with pytest.raises(SettingsError, match="STENOLOG_KAFKA_URL"):
        load({"STENOLOG_KAFKA_URL": url}, None)
    assert load({"STENOLOG_KAFKA_URL": "kafka://a:1;kafka://b:2"}, None).kafka_url == "kafka://a:1;kafka://b:2"
