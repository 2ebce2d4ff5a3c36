"""The settings themselves: a field each, whose metadata says group, unit, bounds and why the default is what it is."""

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from stenolog.settings.groups.archive import Archive
from stenolog.settings.groups.projections import Projection

# Named as other tools name them; everything else has the prefix STENOLOG_.
PLAIN_NAMES = {
    name: name.upper() for name in (
        "redis_url", "mock_tenant_id", "mock_user_id", "event_source", "eventbridge_bus_name", "aws_region",
        "aws_endpoint_url",
    )
}
PREFIX = "STENOLOG_"
# Never shown: not in an error, not in a repr.
SECRETS = frozenset({"openai_api_key", "redis_url", "auth_secret", "kafka_password"})


class Settings(Archive, frozen=True, kw_only=True):
    """All settings of one process.

    Every role reads what concerns it; the unit is in the name or, for counts, in the metadata.
    """

    def __repr__(self) -> str:
        """All fields, secrets hidden, since a repr ends up in logs."""
        shown = ((field.name, "…" if field.name in SECRETS and getattr(self, field.name) else
                  repr(getattr(self, field.name))) for field in fields())
        return f"Settings({', '.join(f'{name}={value}' for name, value in shown)})"


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One setting: its names, type, metadata and default."""

    name: str
    variable: str
    annotation: Any
    meta: Meta
    default: Any

    @property
    def group(self) -> str:
        """Heading that the setting stands under in the documentation."""
        return str((self.meta.extra or {})["group"])

    @property
    def unit(self) -> str:
        """What the value counts or measures."""
        return str((self.meta.extra or {})["unit"])

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        kind = get_args(self.annotation)[0]
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        if kind == tuple[Projection, ...]:
            return f"any of {', '.join(get_args(Projection))}, separated by commas"
        if choices:
            return f"one of {', '.join(choices)}"
        if self.meta.ge is None:
            return str((self.meta.extra or {})["allowed"])
        number = "a whole number" if kind is int else "a number"
        upper = "" if self.meta.le is None else f" and at most {self.meta.le}"
        return f"{number} of at least {self.meta.ge}{upper} ({self.unit})"


def fields() -> Iterator[Field]:
    """Every setting, in the order of declaration."""
    hints = get_type_hints(Settings, include_extras=True)
    for field in msgspec.structs.fields(Settings):
        hint = hints[field.name]
        yield Field(name=field.name, variable=PLAIN_NAMES.get(field.name, PREFIX + field.name.upper()),
                    annotation=hint, meta=hint.__metadata__[0], default=field.default)
