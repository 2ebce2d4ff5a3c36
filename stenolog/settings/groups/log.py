"""Retention, durability and memory of the log."""

from typing import Annotated, Literal

from stenolog.settings.groups.access import Access
from stenolog.settings.groups.metadata import number, text


class Log(Access, frozen=True, kw_only=True):
    """Retention, durability and memory of the log."""

    partitions: Annotated[int, number(
        "Log", "partitions", "Hash tags that sessions are spread over, fixed in Redis at first use. 64 spread evenly "
        "over any cluster of up to some 20 nodes, and one script call each per flush is still cheap.",
        least=1, most=1024)] = 64
    session_ttl_s: Annotated[int, number(
        "Log", "s", "How long a session's keys outlive its last activity. A day is enough to fetch a transcript "
        "the next morning.", least=60)] = 86_400
    audio_retention: Annotated[Literal["processed", "time", "archived"], text(
        "Log", "When processed audio is freed: at once (`processed`), after `audio_retention_s` (`time`), or once it "
        "is in the archive too (`archived`), however long that takes.")] = "time"
    audio_retention_s: Annotated[int, number(
        "Log", "s", "Audio kept behind the checkpoint, for replays. A thousand sessions of 16 kHz audio fill 25 GB in "
        "10 minutes; longer history belongs into an archive.", least=0)] = 600
    memory_high_watermark_percent: Annotated[float, number(
        "Log", "% of maxmemory", "Share of a Redis node's `maxmemory` past which it gets no new sessions. The last "
        "fifth is for the open ones: some minutes of their audio. Without a `maxmemory` no watermark applies.",
        least=1, most=100)] = 80.0
    memory_critical_watermark_percent: Annotated[float, number(
        "Log", "% of maxmemory", "Share past which a node gets no audio either, until it has fallen by 2 points. The "
        "last tenth is for the work that frees memory: facts and read models.", least=1, most=100)] = 90.0
    memory_limit_bytes: Annotated[int, number(
        "Log", "bytes", "The `maxmemory` that both watermarks count by where Redis has none of its own; 0 is none.",
        least=0)] = 0
    durability: Annotated[str, text(
        "Log", "Work that Redis must have done with audio before it is acked: `fast`, its append-only file is synced "
        "once a second; `safe`, before every answer; `wait:N`, N replicas of its node have it too. "
        "[durability.md](durability.md) says what each loses in which failure, and costs. An edge refuses to start on "
        "a Redis that does not give it.",
        pattern="^(fast|safe|wait:[1-9])$", allowed="fast, safe or wait:N (N from 1 to 9)")] = "fast"
    durability_timeout_ms: Annotated[int, number(
        "Log", "ms", "How long a flush waits for replicas, with `wait:N`. A thousand times their usual delay, and "
        "short against the 5 s after which a call counts as failed.", least=10, most=4000)] = 1000
    durability_on_shortfall: Annotated[Literal["block", "degrade"], text(
        "Log", "When fewer than N replicas answer: `block` acks nothing until they do, so that clients wait, and must "
        "come back after `redis_outage_timeout_s`; `degrade` acks without them, with a warning and a metric."
    )] = "block"
    changes_max_notices: Annotated[int, number(
        "Log", "notices", "Length bound of each partition's `changes` stream. A notice is some 200 bytes: 20 MB a "
        "partition at worst; a projection further behind walks the sessions instead.", least=100)] = 100_000
    feed_max_events: Annotated[int, number(
        "Log", "events", "Length bound of one session's feed. Hours of finals; a subscriber further behind must start "
        "again from the transcript.", least=10)] = 10_000
