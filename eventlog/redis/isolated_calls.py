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
    """Each item's answer or exception, in order, of calls that hold up to `most` items and answer a list of as many.

    Where a script fails at one item, the items of its call are asked again, each alone, so that the others go on.

    Raises:
        LogUnavailableError: if every call failed by that.
    """
    parts = [
        group[first : first + most]
        for group in server.groups(list(enumerate(items)), lambda one: partition_of(one[1]))
        for first in range(0, len(group), most)
    ]
    calls = [call([item for _, item in part]) for part in parts]
    try:
        found = await server.run_many(calls)
    except ResponseError:
        found = [await _run_alone(server, one) for one in calls]
    if found and all(isinstance(answer, LogUnavailableError) for answer in found):
        raise found[0]
    answers: list[Any] = [None] * len(items)
    for part, answer in zip(parts, found, strict=True):
        each: list[Any] = answer
        if isinstance(answer, LogUnavailableError):
            each = [answer] * len(part)
        elif isinstance(answer, Exception):
            alone = [await _run_alone(server, call([item])) for _, item in part]
            each = [one if isinstance(one, Exception) else one[0] for one in alone]
        for (number, _), one in zip(part, each, strict=True):
            answers[number] = one
    return answers


async def _run_alone(server: Server, call: Call) -> Any:  # noqa: ANN401 - a script's answer has the script's own shape
    try:
        return await server.run(call.script, call.keys, call.arguments)
    except (ResponseError, LogUnavailableError) as error:
        return error
