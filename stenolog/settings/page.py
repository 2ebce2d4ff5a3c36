"""The settings as a Markdown page, so that the documentation cannot differ from the program."""

from itertools import groupby

from stenolog.settings.model import Field, fields

_HEAD = """# Settings

Read from the command line's options, then the environment, then a file `.env` in the current directory; the first that
has a value wins, and an empty value counts as none. An unknown `STENOLOG_…` name or a bad value stops the start with an
error that names it. `STENOLOG_URL` and `STENOLOG_TOKEN` are options of client commands ([cli.md](cli.md)). This page is
generated: `python -m stenolog.settings > docs/settings.md`.
"""


def render() -> str:
    """Returns the whole page, a table for each group."""
    parts = [_HEAD]
    for group, members in groupby(fields(), key=lambda field: field.group):
        parts.append(f"\n## {group}\n\n| variable | default | allowed | why |\n|---|---|---|---|\n")
        parts.extend(_row(field) for field in members)
    return "".join(parts)


def _row(field: Field) -> str:
    default = field.default
    shown = ",".join(default) if isinstance(default, tuple) else str(default)
    shown = shown.lower() if isinstance(default, bool) else shown
    cell = "unset" if default in (None, "") else f"`{shown}`"
    return f"| `{field.variable}` | {cell} | {field.allowed} | {field.meta.description} |\n"
