"""Reads the settings from options, the environment and `.env`, in that order, and reports all problems at once."""

import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec

from stenolog.errors import UNABLE, UserError
from stenolog.settings.dotenv import read_dotenv
from stenolog.settings.model import PREFIX, SECRETS, Field, Settings, fields

SECRET_BYTES = 32
"""RFC 7518, 3.2: a key for HS256 is at least as long as the hash."""

CLIENT_VARIABLES = frozenset({"STENOLOG_TOKEN", "STENOLOG_URL"})
"""Options of commands that are clients of an edge; roles in the same environment ignore them."""

MEASURING_VARIABLES = frozenset({"STENOLOG_SPEECH_MORE", "STENOLOG_FIELD"})
"""Folders that benchmarks and tests read recordings from; the roles that they start ignore them."""

# Scheme, host and port only (RFC 6454): browsers send nothing more, so anything else would never match.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#@]+")


class SettingsError(UserError):
    """One or more settings are unknown or bad; the message has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("these settings can't be used:\n  " + "\n  ".join(problems), UNABLE)
        self.problems = problems


def load(environ: Mapping[str, str] | None = None, dotenv_path: Path | None = Path(".env"),
         **overrides: object) -> Settings:
    """Reads all settings.

    Args:
        environ: The environment; the process's own if not given.
        dotenv_path: A file of further variables, which the environment overrules; it need not exist.
        **overrides: Settings by name, from the command line; None means not given.

    Raises:
        SettingsError: A variable or override is unknown or its value is not allowed; every problem is listed.
    """
    environment = os.environ if environ is None else environ
    given = {**read_dotenv(dotenv_path), **environment}
    problems = _unknown(given)
    values: dict[str, Any] = {}
    for field in fields():
        override = overrides.get(field.name)
        raw: object = given.get(field.variable, "") if override is None else override
        if raw == "":
            continue
        try:
            values[field.name] = _convert(field, raw)
        except msgspec.ValidationError:
            problems.append(_bad(field, raw, "the command line" if override is not None else field.variable))
    problems += [f"{name} is no setting" for name in overrides.keys() - {field.name for field in fields()}]
    if problems:
        raise SettingsError(problems)
    settings = Settings(**values)
    _check_together(settings)
    return settings


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on `host` (a name other than localhost counts as reachable)."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unknown(given: Mapping[str, str]) -> list[str]:
    known = {field.variable for field in fields()}
    problems = []
    for name in sorted(given):
        if name.startswith(PREFIX) and name not in known | CLIENT_VARIABLES | MEASURING_VARIABLES:
            nearest = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            problems.append(f"{name} is no setting{hint}")
    return problems


def _convert(field: Field, raw: object) -> Any:  # noqa: ANN401  each field has its own type
    kind = get_args(field.annotation)[0]
    if isinstance(raw, str) and get_origin(kind) is tuple:
        raw = [item.strip() for item in raw.split(",") if item.strip()]
    return msgspec.convert(raw, type=field.annotation, strict=False)


def _bad(field: Field, raw: object, source: str) -> str:
    value = "its value" if field.name in SECRETS else repr(raw)
    name = source if source == field.variable else f"{field.name} ({source})"
    return f"{name}: {value} is not {field.allowed}"


def _check_together(settings: Settings) -> None:
    problems = []
    if settings.max_unacked_bytes < settings.max_frame_bytes:
        problems.append(
            f"STENOLOG_MAX_UNACKED_BYTES: {settings.max_unacked_bytes} is below STENOLOG_MAX_FRAME_BYTES "
            f"({settings.max_frame_bytes}), so that a frame of that size could never be accepted")
    if settings.session_ttl_s < settings.idle_timeout_s:
        problems.append(
            f"STENOLOG_SESSION_TTL_S: {settings.session_ttl_s} is below STENOLOG_IDLE_TIMEOUT_S "
            f"({settings.idle_timeout_s}), so that a waiting session's keys would expire under it")
    if settings.worker_tick_ms * 3 > settings.lease_ms:
        problems.append(
            f"STENOLOG_WORKER_TICK_MS: {settings.worker_tick_ms} is above a third of STENOLOG_LEASE_MS "
            f"({settings.lease_ms}), so that a claim could lapse between two ticks")
    problems += [*_access_problems(settings), *_archive_problems(settings)]
    if problems:
        raise SettingsError(problems)


def _archive_problems(settings: Settings) -> list[str]:
    problems = []
    archives = "archive" in settings.projections
    if settings.audio_retention == "archived" and not settings.archive_url:
        problems.append("STENOLOG_ARCHIVE_URL: STENOLOG_AUDIO_RETENTION=archived needs an archive, or nothing is freed")
    if archives and settings.audio_retention == "processed":
        problems.append(
            "STENOLOG_AUDIO_RETENTION: processed frees audio before the projection archive has it; use archived")
    if archives and settings.audio_retention == "time" and settings.audio_retention_s < 2 * settings.archive_part_s:
        problems.append(
            f"STENOLOG_AUDIO_RETENTION_S: {settings.audio_retention_s} is below twice STENOLOG_ARCHIVE_PART_S "
            f"({settings.archive_part_s}), so that audio could be freed before it is archived")
    return problems


def _access_problems(settings: Settings) -> list[str]:
    problems = []
    if settings.auth == "hs256" and len(settings.auth_secret.encode()) < SECRET_BYTES:
        problems.append(
            f"STENOLOG_AUTH_SECRET: STENOLOG_AUTH=hs256 needs a secret of at least {SECRET_BYTES} bytes; "
            "make one with `openssl rand -base64 32`")
    if settings.auth == "jwks" and not settings.auth_jwks:
        problems.append("STENOLOG_AUTH_JWKS: STENOLOG_AUTH=jwks needs the address or the file of the issuer's keys")
    scheme, separator, _ = settings.auth_jwks.partition("://")
    if separator and scheme not in {"https", "http"}:
        problems.append("STENOLOG_AUTH_JWKS: neither an https:// address nor the path of a file")
    if bool(settings.redis_cert_file) != bool(settings.redis_key_file):
        problems.append("STENOLOG_REDIS_CERT_FILE and STENOLOG_REDIS_KEY_FILE go together; one of them is unset")
    if (settings.redis_ca_file or settings.redis_cert_file) and not (settings.redis_url or "").startswith("rediss://"):
        problems.append("STENOLOG_REDIS_CA_FILE and its like need a REDIS_URL that begins with rediss://")
    problems += [
        f"STENOLOG_ALLOWED_ORIGINS: {origin!r} is no origin such as https://app.example.com, nor `*`"
        for origin in settings.allowed_origins if origin != "*" and not _ORIGIN.fullmatch(origin)
    ]
    return problems
