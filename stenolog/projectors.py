"""The projections as a process."""

import asyncio
from collections.abc import Callable

from eventlog.heartbeats import process_name
from projections.feeds import Feeds
from projections.lists import Lists
from projections.projection import Projection
from projections.runtime import ProjectionRunner
from projections.sessions import Sessions
from projections.status import Status
from stenolog import wiring
from stenolog.metrics import exposed
from stenolog.settings import Settings

_MAKERS: dict[str, Callable[[Settings], Projection]] = {
    "lists": lambda _: Lists(),
    "feeds": lambda settings: Feeds(max_events=settings.feed_max_events),
    "sessions": lambda settings: Sessions(session_ttl_s=settings.session_ttl_s),
    "status": lambda _: Status(),
}


async def serve_projections(settings: Settings, stop: asyncio.Event) -> None:
    """Project until stopped, then finish the rounds under way."""
    async with wiring.connected(settings) as server, exposed(server.meter, settings, "project"):
        runner = ProjectionRunner(
            server, [_MAKERS[name](settings) for name in settings.projections], process_name(),
            session_ttl_s=settings.session_ttl_s, meter=server.meter,
        )
        try:
            await runner.start()
            await stop.wait()
        finally:
            await runner.stop()
