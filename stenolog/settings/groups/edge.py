"""Buffers, bounds and timeouts of an edge."""

from typing import Annotated

from stenolog.settings.groups.metadata import number
from stenolog.settings.groups.sessions import Sessions


class Edge(Sessions, frozen=True, kw_only=True):
    """Buffers, bounds and timeouts of an edge."""

    flush_ms: Annotated[int, number(
        "Edge", "ms", "Time for which audio is collected before it is appended, all sockets in one batch. Adds half "
        "of itself to an ack, and makes an append per flush out of one per frame.", least=1, most=1000)] = 10
    flush_bytes: Annotated[int, number(
        "Edge", "bytes", "Collected audio that is appended at once without waiting for `flush_ms`. Redis takes some "
        "milliseconds for it, so that no other call waits longer.", least=4096)] = 1_048_576
    ack_interval_ms: Annotated[int, number(
        "Edge", "ms of audio", "Audio after which a client gets an ack at the latest.", least=10, most=250)] = 250
    max_frame_bytes: Annotated[int, number(
        "Edge", "bytes", "Largest WebSocket message accepted. 32 s of 16 kHz mono: no live client sends more at once.",
        least=1024)] = 1_048_576
    max_unacked_bytes: Annotated[int, number(
        "Edge", "bytes", "Audio of one session that may wait for its ack before its socket is read no further. At "
        "least one frame of `max_frame_bytes`; a thousand blocked sessions stay within a gigabyte.",
        least=1024)] = 1_048_576
    resend_buffer_s: Annotated[float, number(
        "Edge", "s of audio", "Acked audio that an edge keeps, to append again after a failover of Redis lost it. "
        "More than a replica usually lags behind, and 160 kB a session.", least=0, most=60)] = 5.0
    max_outbox_messages: Annotated[int, number(
        "Edge", "messages", "Messages that may wait for one slow client. Minutes of captions; then the client is "
        "disconnected and may resume.", least=8)] = 256
    redis_outage_timeout_s: Annotated[float, number(
        "Edge", "s", "How long edges hold their sockets while Redis does not answer, before they close them with "
        "code 1013 (try again later). Longer than a failover takes.", least=0)] = 30.0
    session_end_timeout_s: Annotated[float, number(
        "Edge", "s", "How long the edge waits for the stitched transcript at a session's end before it answers with "
        "the transcript's URL. About as long as users wait for a page to load.", least=0)] = 10.0
    result_timeout_s: Annotated[float, number(
        "Edge", "s", "How long a request with a recording waits for its transcript, before the answer is 202 and the "
        "transcript's URL. As long as proxies hold a silent request.", least=0, most=3600)] = 60.0
    max_upload_bytes: Annotated[int, number(
        "Edge", "bytes", "Largest recording in one request: 2 GiB. Three hours of 48 kHz stereo WAV, weeks of Opus; "
        "it costs time, not memory: neither a process nor Redis ever holds more than `max_upload_ahead_bytes` of it.",
        least=1024)] = 2_147_483_648
    ready_stale_s: Annotated[float, number(
        "Edge", "s", "Time without any worker having consumed after which `/v1/ready` is red: three leases.",
        least=1)] = 15.0
    ready_lag_s: Annotated[float, number(
        "Edge", "s", "How long a session may wait for a worker, decided speech for its text, or a fact for the lists "
        "and feeds, before `/v1/ready` is red. Later captions are useless.", least=1)] = 30.0
    sse_keepalive_s: Annotated[float, number(
        "Edge", "s", "Time between two comments on a silent event stream. Proxies close a connection after 30 s of "
        "silence and more.", least=0.1)] = 15.0
    max_sse_listeners: Annotated[int, number(
        "Edge", "listeners", "Event streams that one edge process has open at most. An idle one takes some 5 KiB; "
        "file descriptors may be the nearer bound.", least=1)] = 10_000
    max_sse_listeners_per_user: Annotated[int, number(
        "Edge", "listeners", "Event streams of one user, where tokens name users. More tabs than a person opens, and "
        "room for a dashboard.", least=1)] = 100
    max_sse_buffer_bytes: Annotated[int, number(
        "Edge", "bytes", "Events that may wait in the process, and as much in the kernel, for a listener that doesn't "
        "read: minutes of captions. Past it nothing more is sent until it has read.", least=4096)] = 65_536
    sse_slow_timeout_s: Annotated[float, number(
        "Edge", "s", "How long a listener may leave all of that unread before it is dropped. Longer than a phone's "
        "change of network takes.", least=0.1)] = 10.0
