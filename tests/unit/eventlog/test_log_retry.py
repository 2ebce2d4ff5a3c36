"""Retries of one caller: pauses that grow to a bound, and an outage that is measured from its first failure."""

import pytest

from eventlog import log_retry
from eventlog.log import LogFullError, LogUnavailableError
from eventlog.log_retry import FIRST_PAUSE_S, LONGEST_PAUSE_S, LogRetry, retry_pause_s


def test_pauses_double_up_to_the_longest_one() -> None:
    """Pauses double up to their bound, and an outage of days overflows nothing."""
    assert [retry_pause_s(failures) for failures in (1, 2, 3)] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert retry_pause_s(1_000_000) == LONGEST_PAUSE_S
    assert retry_pause_s(1_000_000, 1.0) == 1.0


async def test_a_call_is_repeated_until_the_log_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failure is reported with the time since the first one, and an answer ends the outage."""
    monkeypatch.setattr(log_retry, "FIRST_PAUSE_S", 0.001)
    errors = [LogUnavailableError("away"), LogFullError("full"), LogUnavailableError("away again")]
    waiting, seen = list(errors), []

    async def call() -> int:
        if waiting:
            raise waiting.pop(0)
        return 5

    retry = LogRetry(lambda error, failing_s: seen.append((error, failing_s)))
    assert await retry.call(call) == 5
    assert [error for error, _ in seen] == errors
    assert seen[0][1] == 0.0
    assert 0 < seen[1][1] < seen[2][1]
    await retry.back_off(errors[0])
    assert seen[3][1] == 0.0


async def test_an_error_of_the_report_ends_the_retries() -> None:
    """What `on_failure` raises reaches the caller."""
    def give_up(error: LogUnavailableError, _: float) -> None:
        raise TimeoutError from error

    async def call() -> None:
        raise LogUnavailableError("away")

    with pytest.raises(TimeoutError):
        await LogRetry(give_up).call(call)
