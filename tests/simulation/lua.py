"""Runs the product's own Lua scripts against the model, in a Lua 5.1 as Redis has it."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from lupa import lua51  # type: ignore[import-untyped]

from tests.simulation.key_commands import Status
from tests.simulation.streams import CommandError

Command = Callable[[str, list[bytes]], Any]


class Scripts:
    """Compiled scripts by SHA-1; compiled once per process, since an example lasts milliseconds."""

    def __init__(self, command: Command) -> None:
        """Let scripts call `command`, by name and arguments."""
        self._redis = _runtime().table_from({b"call": self._call, b"pcall": self._pcall})
        self._command = command

    def load(self, sha1: str, text: str) -> None:
        """Make a script known."""
        _compiled(sha1, text)
        _texts[sha1] = text

    def run(self, sha1: str, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:  # noqa: ANN401 - the script's own shape
        """A script's answer, as Redis converts it.

        Raises:
            CommandError: if the script fails.
        """
        lua = _runtime()
        function = _compiled(sha1, _texts[sha1])
        try:
            return _answer(function(lua.table_from(keys), lua.table_from(arguments), self._redis, _cjson()))
        except lua51.LuaError as error:
            raise CommandError(f"ERR {error}") from error

    def _call(self, name: bytes, *arguments: Any) -> Any:  # noqa: ANN401 - Lua values
        return _to_lua(self._command(name.decode().upper(), [_argument(one) for one in arguments]))

    def _pcall(self, name: bytes, *arguments: Any) -> Any:  # noqa: ANN401 - Lua values
        try:
            return self._call(name, *arguments)
        except CommandError as error:
            return _runtime().table_from({b"err": str(error).encode()})


_texts: dict[str, str] = {}


@cache
def _runtime() -> Any:  # noqa: ANN401 - lupa has no types
    return lua51.LuaRuntime(encoding=None, register_eval=False)


@cache
def _cjson() -> Any:  # noqa: ANN401 - as above
    def encode(table: Any) -> bytes:  # noqa: ANN401 - as above
        # Lists of text alone, which is all that the scripts encode; cjson escapes slashes.
        return json.dumps([one.decode() for one in table.values()], separators=(",", ":")).replace("/", "\\/").encode()

    return _runtime().table_from({b"encode": encode})


@cache
def _compiled(sha1: str, text: str) -> Any:  # noqa: ANN401, ARG001 - as above; named by its hash alone
    body = text.partition("\n")[2] if text.startswith("#!") else text
    return _runtime().execute(b"return function(KEYS, ARGV, redis, cjson)\n" + body.encode() + b"\nend")


def _argument(value: Any) -> bytes:  # noqa: ANN401 - a Lua value
    if isinstance(value, bytes):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.17g}".encode()
    raise CommandError("ERR Lua redis lib command arguments must be strings or integers")


def _to_lua(answer: Any) -> Any:  # noqa: ANN401 - a command's answer
    if answer is None:
        return False
    if isinstance(answer, Status):
        return _runtime().table_from({b"ok": bytes(answer)})
    if isinstance(answer, list):
        return _runtime().table_from([_to_lua(one) for one in answer])
    return answer


def _answer(value: Any) -> Any:  # noqa: ANN401 - a Lua value
    if value is None or value is False:
        return None
    if value is True:
        return 1
    if isinstance(value, bytes):
        return value
    if isinstance(value, int | float):
        return int(value)
    if (error := value[b"err"]) is not None:
        raise CommandError(error.decode())
    if (status := value[b"ok"]) is not None:
        return Status(status)
    found = []
    for number in range(1, len(value) + 1):
        if value[number] is None:
            break
        found.append(_answer(value[number]))
    return found
