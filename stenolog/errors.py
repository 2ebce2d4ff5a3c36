"""Errors that a user can act on, and the exit statuses that they lead to."""

FAILED, UNABLE = 1, 2
"""Exit statuses: another try may help; only a change of settings or usage will."""


class UserError(Exception):
    """An error that the user can act on: the command line prints its message instead of a traceback."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
