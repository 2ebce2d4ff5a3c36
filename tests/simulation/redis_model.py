"""An in-memory model of Redis: the commands that the log's scripts and callers use, with an injected clock."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from tests.simulation.key_commands import Status, Store
from tests.simulation.lua import Scripts
from tests.simulation.stream_commands import STREAM_COMMANDS
from tests.simulation.streams import CommandError

Observer = Callable[[str, Sequence[str], Sequence[bytes]], Callable[[Any], None] | None]
"""Called before each script, with its SHA-1, keys and arguments; returns a function for the reply, or None."""


class RedisModel:
    """Executes commands one at a time, as Redis does; the scripts are the product's own."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        """Take the time from `now_ms`, Unix ms."""
        self.store = Store(now_ms)
        self._scripts = Scripts(self._command)
        self._known: set[str] = set()
        self.observer: Observer | None = None
        self.published: list[tuple[str, bytes]] = []
        """Published messages, which the network takes out."""

    def execute(self, command: Sequence[Any]) -> Any:  # noqa: ANN401 - as Redis, a shape for each command
        """A command's answer.

        Raises:
            CommandError: if it is refused.
        """
        name, *arguments = (_bytes(part) for part in command)
        upper = name.decode().upper()
        if upper in ("EVALSHA", "EVAL"):
            return self._evaluate(upper, arguments)
        return self._command(upper, arguments)

    def _command(self, name: str, arguments: list[bytes]) -> Any:  # noqa: ANN401 - as above
        if name in ("SPUBLISH", "PUBLISH"):
            self.published.append((arguments[0].decode(), arguments[1]))
            return 0
        found = STREAM_COMMANDS.get(name)
        if found:
            return found(self.store, arguments)
        return self.store.execute(name, arguments)

    def _evaluate(self, name: str, arguments: list[bytes]) -> Any:  # noqa: ANN401 - as above
        text, count, rest = arguments[0].decode(), int(arguments[1]), arguments[2:]
        sha1 = text
        if name == "EVAL":
            sha1 = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            self._scripts.load(sha1, text)
            self._known.add(sha1)
        elif sha1 not in self._known:
            raise CommandError("NOSCRIPT No matching script.")
        keys = rest[:count]
        observe_reply = self.observer(sha1, [key.decode() for key in keys], rest[count:]) if self.observer else None
        answer = self._scripts.run(sha1, keys, rest[count:])
        if observe_reply:
            observe_reply(answer)
        return answer

    def forget_scripts(self) -> None:
        """Forget every script, as a restarted server does."""
        self._known.clear()


def _bytes(part: Any) -> bytes:  # noqa: ANN401 - whatever a client may send
    if isinstance(part, bytes):
        return part
    return part.encode() if isinstance(part, str) else repr(part).encode()


__all__ = ["CommandError", "RedisModel", "Status"]
