"""Bounds of sessions."""

from typing import Annotated

from stenolog.settings.groups.log import Log
from stenolog.settings.groups.metadata import number


class Sessions(Log, frozen=True, kw_only=True):
    """Bounds of sessions."""

    max_sessions: Annotated[int, number(
        "Sessions", "sessions", "Live sessions over all replicas. More than two slow cores carry; raise it when you "
        "add machines.", least=1)] = 1000
    max_sessions_per_tenant: Annotated[int, number(
        "Sessions", "sessions", "Live sessions of one tenant over all replicas; 0 for no bound but `max_sessions`.",
        least=0)] = 0
    reservation_ttl_s: Annotated[int, number(
        "Sessions", "s", "How long a crashed edge's reservations count against `max_sessions`; a living edge renews "
        "them every third of that time.", least=3, most=60)] = 60
    max_session_s: Annotated[float, number(
        "Sessions", "s of audio", "Longest session; past it, it is ended and its client notified. Half a working day: "
        "longer ones are clients that forgot to stop.", least=1)] = 14_400.0
    idle_timeout_s: Annotated[int, number(
        "Sessions", "s", "Silence of a client (no audio, no keepalive) after which its session is ended. Longer than "
        "any pause in a conversation.", least=1)] = 300
    idle_sweep_s: Annotated[int, number(
        "Sessions", "s", "Time between two sweeps for idle sessions: a tenth of `idle_timeout_s`, so the end is that "
        "punctual.", least=1)] = 30
    pause_ms: Annotated[int, number(
        "Sessions", "ms", "Time without a frame of a client after which its utterance is ended: it has muted itself, "
        "or released its button. Longer than networks and pages hold frames back; a client that sends pieces of "
        "several seconds is given one and a half of their length. 0: never.", least=0, most=60_000)] = 2_000
    close_grace_s: Annotated[float, number(
        "Sessions", "s", "How long a session whose client closed its connection in order, without `stop`, can still be "
        "resumed before it ends. Longer than a page takes to load again. A connection that breaks leaves the session "
        "open for `idle_timeout_s`.", least=0, most=3600)] = 10.0
