"""The Lua scripts: one file each, with shared parts pulled in by ``--- @include "name"`` lines.

A script stands under ``eventlog/redis/lua``. `script` reads the file once; `eventlog.redis.server` loads it where
Redis does not know it yet.
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
    """Return the script `name`.lua with its includes.

    Raises:
        FileNotFoundError: if the file, or one that it includes, does not exist.
    """
    text = _INCLUDE.sub(
        lambda match: (_FOLDER / "includes" / f"{match['name']}.lua").read_text(encoding="utf-8"),
        (folder / f"{name}.lua").read_text(encoding="utf-8"),
    )
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
