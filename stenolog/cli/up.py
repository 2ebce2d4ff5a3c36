"""`stenolog up`: everything in one command."""

import asyncio
import json
import logging
import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
import uvloop

from eventlog.service import periodically
from stenolog import logs
from stenolog.cli.options import ExampleCommand, options
from stenolog.cli.token import mint
from stenolog.cli.transcribe import stream
from stenolog.errors import UNABLE, UserError
from stenolog.local import demo as bundled
from stenolog.local.embedded import EmbeddedServer, EmbeddedServerError
from stenolog.local.supervisor import Role, Supervisor
from stenolog.roles.listener import listen
from stenolog.roles.runner import stopped_by_signals
from stenolog.settings import Settings, SettingsError, load

logger = logging.getLogger(__name__)

READY_TIMEOUT_S = 120.0
"""Bound of the whole start: loading a large model from a slow disk takes a minute."""

CHECK_PERIOD_S = 1.0
"""Between two checks of the embedded server: edges hold their sockets for much longer than that."""

READY_PERIOD_S = 0.1
"""Between two requests of /v1/ready while starting; a person does not notice it."""

DEMO_TOKEN_TTL_S = 3600
"""Longer than the recording."""

LAST_PORT = 65_535


@click.command(cls=ExampleCommand, epilog=(
    "stenolog up                        everything, with an embedded Valkey under ./data\n"
    "stenolog up --demo --once          show it on a recording, then stop\n"
    "REDIS_URL=redis://db:6379 stenolog up --workers 4"
))
@options("host", "port", "data", "engine", "metrics")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Worker processes.")
@click.option("--edges", type=click.IntRange(1, 64), default=1, show_default=True, help="Edge processes on one port.")
@click.option("--demo", is_flag=True, help="Stream the bundled recording and show its captions.")
@click.option("--once", is_flag=True, help="With --demo: stop after the recording.")
def up(*, workers: int, edges: int, demo: bool, once: bool, **overrides: Any) -> None:  # noqa: ANN401 - settings have many types
    """Start everything in one command: Redis (unless REDIS_URL is set), edge, workers, projections.

    Each role is a process of its own; one that exits is started again. Ctrl-C ends all of them in order.
    """
    if once and not demo:
        raise click.UsageError("--once goes with --demo")
    settings = load(**overrides)
    logs.configure("up", settings.log_level)
    with listen(settings) as listener, _embedded(settings) as embedded:
        deployment = Deployment(settings, listener, embedded, workers=workers, edges=edges)
        uvloop.run(deployment.serve(demo=demo, once=once))


@contextmanager
def _embedded(settings: Settings) -> Iterator[EmbeddedServer | None]:
    if settings.redis_url is not None:
        yield None
        return
    if settings.durability.startswith("wait:"):
        problem = f"STENOLOG_DURABILITY: {settings.durability} needs replicas, and the embedded server has none"
        raise SettingsError([f"{problem}; set REDIS_URL, or STENOLOG_DURABILITY=safe"])
    with EmbeddedServer(settings.data_dir, sync_always=settings.durability == "safe") as server:
        if server.adopted:
            logger.info("adopted the Valkey that an earlier run left in %s", settings.data_dir)
        yield server


