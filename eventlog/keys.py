"""Every Redis key and channel, each made here and nowhere else.

Some key text has older words than the code (`bell`, `set-aside`): stored names do not change. Each docstring gives the
Redis type, the content, the writer and the TTL. "Session TTL" is the setting
``STENOLOG_SESSION_TTL_S``, refreshed by the claim holder while the session lives and by each writer.
"""

from __future__ import annotations

from functools import cached_property

from eventlog.partitions import partition_of, tags

LIVE_RUN = "live"
"""The run that a session's own client starts; every other run is a replay."""

READ_MODELS = ("lists", "feeds", "sessions", "status")
"""The projections that build read models in Redis."""

SINKS = ("eventbridge", "kafka", "webhooks", "archive")
"""The projections that forward to destinations outside Redis."""

_DEPLOYMENT = "{stenolog}"  # keys that count across partitions; a tag of their own, so one slot


def partition_count() -> str:
    """String: the deployment's number of partitions. Written once by the first process. No TTL."""
    return f"{_DEPLOYMENT}:partitions"


def reservations() -> str:
    """Sorted set: session id by expiry in Redis ms. Edges (limit `max_sessions`). Members expire by score."""
    return f"{_DEPLOYMENT}:reservations"


def tenant_reservations(tenant_id: str) -> str:
    """Sorted set: as `reservations`, of one tenant (limit `max_sessions_per_tenant`). Members expire by score."""
    return f"{_DEPLOYMENT}:reservations:{tenant_id}"


def request_count(tenant_id: str, minute: int) -> str:
    """String: requests of a tenant in one minute (Unix time / 60). Edges (limit `requests_per_minute`). TTL 2 min."""
    return f"{_DEPLOYMENT}:requests:{tenant_id}:{minute}"


def ticket(ticket_hash: str) -> str:
    """String: the grant of a ticket, named by its SHA-256; JSON. Edges. TTL is the ticket's own."""
    return f"{_DEPLOYMENT}:ticket:{ticket_hash}"


def shared_utterances(engine: str) -> str:
    """Stream, group ``recogniser``: utterances that any worker with `engine` may recognise. Workers; bounded length."""
    return f"{_DEPLOYMENT}:recognise:{engine}"


def recognisers(engine: str) -> str:
    """Sorted set: workers with `engine` by their last poll for shared utterances, in ms. Take script."""
    return f"{_DEPLOYMENT}:recognisers:{engine}"


def recognise_wakeup(engine: str) -> str:
    """Sharded channel: wake-up for idle workers when `shared_utterances` has new entries."""
    return f"{_DEPLOYMENT}:bell:recognise:{engine}"


def webhooks(tenant_id: str) -> str:
    """Hash: a tenant's webhook subscriptions, id to JSON. Edges; projection webhooks (disables). No TTL."""
    return f"{_DEPLOYMENT}:webhooks:{tenant_id}"


def status_channel(session_id: str) -> str:
    """Channel, not sharded: status messages of a session, for subscribers of Redis. Projection status. Public."""
    return f"transcription:status:{session_id}"


def heartbeats() -> str:
    """Hash: ``<role> <consumer>`` to its heartbeat, JSON. Written by every role. Stale fields are deleted."""
    return f"{_DEPLOYMENT}:heartbeats"


LIVE_QUEUE = ""
"""Runs of clients; every other queue has the replays for one engine, and is named by it."""


class QueueKeys:
    """The keys of one queue, which offers runs of one partition to workers."""

    def __init__(self, partition: PartitionKeys, name: str) -> None:
        """Bind to the queue called `name` of `partition`."""
        self.partition = partition
        self.name = name

    @property
    def sessions(self) -> str:
        """Stream, group ``processor``: as `PartitionKeys.sessions`, of replays for one engine. Session TTL."""
        return f"{{{self.partition.tag}}}:replays:{self.name}" if self.name else self.partition.sessions

    @property
    def entries(self) -> str:
        """Hash: as `PartitionKeys.entries`, of replays for one engine. Session TTL."""
        return f"{{{self.partition.tag}}}:replay-entries:{self.name}" if self.name else self.partition.entries

    @property
    def wakeup(self) -> str:
        """Sharded channel: as `PartitionKeys.sessions_wakeup`, of replays for one engine."""
        return f"{{{self.partition.tag}}}:bell:replays:{self.name}" if self.name else self.partition.sessions_wakeup


