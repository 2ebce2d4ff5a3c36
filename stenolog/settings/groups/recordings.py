"""Recorded files."""

from typing import Annotated

from edge.ingest.identity import NAME_PATTERN, TENANT_PATTERN
from stenolog.settings.groups.metadata import flag, number, text
from stenolog.settings.groups.speech import Speech


class Recordings(Speech, frozen=True, kw_only=True):
    """Recorded files."""

    batch_timeout_s: Annotated[float, number(
        "Recorded files", "s", "How long `/batch/process` waits for a recording's transcript before it answers 202 "
        "and its URL. An hour of speech takes about a minute on two cores; proxies give up after one or some.",
        least=0)] = 300.0
    mock_tenant_id: Annotated[str, text(
        "Recorded files", "Tenant of recordings whose request names none (`X-Tenant-ID`) while authentication is off. "
        "Unset: a new one each.", pattern=f"^({TENANT_PATTERN})?$", allowed="a UUID v4")] = ""
    mock_user_id: Annotated[str, text(
        "Recorded files", "User of recordings whose request names none (`X-User-ID`) while authentication is off. "
        "Unset: `system`.", pattern=f"^({NAME_PATTERN})?$", allowed="1 to 255 printable ASCII characters without spaces"
        )] = ""
    max_upload_ahead_bytes: Annotated[int, number(
        "Recorded files", "bytes", "Bytes of a recording that may be in Redis before they are decoded, or, of bare "
        "samples, transcribed (two minutes in any case); back-pressure then slows its sender down. Hours of "
        "compressed speech, so that only large files ever wait.", least=1_048_576)] = 67_108_864
    shared_recognition: Annotated[bool, flag(
        "Recorded files", "Whether utterances of recordings may be recognised by any worker with the same engine, "
        "instead of the session's own worker alone.")] = True
    max_shared_utterances: Annotated[int, number(
        "Recorded files", "utterances", "Decided utterances that one worker may have offered to all workers, of "
        "recordings that are past `max_pending_utterances`: enough to keep ten cores busy; 40 MB of audio at most.",
        least=1)] = 64
    shared_recognition_lease_ms: Annotated[int, number(
        "Recorded files", "ms", "Time after which an utterance that another worker took is offered again: that worker "
        "may have died. Longer than a batch takes on a slow core; recognising it twice does no harm.",
        least=1000)] = 20_000
