"""Recorded files."""

from typing import Annotated

from edge.ingest.identity import NAME_PATTERN, TENANT_PATTERN
from stenolog.settings.groups.describing import number, text
from stenolog.settings.groups.speech import Speech


class Recorded(Speech, frozen=True, kw_only=True):
    """Recorded files."""

    batch_timeout_s: Annotated[float, number(
        "Recorded files", "s", "How long `/batch/process` waits for a recording's transcript before it answers 202 "
        "and where that will be. An hour of speech takes about a minute on two cores; proxies give up after one or "
        "some.", least=0)] = 300.0
    mock_tenant_id: Annotated[str, text(
        "Recorded files", "Tenant of recordings whose request names none (`X-Tenant-ID`) while authentication is off. "
        "Unset: a new one each.", pattern=f"^({TENANT_PATTERN})?$", allowed="a UUID v4")] = ""
    mock_user_id: Annotated[str, text(
        "Recorded files", "User of recordings whose request names none (`X-User-ID`) while authentication is off. "
        "Unset: `system`.", pattern=f"^({NAME_PATTERN})?$", allowed="1 to 255 printable ASCII characters without spaces"
        )] = ""
    max_upload_ahead_bytes: Annotated[int, number(
        "Recorded files", "bytes", "How much of a recording may be in Redis that is not decoded yet, or, of bare "
        "samples, not transcribed (two minutes in any case); its sender is read no faster. Hours of compressed speech, "
        "so that only large files ever wait.", least=1_048_576)
    ] = 67_108_864
    shared_recognition: Annotated[bool, text(
        "Recorded files", "Whether utterances of recordings may be recognised by any worker with the same engine, "
        "rather than by the one that has the session alone.")] = True
    max_shared_utterances: Annotated[int, number(
        "Recorded files", "utterances", "Decided utterances that one worker may have waiting for recognition, by "
        "whichever worker, of recordings that are past `max_pending_utterances`: enough to keep ten cores busy; 40 MB of "
        "audio at most.", least=1)] = 64
    shared_recognition_lease_ms: Annotated[int, number(
        "Recorded files", "ms", "After which an utterance that another worker took is offered again: that worker may "
        "have died. Longer than a batch takes on a slow core; twice recognised does no harm.", least=1000)] = 20_000