class PartitionKeys:
    """The keys of one partition; all share its hash tag, so one script may touch them all."""

    def __init__(self, number: int, tag: str) -> None:
        """Bind to partition `number`, whose hash tag is `tag`."""
        self.number = number
        self.tag = tag
        self._prefix = f"{{{tag}}}"

    @cached_property
    def sessions(self) -> str:
        """Stream, group ``processor``: one entry per unfinished run; a pending entry is the claim. Claim scripts."""
        return f"{self._prefix}:sessions"

    @cached_property
    def entries(self) -> str:
        """Hash: ``<session> <run>`` to its entry id in `sessions`. Open, hand-over, end, reoffer scripts. No TTL."""
        return f"{self._prefix}:entries"

    def queue(self, name: str = LIVE_QUEUE) -> QueueKeys:
        """Return the keys of a queue: the clients' runs, or the replays for the engine called `name`."""
        return QueueKeys(self, name)

    @cached_property
    def index(self) -> str:
        """Sorted set: ``<session> <run>`` by last activity in ms, while data is retained. Open, commit scripts."""
        return f"{self._prefix}:index"

    @cached_property
    def changes(self) -> str:
        """Stream, one group per projection: notices of runs with new facts. Open, commit scripts; janitor trims it."""
        return f"{self._prefix}:changes"

    @cached_property
    def walks(self) -> str:
        """Hash: projection that must walk `index` to the id below which notices were trimmed. Trim and read scripts."""
        return f"{self._prefix}:walks"

    @cached_property
    def quarantined(self) -> str:
        """Stream: quarantined runs, with reason and consumer. Quarantine script; bounded. Session TTL."""
        return f"{self._prefix}:set-aside"

    def dead_letters(self, projection: str) -> str:
        """Stream: facts it couldn't apply, or forward, with reason. That projection; bounded length, session TTL."""
        return f"{self._prefix}:dead-letters:{projection}"

    def forwarder(self, sink: str) -> str:
        """String: the consumer that forwards this partition's events to `sink`. Forwarders. TTL is its lease."""
        return f"{self._prefix}:forwarder:{sink}"

    def redriven(self, sink: str) -> str:
        """Stream: dead letters of `sink` to be sent once more. `stenolog dead-letters`; read by its forwarder."""
        return f"{self._prefix}:redriven:{sink}"

    @cached_property
    def open_runs(self) -> str:
        """Sorted set: ``<session> <run>`` not yet ended, by start in ms. Projection sessions. No TTL; swept by it."""
        return f"{self._prefix}:open-runs"

    @cached_property
    def ended_runs(self) -> str:
        """Sorted set: ``<session> <run>`` by end in ms, those of the last TTL. Projection sessions. Session TTL."""
        return f"{self._prefix}:ended-runs"

    def tenant_runs(self, tenant_id: str) -> str:
        """Sorted set: ``<session> <run>`` of one tenant, see `listings`. Projection sessions. Session TTL."""
        return f"{self._prefix}:tenant-runs:{tenant_id}"

    @cached_property
    def erased(self) -> str:
        """Sorted set: ids of erased sessions by time in ms, which no write may bring back. Erase script; bounded."""
        return f"{self._prefix}:erased"

    @cached_property
    def archive_erasures(self) -> str:
        """Sorted set: ids of erased sessions whose archive must be erased too, until it is. Erase script. No TTL."""
        return f"{self._prefix}:archive-erasures"

    @cached_property
    def sessions_wakeup(self) -> str:
        """Sharded channel: wake-up for workers when `sessions` has a new entry."""
        return f"{self._prefix}:bell:sessions"

    @cached_property
    def changes_wakeup(self) -> str:
        """Sharded channel: wake-up for projections when `changes` has a new notice."""
        return f"{self._prefix}:bell:changes"

    @cached_property
    def feed_channel(self) -> str:
        """Sharded channel: feed events and partials of all its sessions. Feeds projection, workers, resume."""
        return f"{self._prefix}:feed"


