"""What users did or can mend, told in a line instead of a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from eventlog.log import LogUnavailableError
from eventlog.redis.server import DeploymentMismatchError
from processor.recognisers.base import RecogniserError
from stenolog.client.wav import WavError
from stenolog.client.websocket import ClientError, UnreachableError
from stenolog.local.embedded import EmbeddedServerError
from stenolog.settings import SettingsError

FAILED, UNABLE = 1, 2
"""Exit statuses: trying again may help; only a change of settings or usage will."""


class UserError(click.ClickException):
    """An error that the user can act on."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        setattr(self, "exit_code", exit_code)  # noqa: B010 - click declares it on the class, and reads the instance


@contextmanager
def told() -> Iterator[None]:
    """Turn the errors that a user can act on into a message and an exit status.

    Raises:
        UserError: in place of them.
    """
    try:
        yield
    except SettingsError as error:
        raise UserError("these settings can't be used:\n  " + "\n  ".join(error.problems), UNABLE) from error
    except DeploymentMismatchError as error:
        raise UserError(str(error), UNABLE) from error
    except RecogniserError as error:
        raise UserError(str(error), FAILED if error.retryable else UNABLE) from error
    except EmbeddedServerError as error:
        raise UserError(str(error)) from error
    except LogUnavailableError as error:
        raise UserError(f"Redis can't be used: {error}") from error
    except UnreachableError as error:
        raise UserError(f"{error}; start one with `stenolog up`, or name another with --url") from error
    except (ClientError, WavError) as error:
        raise UserError(str(error)) from error
