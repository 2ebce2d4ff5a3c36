"""The product's own `Server` over fakeredis: no process, no socket, the product's own Lua scripts."""

import re
from collections.abc import Sequence
from typing import Any

import fakeredis

from eventlog.keys import Keys
from eventlog.redis.server import Argument, Server

SHEBANG = re.compile(r"\A#!lua[^\n]*\n")
"""The first line of each script, which fakeredis hands to Lua, where it is a syntax error."""


class FakeServer(Server):
    """One fake Redis; scripts run without their first line, and so without its flags."""

    def __init__(self, partitions: int) -> None:
        """Start empty."""
        super().__init__(fakeredis.FakeAsyncRedis(protocol=2, max_connections=1_000), Keys(partitions), "fake://")
        for command in [name for name in self.client.response_callbacks if str(name).upper().startswith("X")]:
            del self.client.response_callbacks[command]  # raw replies, as `connect` does

    async def _pipelined(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        return await super()._pipelined([_without_shebang(command) for command in commands])


def _without_shebang(command: tuple[Argument, ...]) -> tuple[Argument, ...]:
    if command[0] != "EVAL":
        return command
    return command[0], SHEBANG.sub("\n", str(command[1])), *command[2:]
