"""Which errors the command line reports in a line instead of a traceback."""

from eventlog.log import LogUnavailableError
from eventlog.redis.server import DeploymentMismatchError
from processor.recognisers.base import RecogniserError
from stenolog.errors import FAILED, UNABLE, UserError


def user_error(error: Exception) -> UserError | None:
    """The error in words, with its exit status; None if it is a defect."""
    match error:
        case UserError():
            return error
        case DeploymentMismatchError():
            return UserError(str(error), UNABLE)
        case RecogniserError():
            return UserError(str(error), FAILED if error.retryable else UNABLE)
        case LogUnavailableError():
            return UserError(f"Redis can't be used: {error}")
        case _:
            return None
