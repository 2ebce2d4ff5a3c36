"""The projector role: the projections and forwarders that the settings name, as one process."""

import asyncio
from collections.abc import Callable

from eventlog.redis.server import Server
from eventlog.work.heartbeats import process_name
from projections.feeds import Feeds
from projections.forwarding.sink import Sink
from projections.lists import Lists
from projections.projection import Projection
from projections.runner import Forwarding, ProjectionRunner
from projections.sessions import Sessions
from projections.status import Status
from stenolog import wiring
from stenolog.roles.metrics_endpoint import exposed
from stenolog.roles.runner import serve
from stenolog.settings import Settings, SettingsError

_READ_MODELS: dict[str, Callable[[Settings], Projection]] = {
    "lists": lambda _: Lists(),
    "feeds": lambda settings: Feeds(max_events=settings.feed_max_events),
    "sessions": lambda settings: Sessions(session_ttl_s=settings.session_ttl_s),
    "status": lambda _: Status(),
}


def read_model(name: str, settings: Settings) -> Projection:
    """Make the projection of that name, one of `eventlog.keys.READ_MODELS`."""
    return _READ_MODELS[name](settings)


def _eventbridge(settings: Settings, _: Server) -> Sink:
    from projections.eventbridge import EventBridge, EventBridgeSettings  # noqa: PLC0415 - sinks' clients are heavy

    return EventBridge(EventBridgeSettings(
        source=settings.event_source, bus_name=settings.eventbridge_bus_name, region=settings.aws_region,
        endpoint_url=settings.aws_endpoint_url, bucket=settings.eventbridge_bucket,
        encryption=settings.eventbridge_encryption, max_bytes=settings.eventbridge_max_bytes,
    ))  # fmt: skip


def _kafka(settings: Settings, _: Server) -> Sink:
    from projections.kafka import Access, Kafka, KafkaMissingError  # noqa: PLC0415

    access = Access(
        tls=settings.kafka_tls, ca_file=settings.kafka_ca_file, cert_file=settings.kafka_cert_file,
        key_file=settings.kafka_key_file, user=settings.kafka_user, password=settings.kafka_password,
        mechanism=settings.kafka_sasl,
    )  # fmt: skip
    try:
        return Kafka(settings.kafka_url, access=access, most_bytes=settings.kafka_max_bytes)
    except KafkaMissingError as error:
        raise SettingsError([f"STENOLOG_PROJECTIONS: {error}"]) from error
    except OSError as error:
        raise SettingsError([f"STENOLOG_KAFKA_CA_FILE and its like can't be used: {error}"]) from error


def _webhooks(settings: Settings, server: Server) -> Sink:
    from projections.webhooks import Webhooks  # noqa: PLC0415

    return Webhooks(server, private=settings.webhook_allow_private, timeout_s=settings.webhook_timeout_s)


def _archive(settings: Settings, server: Server) -> Sink:
    from eventlog.archive.location import open_store  # noqa: PLC0415
    from eventlog.archive.progress import ArchiveProgress  # noqa: PLC0415
    from projections.archive import Archive  # noqa: PLC0415

    location = wiring.archive_place(settings)
    if location is None:
        raise SettingsError(["STENOLOG_ARCHIVE_URL: the projection archive needs to know where to keep sessions"])
    progress = ArchiveProgress(
        server, part_s=settings.archive_part_s, frees=settings.audio_retention == "archived"
    )
    return Archive(open_store(location), progress, session_ttl_s=settings.session_ttl_s)


_SINKS: dict[str, Callable[[Settings, Server], Sink]] = {
    "eventbridge": _eventbridge, "kafka": _kafka, "webhooks": _webhooks, "archive": _archive,
}  # fmt: skip


async def serve_projections(settings: Settings, stop: asyncio.Event) -> None:
    """Project and forward until stopped, then finish the rounds under way.

    Raises:
        Exception: the error of the first projection or forwarder that ends by itself.
    """
    async with wiring.connected(settings) as server, exposed(server.meter, settings, "projector"):
        projections = [read_model(name, settings) for name in settings.projections if name in _READ_MODELS]
        runner = ProjectionRunner(
            server, projections, process_name(), session_ttl_s=settings.session_ttl_s, meter=server.meter,
            forwarding=Forwarding(
                [_SINKS[name](settings, server) for name in settings.projections if name in _SINKS],
                lease_ms=settings.sink_lease_ms, give_up_s=settings.sink_retry_timeout_s,
                with_words=settings.forward_words,
            ),
        )
        await serve(stop, runner)