class SessionKeys:
    """The keys of one session, all in its partition's slot."""

    def __init__(self, session_id: str, partition: PartitionKeys) -> None:
        """Bind to `session_id`, which lives in `partition`."""
        self.session_id = session_id
        self.partition = partition
        self._prefix = f"{{{partition.tag}}}"

    @cached_property
    def session(self) -> str:
        """Hash: guard ("epoch head"), seen_ms, closes, token, start, archived. Open, append, seal. Session TTL."""
        return f"{self._prefix}:session:{self.session_id}"

    @cached_property
    def audio(self) -> str:
        """Stream: chunks and control events, id = position. Append script; trimmed by commit. Session TTL."""
        return f"{self._prefix}:audio:{self.session_id}"

    @cached_property
    def status(self) -> str:
        """Stream: status messages, id = how many. Projection status. Session TTL, 300 s after the end. Public."""
        return f"{self._prefix}:status:{self.session_id}"

    @property
    def upload(self) -> UploadKeys:
        """Return the keys of the session's upload, for callers that take those of a guarded stream."""
        return UploadKeys(self.session_id, self.partition)

    @cached_property
    def audio_name(self) -> bytes:
        """`audio` in the form of Redis's answers."""
        return self.audio.encode()

    @cached_property
    def list(self) -> str:
        """List: one JSON entry per final of the promoted run, in order. Projection lists. Session TTL. Public."""
        return f"{self._prefix}:list:{self.session_id}"

    @cached_property
    def document(self) -> str:
        """String: the stitched transcript of the promoted run, JSON. Projection lists. Session TTL. Public."""
        return f"{self._prefix}:document:{self.session_id}"

    @cached_property
    def view(self) -> str:
        """Hash: state and metrics of the promoted run. Projection sessions. Session TTL."""
        return f"{self._prefix}:view:{self.session_id}"

    @cached_property
    def promoted(self) -> str:
        """String: the replay whose List, document and view readers receive; absent for the live run. Promote script."""
        return f"{self._prefix}:promoted:{self.session_id}"

    @cached_property
    def replays(self) -> str:
        """Sorted set: the session's replays by start in ms. Projection sessions. Session TTL."""
        return f"{self._prefix}:replays-of:{self.session_id}"

    @cached_property
    def live_list(self) -> str:
        """List: the live run's own, while a replay is promoted. Promote script. Session TTL."""
        return f"{self._prefix}:list:{self.session_id}:{LIVE_RUN}"

    @cached_property
    def live_document(self) -> str:
        """String: the live run's own, while a replay is promoted. Promote script. Session TTL."""
        return f"{self._prefix}:document:{self.session_id}:{LIVE_RUN}"

    @cached_property
    def live_view(self) -> str:
        """Hash: the live run's own, while a replay is promoted. Promote script. Session TTL."""
        return f"{self._prefix}:view:{self.session_id}:{LIVE_RUN}"

    def run(self, run: str = LIVE_RUN) -> RunKeys:
        """Return the keys of one run over this session's audio."""
        return RunKeys(self, run)


class UploadKeys(SessionKeys):
    """The keys of an upload: a guarded stream like a session's audio, counted in bytes, with its own guard."""

    @cached_property
    def session(self) -> str:
        """Hash: as `SessionKeys.session`, of a container's bytes; credit_bytes, restart. Trim script. Session TTL."""
        return f"{self._prefix}:upload-guard:{self.session_id}"

    @cached_property
    def audio(self) -> str:
        """Stream: a container's bytes, control events; id = bytes. Append script; freed once decoded. Session TTL."""
        return f"{self._prefix}:upload:{self.session_id}"

    @cached_property
    def head(self) -> str:
        """String: a container's first bytes, as long as a decoder may have to start again. Decoding. Session TTL."""
        return f"{self._prefix}:upload-head:{self.session_id}"


