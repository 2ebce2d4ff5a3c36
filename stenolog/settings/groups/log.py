"""What is kept in the log, and for how long."""

from typing import Annotated

from stenolog.settings.groups.access import Access
from stenolog.settings.groups.describing import number


class Log(Access, frozen=True, kw_only=True):
    """What is kept in the log, and for how long."""

    partitions: Annotated[int, number(
        "Log", "partitions", "Hash tags that sessions are spread over, fixed in Redis at first use. 64 spread evenly "
        "over any cluster of up to some 20 nodes, and one script call each per flush is still cheap.",
        least=1, most=1024)] = 64
    session_ttl_s: Annotated[int, number(
        "Log", "s", "How long a session's keys outlive its last sign of life. A day is enough to fetch a transcript "
        "the next morning.", least=60)] = 86_400
    audio_retention_s: Annotated[int, number(
        "Log", "s", "Audio kept behind the checkpoint, for replays. A thousand sessions of 16 kHz audio fill 25 GB in "
        "10 minutes; longer history is an archive's work.", least=0)] = 600
    changes_max_notices: Annotated[int, number(
        "Log", "notices", "Length bound of each partition's `changes` stream. A notice is some 200 bytes: 20 MB a "
        "partition at worst; a projection further behind walks the sessions instead.", least=100)] = 100_000
    feed_max_events: Annotated[int, number(
        "Log", "events", "Length bound of one session's feed. Hours of finals; a listener further behind is told to "
        "start anew.", least=10)] = 10_000