class Deployment:
    """All roles of `stenolog up`."""

    def __init__(
        self, settings: Settings, listener: socket.socket, embedded: EmbeddedServer | None, *, workers: int, edges: int
    ) -> None:
        """Let the roles accept on `listener` and use the embedded server, or without one the Redis of the settings."""
        self._settings = settings
        self._listener = listener
        self._embedded = embedded
        self._redis_url = embedded.url if embedded is not None else settings.redis_url or ""
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        descriptor = listener.fileno()
        # Ended in this order: the edge notifies its clients, the workers hand over, the projections finish the facts.
        self._roles = [
            *[Role("edge", ("edge", "--descriptor", str(descriptor)), (descriptor,)) for _ in range(edges)],
            *[Role("worker", ("worker",)) for _ in range(workers)],
            Role("projector", ("projector",)),
        ]
        self._metrics = _with_metrics(self._roles, settings)

    async def serve(self, *, demo: bool, once: bool) -> None:
        """Run until a signal, or until the demo is over if nothing else is to do.

        Raises:
            UserError: if a role can't run, or nothing is ready in time.
        """
        stop = asyncio.Event()
        supervisor = Supervisor(self._roles, self._environment())
        with stopped_by_signals(stop):
            guard = asyncio.create_task(self._guard_redis(self._embedded)) if self._embedded is not None else None
            try:
                await supervisor.start()
                await self._until(stop, supervisor, self._work(supervisor, stop, demo=demo, once=once))
            finally:
                self._listener.close()
                await supervisor.stop()
                if guard is not None:
                    guard.cancel()
        logger.info("stopped")

    async def _work(self, supervisor: Supervisor, stop: asyncio.Event, *, demo: bool, once: bool) -> None:
        await self._ready()
        supervisor.was_ready = True
        self._announce(supervisor)
        if demo:
            await self._demonstrate()
        if not once:
            if demo:
                print(f"Serving at {self.url}; Ctrl-C ends it.")
            await stop.wait()

    async def _until(self, stop: asyncio.Event, supervisor: Supervisor, work: Any) -> None:  # noqa: ANN401 - a coroutine
        """Do the work until it is done, a signal came, or a role proved unable to run."""
        task = asyncio.create_task(work)
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({task, stopped, supervisor.failed}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if supervisor.failed.done():
            raise UserError(f"{supervisor.failed.result()} can't run; its message is above", UNABLE)
        if not task.cancelled():
            await task

    async def _ready(self) -> None:
        deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
        while (missing := await asyncio.to_thread(_missing, self.url)) is not None:
            if asyncio.get_running_loop().time() > deadline:
                raise UserError(f"not ready within {READY_TIMEOUT_S:.0f} s: {missing}")
            await asyncio.sleep(READY_PERIOD_S)

    async def _demonstrate(self) -> None:
        """Stream the bundled recording in real time, with captions, and print its transcript."""
        paths, token = bundled.recordings(), os.environ.get("STENOLOG_TOKEN", "")
        duration_s = sum(len(block) for block in bundled.blocks(paths)) / (2 * bundled.RATE_HZ)
        if self._settings.auth == "hs256":
            token = mint(
                self._settings, tenant="demo", subject="demo", scopes=("ingest", "read"), ttl_s=DEMO_TOKEN_TTL_S
            )
        end = await stream(
            bundled.blocks(paths), self.url, sample_rate_hz=bundled.RATE_HZ, duration_s=duration_s, realtime=True,
            token=token,
        )  # fmt: skip
        print(end.get("transcript") or "", flush=True)

    async def _guard_redis(self, embedded: EmbeddedServer) -> None:
        """Start the embedded server again whenever it died; its data is on disk."""

        async def ensure() -> None:
            try:
                if await asyncio.to_thread(embedded.ensure):
                    logger.warning("embedded Valkey died; started again")
            except EmbeddedServerError:
                logger.exception("embedded Valkey not started again; trying later")

        await periodically(CHECK_PERIOD_S, ensure, name="guard embedded server")

    def _announce(self, supervisor: Supervisor) -> None:
        facts = {
            "url": self.url,
            "stream": self.url.replace("http", "ws", 1) + "/v1/transcribe/stream",
            "redis": _without_password(self._redis_url),
            "try": f"stenolog transcribe FILE.wav --url {self.url}",
        }
        if not sys.stderr.isatty():
            logger.info("ready", extra={**facts, "pids": supervisor.pids, "metrics": self._metrics})
            return
        click.secho("Stenolog is ready.", fg="green", err=True)
        for name, value in facts.items():
            click.echo(f"  {name:<8}{value}", err=True)
        for endpoint in self._metrics:
            click.echo(f"  metrics {endpoint['url']}  ({endpoint['role']})", err=True)

    def _environment(self) -> dict[str, str]:
        """The roles' environment: this process's own, overruled by the options."""
        given = {
            "REDIS_URL": self._redis_url,
            "STENOLOG_HOST": self._settings.host, "STENOLOG_PORT": str(self._settings.port),
            "STENOLOG_DATA_DIR": self._settings.data_dir, "STENOLOG_ENGINE": self._settings.engine,
        }
        return {**os.environ, **given}


def _with_metrics(roles: Sequence[Role], settings: Settings) -> list[dict[str, str]]:
    """Give each process a port for its metrics, if a first port is set; returns their addresses.

    Raises:
        UserError: if the ports do not suffice.
    """
    first = settings.metrics_port
    if first and first + len(roles) - 1 > LAST_PORT:
        raise UserError(f"--metrics-port {first}: {len(roles)} processes need as many ports, up to {LAST_PORT}", UNABLE)
    for number, role in enumerate(roles):
        role.arguments = (*role.arguments, "--metrics-port", str(first and first + number))
    host = f"[{settings.metrics_host}]" if ":" in settings.metrics_host else settings.metrics_host
    return [
        {"role": role.name, "url": f"http://{host}:{first + number}/metrics"} for number, role in enumerate(roles)
    ] if first else []


def _missing(url: str) -> str | None:
    """Why the edge is not ready, in its own words; None if it is."""
    try:
        with urllib.request.urlopen(f"{url}/v1/ready", timeout=5) as answer:  # noqa: S310 - our own http address
            return None if json.load(answer)["projections"] else "no projection runs yet"
    except urllib.error.HTTPError as error:
        return error.read().decode(errors="replace")
    except OSError as error:
        return str(error)


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
