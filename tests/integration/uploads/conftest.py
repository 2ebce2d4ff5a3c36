"""Fixtures of the uploads' tests: the log's."""

from tests.integration.eventlog.conftest import stage

__all__ = ["stage"]
