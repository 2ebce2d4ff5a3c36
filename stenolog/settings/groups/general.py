"""Processes, their addresses, and Redis."""

from typing import Annotated, Literal

import msgspec

from stenolog.settings.groups.metadata import number, text


class General(msgspec.Struct, frozen=True, kw_only=True):
    """Processes, their addresses, and Redis."""

    redis_url: Annotated[str | None, text(
        "General", "Redis or Valkey, 7.0 or later, one server or a cluster; of a cluster several nodes may be named, "
        "separated by commas: the first that answers names the others. Unset: `stenolog up` starts an embedded Valkey "
        "under `data_dir`; the other commands need it.")] = None
    redis_ca_file: Annotated[str, text(
        "General", "Certificates (PEM) of the authority that signed Redis's, for a `rediss://` address. Unset: the "
        "system's own.")] = ""
    redis_cert_file: Annotated[str, text(
        "General", "Certificate (PEM) to show to a Redis that asks its clients for one.")] = ""
    redis_key_file: Annotated[str, text(
        "General", "Key (PEM) of `redis_cert_file`.")] = ""
    host: Annotated[str, text(
        "General", "Address that the edge listens on. Loopback, since without authentication no other machine may "
        "reach it.")] = "127.0.0.1"
    port: Annotated[int, number(
        "General", "port", "Port that the edge listens on; 0 takes any free one.", least=0, most=65_535)] = 8000
    data_dir: Annotated[str, text(
        "General", "Directory of the embedded server's append-only file. In the current directory, so that it is "
        "easily found and removed.")] = "data"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], text(
        "General", "Least severity that is logged.")] = "info"
    metrics_host: Annotated[str, text(
        "General", "Address on which `metrics_port` is served. Loopback, since it asks for no token; the numbers are "
        "the whole deployment's.")] = "127.0.0.1"
    metrics_port: Annotated[int, number(
        "General", "port", "Port on which this process serves its metrics at `/metrics`; 0 for none. `stenolog up` "
        "gives its processes this one and those after it, in order. An edge has them at its own `/metrics` as well.",
        least=0, most=65_535)] = 0
