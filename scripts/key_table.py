"""Prints the table of Redis keys in ARCHITECTURE.md, drawn from eventlog/keys.py: `python -m scripts.key_table`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from eventlog import keys

EXAMPLE_SESSION = "0b9f6c1e-3f5a-4c0e-9d1b-6a52a7a7b001"
"""Any id will do; this one only has to look like one."""

_DEPLOYMENT_KEYS: tuple[tuple[Callable[..., str], tuple[Any, ...]], ...] = (
    (keys.partition_count, ()),
    (keys.reservations, ()),
    (keys.tenant_reservations, ("<tenant>",)),
    (keys.request_count, ("<tenant>", "<minute>")),
    (keys.ticket, ("<sha256>",)),
    (keys.status_channel, ("<session>",)),
    (keys.heartbeats, ()),
)


def rows() -> Iterator[tuple[str, str]]:
    """Each key's shape and what its docstring says of it."""
    for function, arguments in _DEPLOYMENT_KEYS:
        yield function(*arguments), inspect.getdoc(function) or ""
    session = keys.Keys(1).of(EXAMPLE_SESSION)
    queue = session.partition.queue("<engine>")
    for holder in (session.partition, queue, session, session.upload, session.run("<run>")):
        for name, member in vars(type(holder)).items():
            if not name.startswith("_") and (shape := _shape(holder, name, member)):
                yield _generic(shape, session.partition.tag), inspect.getdoc(_function(member)) or ""


def table() -> str:
    """The table as Markdown."""
    lines = ["| key | what it is |", "|---|---|"]
    lines += [f"| `{shape}` | {' '.join(text.split())} |" for shape, text in rows()]
    return "\n".join(lines) + "\n"


def _function(member: Any) -> Any:  # noqa: ANN401 - a function, property or cached property
    if isinstance(member, cached_property):
        return member.func
    return member.fget if isinstance(member, property) else member


def _shape(holder: object, name: str, member: Any) -> str:  # noqa: ANN401 - whatever a class holds
    if isinstance(member, cached_property | property):
        value = getattr(holder, name)
    elif callable(member) and len(names := list(inspect.signature(member).parameters)) == 2:  # noqa: PLR2004 - self, and what it is of
        value = member(holder, f"<{names[1].removesuffix('_id')}>")
    else:
        return ""
    return value if isinstance(value, str) and value.startswith("{") else ""


def _generic(shape: str, tag: str) -> str:
    return shape.replace(tag, "tag").replace(EXAMPLE_SESSION, "<session>")


if __name__ == "__main__":
    sys.stdout.write(table())
