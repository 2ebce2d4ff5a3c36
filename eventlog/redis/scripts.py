"""The Lua scripts: one file each, with shared parts pulled in by ``--- @include "name"`` lines.

A script stands under ``eventlog/redis/lua``. `script` reads the file once; `eventlog.redis.server` loads
it where it isn't known yet.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

_FOLDER = Path(__file__).parent / "lua"
_INCLUDE = re.compile(r'^--- @include "(?P<name>[a-z_]+)"$', re.MULTILINE)


class Script(NamedTuple):
    """A script's text as sent, and the SHA-1 that EVALSHA names it by."""

    name: str
    text: str
    sha1: str


@cache
def script(name: str, folder: Path = _FOLDER) -> Script:
    """The script `name`.lua with its includes.

    Raises:
        FileNotFoundError: if there is no such file, or an include names none.
    """
    text = _INCLUDE.sub(_included, (folder / f"{name}.lua").read_text(encoding="utf-8"))
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _included(match: re.Match[str]) -> str:
    return (_FOLDER / "includes" / f"{match['name']}.lua").read_text(encoding="utf-8")
