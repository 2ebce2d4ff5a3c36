"""`stenolog up`: everything in one command."""

import asyncio
import json
import logging
import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
import uvloop

from stenolog import logs
from stenolog.cli.errors import FAILED, UNABLE, UserError, told
from stenolog.cli.roles import listen
from stenolog.cli.token import demo_token
from stenolog.local.demo import show
from stenolog.local.embedded import EmbeddedServer, EmbeddedServerError
from stenolog.local.supervisor import Role, Supervisor
from stenolog.roles.runner import stopped_by_signals
from stenolog.settings import Settings, SettingsError, load

logger = logging.getLogger(__name__)

READY_S = 120.0
"""Bound of the whole start: loading a large model from a slow disk takes a minute."""

GUARD_S = 1.0
"""Between two looks at the embedded server: edges hold their sockets for much longer than that."""

LAST_PORT = 65_535

READY_PAUSE_S = 0.1
"""Between two looks at /v1/ready while starting; a person does not notice it."""


def run(overrides: Mapping[str, Any], *, workers: int, edges: int, demo: bool, once: bool) -> None:
    """Start everything, say where it is, and serve until Ctrl-C or SIGTERM."""
    with told():
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
        """The roles will accept on `listener` and use the embedded server, or the Redis in the settings without one."""
        self._settings = settings
        self._listener = listener
        self._embedded = embedded
        self._redis_url = embedded.url if embedded is not None else settings.redis_url or ""
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        descriptor = listener.fileno()
        # Ended in this order: the edge tells its clients, the workers hand over, the projections finish the facts.
        self._roles = [
            *[Role("edge", ("edge", "--descriptor", str(descriptor)), (descriptor,)) for _ in range(edges)],
            *[Role("worker", ("worker",)) for _ in range(workers)],
            Role("projector", ("projector",)),
        ]
        self._metrics = _with_metrics(self._roles, settings)

    async def serve(self, *, demo: bool, once: bool) -> None:
        """Run until a signal, or until the demo is over if it is all there is to do.

        Raises:
            UserError: if a role can't run, or nothing is ready in time.
        """
        stop = asyncio.Event()
        supervisor = Supervisor(self._roles, self._environment())
        with stopped_by_signals(stop):
            guard = asyncio.create_task(self._guard_redis())
            try:
                await supervisor.start()
                await self._until(stop, supervisor, self._work(supervisor, stop, demo=demo, once=once))
            finally:
                self._listener.close()
                await supervisor.stop()
                guard.cancel()
        logger.info("stopped")

    async def _work(self, supervisor: Supervisor, stop: asyncio.Event, *, demo: bool, once: bool) -> None:
        await self._ready()
        supervisor.was_ready = True
        self._announce(supervisor)
        if demo:
            await show(self.url, demo_token(self._settings))
        if not once:
            if demo:
                print(f"Serving at {self.url}; Ctrl-C ends it.")
            await stop.wait()

    async def _until(self, stop: asyncio.Event, supervisor: Supervisor, work: Any) -> None:  # noqa: ANN401 - a coroutine
        """Do the work until it is done, a signal came, or a role turned out to be unable to run."""
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
        deadline = asyncio.get_running_loop().time() + READY_S
        while (missing := await asyncio.to_thread(_missing, self.url)) is not None:
            if asyncio.get_running_loop().time() > deadline:
                raise UserError(f"not ready within {READY_S:.0f} s: {missing}", FAILED)
            await asyncio.sleep(READY_PAUSE_S)

    async def _guard_redis(self) -> None:
        """Start the embedded server again whenever it died; its data is on disk."""
        while self._embedded is not None:
            await asyncio.sleep(GUARD_S)
            try:
                if await asyncio.to_thread(self._embedded.ensure):
                    logger.warning("the embedded Valkey had died and was started again")
            except EmbeddedServerError:
                logger.exception("the embedded Valkey can't be started again")

    def _announce(self, supervisor: Supervisor) -> None:
        told = {
            "url": self.url,
            "stream": self.url.replace("http", "ws", 1) + "/v1/transcribe/stream",
            "redis": _without_password(self._redis_url),
            "try": f"stenolog transcribe FILE.wav --url {self.url}",
        }
        if not sys.stderr.isatty():
            logger.info("ready", extra={**told, "pids": supervisor.pids, "metrics": self._metrics})
            return
        click.secho("Stenolog is ready.", fg="green", err=True)
        for name, value in told.items():
            click.echo(f"  {name:<8}{value}", err=True)
        for where in self._metrics:
            click.echo(f"  metrics {where['url']}  ({where['role']})", err=True)

    def _environment(self) -> dict[str, str]:
        """What the roles read: this process's environment, with what the options overruled."""
        given = {
            "REDIS_URL": self._redis_url,
            "STENOLOG_HOST": self._settings.host, "STENOLOG_PORT": str(self._settings.port),
            "STENOLOG_DATA_DIR": self._settings.data_dir, "STENOLOG_ENGINE": self._settings.engine,
        }
        return {**os.environ, **given}


def _with_metrics(roles: Sequence[Role], settings: Settings) -> list[dict[str, str]]:
    """Give each process a port for its metrics, if there shall be any, and say where which are.

    Raises:
        UserError: if there are fewer ports than processes.
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
    """What the edge says is missing; None if it is ready."""
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
