"""The metadata of each setting: group, unit, bounds and the reason of its default."""

from msgspec import Meta


def text(group: str, why: str, *, pattern: str | None = None, allowed: str = "text") -> Meta:
    """A setting in words; `allowed` describes them, `pattern` matches them."""
    return Meta(description=why, pattern=pattern, extra={"group": group, "unit": "text", "allowed": allowed})


def flag(group: str, why: str) -> Meta:
    """A setting that is on or off."""
    return text(group, why, allowed="true or false")


def number(group: str, unit: str, why: str, *, least: float, most: float | None = None) -> Meta:
    """A setting that is a number, from `least` to `most`."""
    return Meta(ge=least, le=most, description=why, extra={"group": group, "unit": unit})
