"""What stands beside each setting: group, unit, bounds and why its default is what it is."""

from msgspec import Meta


def text(group: str, why: str, *, pattern: str | None = None, allowed: str = "text") -> Meta:
    """A setting in words; `allowed` says which ones, `pattern` holds it to that."""
    return Meta(description=why, pattern=pattern, extra={"group": group, "unit": "text", "allowed": allowed})


def number(group: str, unit: str, why: str, *, least: float, most: float | None = None) -> Meta:
    """A setting that is a number, from `least` to `most`."""
    return Meta(ge=least, le=most, description=why, extra={"group": group, "unit": unit})
