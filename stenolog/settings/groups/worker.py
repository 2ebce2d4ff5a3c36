"""Claims, bounds and timeouts of a worker."""

from typing import Annotated

from stenolog.settings.groups.edge import Edge
from stenolog.settings.groups.metadata import number


class Worker(Edge, frozen=True, kw_only=True):
    """Claims, bounds and timeouts of a worker."""

    lease_ms: Annotated[int, number(
        "Worker", "ms", "A claim not renewed for this long is taken over. Short enough that captions resume while the "
        "speaker still talks, long enough that no pause of a busy machine looks like a death.", least=500)] = 5000
    worker_capacity: Annotated[int, number(
        "Worker", "sessions", "Sessions that one worker holds at most: what one core reads and segments.",
        least=1)] = 1000
    worker_tick_ms: Annotated[int, number(
        "Worker", "ms", "Time between two reads of all audio streams. Polling a thousand streams costs Redis less "
        "than blocking on them, and adds half a tick to a final.", least=1, most=1000)] = 20
    max_read_bytes: Annotated[int, number(
        "Worker", "bytes", "Audio that one read takes of one stream at most: 8 s of 16 kHz mono. 250 streams that "
        "catch up would otherwise send hundreds of megabytes at once.", least=4096)] = 262_144
    max_pending_utterances: Annotated[int, number(
        "Worker", "utterances", "Decided utterances of one session that may wait for recognition before its audio is "
        "read no further: a minute of speech at most, so that it is soon recognised.", least=1)] = 8
    suspicion_limit: Annotated[int, number(
        "Worker", "deaths", "Deaths of workers over one session, without a commit between, after which the session "
        "gets a quarantine trial: a process of its own. Two may be chance.", least=0)] = 2
    quarantine_trial_timeout_s: Annotated[float, number(
        "Worker", "s", "Bound of that trial, after which the run is quarantined. Enough to load a model and to "
        "recognise a minute of speech on one slow core.", least=1)] = 120.0
    max_decoders: Annotated[int, number(
        "Worker", "processes", "Recordings that one worker decodes at once; the others wait in line. A live browser "
        "needs a decoder for as long as it speaks, so count browsers, not cores: some 16 MB each, and a hundredth of "
        "a core; `max_decode_ahead_s` slows recordings down.", least=1)] = 64
    max_decode_ahead_s: Annotated[int, number(
        "Worker", "s of audio", "How far a recording is decoded ahead of its transcript. Some 40 utterances, so that "
        "about ten cores find enough to do at once; 12 MB in Redis, half of the audio kept behind it.", least=30)] = 300
    max_spool_bytes: Annotated[int, number(
        "Worker", "bytes", "Longest MP4 whose index stands at its end; until then it must be kept in a temporary "
        "file. Half a gigabyte is many hours of sound.", least=1_048_576)] = 536_870_912
    replay_yield_s: Annotated[float, number(
        "Worker", "s", "Replays pause while clients' work waits for longer than this: for a worker, for its text, or "
        "for a read model, which take up notices once a second at least. 0: never.", least=0)] = 2.0
    replay_nice: Annotated[int, number(
        "Worker", "niceness", "Niceness of workers of replays. At 10 they get a tenth of a core that a worker for "
        "clients wants as well: enough to keep their claims.", least=0, most=19)] = 10
