"""Script calls that hold many items each, of which one that fails does not fail the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from redis.exceptions import ResponseError

from eventlog.log import LogUnavailableError
from eventlog.redis.server import Call, Server

T = TypeVar("T")


async def run_isolated(
    server: Server, items: Sequence[T], partition_of: Callable[[T], int], most: int,
    call: Callable[[Sequence[T]], Call],
) -> list[Any]:  # fmt: skip
    """Each item's answer or exception, in order, of calls that hold up to `most` items.

    A call answers a list of as many, or one value for all. Where a script fails at one item, the items of its call are
    asked again, each alone, so that the others continue.

    Raises:
        LogUnavailableError: if every call failed by that.
    """
    parts = [
        group[first : first + most]
        for group in server.groups(list(enumerate(items)), lambda one: partition_of(one[1]))
        for first in range(0, len(group), most)
    ]
    answers: list[Any] = [None] * len(items)
    while parts:
        found, _ = await server.run_waiting([call([item for _, item in part]) for part in parts], 0, 0)
        if all(isinstance(answer, LogUnavailableError) for answer in found):
            raise found[0]
        again: list[list[tuple[int, T]]] = []
        for part, answer in zip(parts, found, strict=True):
            if isinstance(answer, ResponseError) and len(part) > 1:
                again += ([one] for one in part)
                continue
            each = answer if isinstance(answer, list) else [answer] * len(part)
            for (number, _), one in zip(part, each, strict=True):
                answers[number] = one
        parts = again
    return answers
