"""Projections, and the sinks that events are forwarded to."""

from typing import Annotated, Literal

from stenolog.settings.groups.metadata import flag, number, text
from stenolog.settings.groups.recordings import Recordings

Projection = Literal["lists", "feeds", "sessions", "status", "eventbridge", "kafka", "webhooks", "archive"]


class Projections(Recordings, frozen=True, kw_only=True):
    """Projections, and the sinks that events are forwarded to."""

    projections: Annotated[tuple[Projection, ...], text(
        "Projections", "Read models and sinks that this deployment runs, in `stenolog up` and `stenolog projector`, "
        "separated by commas.")] = ("lists", "feeds", "sessions", "status", "eventbridge", "webhooks")
    sink_lease_ms: Annotated[int, number(
        "Projections", "ms", "How long a process keeps a partition of a sink without a heartbeat; then another "
        "forwards its events.", least=1000)] = 10_000
    sink_retry_timeout_s: Annotated[float, number(
        "Projections", "s", "How long a failing event is retried, with growing pauses, before it becomes a dead "
        "letter. Longer than most outages; well below `session_ttl_s`, with which its facts expire.", least=0)] = 3600.0
    forward_words: Annotated[bool, flag(
        "Projections", "Whether the events of utterances and of finished recordings hold each word with its times. "
        "They are six to eight times as large then; a recording's are left out where they would exceed a sink's size "
        "limit.")] = False
    event_source: Annotated[str, text(
        "Projections", "Source that EventBridge events name.")] = "com.yourapp.transcription"
    eventbridge_bus_name: Annotated[str, text(
        "Projections", "EventBridge bus for events of finished recordings: name or ARN.")] = "default"
    aws_region: Annotated[str, text(
        "Projections", "Region of that bus. boto3's own chain finds the credentials.")] = "us-east-1"
    aws_endpoint_url: Annotated[str, text(
        "Projections", "Address of an emulator in place of AWS.")] = ""
    eventbridge_bucket: Annotated[str, text(
        "Projections", "S3 bucket for events above EventBridge's size limit, which are forwarded by reference. Unset: "
        "they become dead letters.")] = ""
    eventbridge_encryption: Annotated[Literal["AES256", "aws:kms", "bucket"], text(
        "Projections", "Encryption of objects in that bucket, requested with each. `bucket`: the bucket's own "
        "default, which a key of your own needs.")] = "AES256"
    eventbridge_max_bytes: Annotated[int, number(
        "Projections", "bytes", "Largest event, and largest request, to EventBridge. It accepts 1 MB, and SQS 1 MiB "
        "with the envelope; some regions, such as those in China, still have a limit of 256 KB.",
        least=10_000, most=1_048_576)] = 1_000_000
    kafka_url: Annotated[str, text(
        "Projections", "Kafka brokers of the sink `kafka`, several separated by semicolons.",
        pattern=r"^kafka://[^/@;]+(;kafka://[^/@;]+)*$", allowed="kafka://host:9092")] = "kafka://localhost:9092"
    kafka_max_bytes: Annotated[int, number(
        "Projections", "bytes", "Largest record for Kafka, larger ones become dead letters: just under the brokers' "
        "own default (`message.max.bytes`). Hours of speech fit; raise both together.", least=10_000)] = 1_000_000
    kafka_tls: Annotated[bool, flag(
        "Projections", "Whether the connections to the brokers use TLS.")] = False
    kafka_ca_file: Annotated[str, text(
        "Projections", "Certificates (PEM) of the authority that signed the brokers'. Unset: the system's own.")] = ""
    kafka_cert_file: Annotated[str, text(
        "Projections", "Certificate (PEM) to show to brokers that ask their clients for one.")] = ""
    kafka_key_file: Annotated[str, text(
        "Projections", "Key (PEM) of `kafka_cert_file`.")] = ""
    kafka_user: Annotated[str, text(
        "Projections", "User for the brokers (SASL). Unset: no login.")] = ""
    kafka_password: Annotated[str, text(
        "Projections", "Password of `kafka_user`.")] = ""
    kafka_sasl: Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], text(
        "Projections", "Mechanism of the login at the brokers. The first only over TLS.")] = "SCRAM-SHA-512"
    webhook_allow_private: Annotated[bool, flag(
        "Projections", "Whether webhooks may go to private and loopback addresses and by plain HTTP. Tenants choose "
        "the addresses, and this machine may reach more than they may.")] = False
    webhook_timeout_s: Annotated[float, number(
        "Projections", "s", "Bound of one webhook request.", least=0.1)] = 10.0