class RunKeys:
    """The keys of one run of one session."""

    def __init__(self, session: SessionKeys, run: str) -> None:
        """Bind to `run` of `session`."""
        self.session = session
        self.session_id = session.session_id
        self.run = run
        self.partition = session.partition
        self.member = f"{session.session_id} {run}"
        self._prefix = f"{{{session.partition.tag}}}"

    def _key(self, kind: str) -> str:
        return f"{self._prefix}:{kind}:{self.session_id}:{self.run}"

    @cached_property
    def transcript(self) -> str:
        """Stream: the run's facts, id = position in the transcript. Open and commit scripts. Session TTL."""
        return self._key("transcript")

    @cached_property
    def checkpoint(self) -> str:
        """Hash: cursor, boundaries, options, utterance, serial, suspicion, aside, done. Claim scripts. Session TTL."""
        return self._key("checkpoint")

    @cached_property
    def feed(self) -> str:
        """Stream: real-time events as clients see them, id = the fact's. Projection feeds; bounded. Session TTL."""
        return self._key("feed")

    @cached_property
    def recognised(self) -> str:
        """Hash: results of shared recognition for the run's holder, by utterance; JSON. Workers. Expires soon."""
        return self._key("recognised")

    @property
    def list(self) -> str:
        """List: as `SessionKeys.list`, but of this run; the live run's is the session's own."""
        return self.session.list if self.run == LIVE_RUN else self._key("list")

    @property
    def document(self) -> str:
        """String: as `SessionKeys.document`, but of this run; the live run's is the session's own."""
        return self.session.document if self.run == LIVE_RUN else self._key("document")

    @property
    def view(self) -> str:
        """Hash: as `SessionKeys.view`, but of this run; the live run's is the session's own."""
        return self.session.view if self.run == LIVE_RUN else self._key("view")

    @property
    def status(self) -> str:
        """Stream: as `SessionKeys.status`, but of this run; the live run's is the session's own."""
        return self.session.status if self.run == LIVE_RUN else self._key("status")

    def projected(self, projection: str) -> str:
        """String: position in `transcript` up to which `projection` has applied it. That projection. Session TTL."""
        return self._key(f"projected:{projection}")

    def rebuilt(self, part: str) -> str:
        """List, Hash, String, Stream: a part of a read model while it is rebuilt. `stenolog rebuild`. Expires soon."""
        return self._key(f"rebuilt-{part}")

    def expiring(self) -> tuple[str, ...]:
        """Return every key of the run and its session that has the session TTL, existing or not.

        A promoted run's copies for readers, and the live run's moved ones, live as long as the live run's.
        """
        session, upload = self.session, self.session.upload
        shown = (session.promoted, session.live_list, session.live_document, session.live_view)
        return (
            *(shown if self.run == LIVE_RUN else ()), session.replays,
            session.session, session.audio, upload.session, upload.audio, upload.head, self.transcript,
            self.checkpoint, self.recognised, self.feed, self.list, self.document, self.view, self.status,
            *(self.projected(name) for name in (*READ_MODELS, *SINKS)),
        )  # fmt: skip


class Keys:
    """All the keys of a deployment with a fixed number of partitions."""

    def __init__(self, partitions: int) -> None:
        """Make the keys for `partitions` partitions.

        Raises:
            ValueError: if the number is out of bounds.
        """
        self.partitions = tuple(PartitionKeys(number, tag) for number, tag in enumerate(tags(partitions)))

    def of(self, session_id: str) -> SessionKeys:
        """Return the keys of one session."""
        return SessionKeys(session_id, self.partitions[partition_of(session_id, len(self.partitions))])

    def of_run(self, member: str) -> RunKeys:
        """Return the keys of a run named as in `entries`, `index` and `changes`: ``<session> <run>``."""
        session_id, _, run = member.partition(" ")
        return self.of(session_id).run(run or LIVE_RUN)
