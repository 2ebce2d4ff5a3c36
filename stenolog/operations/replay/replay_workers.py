"""Workers of replays that the command itself starts, and ends."""

from __future__ import annotations

import os
from collections.abc import Mapping

from stenolog.local.supervisor import Role, Supervisor
from stenolog.settings import Settings

NAME = "replayer"


def supervisor(settings: Settings, workers: int, environment: Mapping[str, str] = os.environ) -> Supervisor:
    """So many of them, to be started; each is a process of its own, which ends with this one however that ends.

    They log warnings alone, unless the environment asks for more.
    """
    arguments = (
        "worker", "--replays", "--data", settings.data_dir, "--engine", settings.engine, "--model", settings.model,
        "--metrics-port", "0",  # several would want the same
    )  # fmt: skip
    return Supervisor([Role(NAME, arguments)] * workers, {"STENOLOG_LOG_LEVEL": "warning", **environment})
