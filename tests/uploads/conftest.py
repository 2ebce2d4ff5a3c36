"""Fixtures of the uploads' tests: the processor's, and the log's."""

from tests.eventlog.conftest import stage
from tests.processor.conftest import single

__all__ = ["single", "stage"]
