"""The settings themselves: a field each, whose metadata says group, unit, bounds and why the default is what it is."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from edge.ingest.identity import NAME_PATTERN, TENANT_PATTERN

# Named as other tools name them; everything else has the prefix STENOLOG_.
PLAIN_NAMES = {
    name: name.upper() for name in (
        "redis_url", "mock_tenant_id", "mock_user_id", "event_source", "eventbridge_bus_name", "aws_region",
        "aws_endpoint_url",
    )
}
PREFIX = "STENOLOG_"
# Never shown: not in an error, not in a repr.
SECRETS = frozenset({"openai_api_key", "redis_url", "auth_secret", "kafka_password"})

Projection = Literal["lists", "feeds", "sessions", "status", "eventbridge", "kafka", "webhooks"]


def _text(group: str, why: str, *, pattern: str | None = None, allowed: str = "text") -> Meta:
    return Meta(description=why, pattern=pattern, extra={"group": group, "unit": "text", "allowed": allowed})


def _number(group: str, unit: str, why: str, *, least: float, most: float | None = None) -> Meta:
    return Meta(ge=least, le=most, description=why, extra={"group": group, "unit": unit})


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one process.

    Every role reads what concerns it; the unit is in the name or, for counts, in the metadata.
    """

    # Where it runs
    redis_url: Annotated[str | None, _text(
        "General", "Redis or Valkey, 7.0 or later, one server or a cluster. Unset: `stenolog up` starts an embedded "
        "Valkey under `data_dir`; the other commands need it.")] = None
    redis_ca_file: Annotated[str, _text(
        "General", "Certificates (PEM) of the authority that signed Redis's, for a `rediss://` address. Unset: the "
        "system's own.")] = ""
    redis_cert_file: Annotated[str, _text(
        "General", "Certificate (PEM) to show to a Redis that asks its clients for one.")] = ""
    redis_key_file: Annotated[str, _text(
        "General", "Key (PEM) of `redis_cert_file`.")] = ""
    host: Annotated[str, _text(
        "General", "Address that the edge listens on. Loopback, since without authentication nobody else may reach it.",
    )] = "127.0.0.1"
    port: Annotated[int, _number(
        "General", "port", "Port that the edge listens on; 0 takes any free one.", least=0, most=65_535)] = 8000
    data_dir: Annotated[str, _text(
        "General", "Directory of the embedded server's append-only file. Beside where the command is typed, so that "
        "it is easily found and removed.")] = "data"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _text(
        "General", "Least severity that is logged.")] = "info"
    metrics_host: Annotated[str, _text(
        "General", "Address that `metrics_port` is offered on. Loopback, since nobody is asked for a token there; the "
        "numbers are the whole deployment's.")] = "127.0.0.1"
    metrics_port: Annotated[int, _number(
        "General", "port", "Port on which this process offers its metrics at `/metrics`; 0 for none. `stenolog up` "
        "gives its processes this one and those after it, in order. An edge has them at its own `/metrics` as well.",
        least=0, most=65_535)] = 0

    # Who may what
    auth: Annotated[Literal["off", "hs256", "jwks"], _text(
        "Access", "How tokens (JWT) are checked: with the secret `auth_secret`, or with the issuer's public keys "
        "`auth_jwks` (RS256, ES256). `off` only on a loopback `host`.")] = "off"
    auth_secret: Annotated[str, _text(
        "Access", "Secret of HS256 tokens, 32 bytes or more: a shorter one can be guessed from any token.")] = ""
    auth_jwks: Annotated[str, _text(
        "Access", "Address (`https://…`) or file of the issuer's key set. Fetched at need, kept while the issuer is "
        "away.")] = ""
    auth_issuer: Annotated[str, _text("Access", "Issuer (`iss`) that tokens must be of. Unset: any.")] = ""
    auth_audience: Annotated[str, _text("Access", "Audience (`aud`) that tokens must be for. Unset: any.")] = ""
    auth_leeway_s: Annotated[float, _number(
        "Access", "s", "How far the issuer's clock may be from ours. Hosts that keep time by NTP differ by less.",
        least=0, most=300)] = 5.0
    auth_grace_s: Annotated[float, _number(
        "Access", "s", "How long what is open stays open after its token has expired. Longer than most conversations, "
        "so that none is cut by an expiry.", least=0)] = 3600.0
    ticket_ttl_s: Annotated[int, _number(
        "Access", "s", "Life of a ticket for event streams. Long enough to open one and to reconnect, short enough "
        "that one in a proxy's log is worth nothing.", least=5, most=3600)] = 60
    resume_token_ttl_s: Annotated[int, _number(
        "Access", "s", "How long a resume token is good after its last use, if the session lives so long. A client "
        "away for longer has given up.", least=60)] = 3600
    requests_per_minute: Annotated[int, _number(
        "Access", "requests", "Requests with scope `ingest` that a tenant may make in a minute; 0 for any number. Ten "
        "clients that send ten chunks a second each by HTTP.", least=0)] = 6000
    allowed_origins: Annotated[tuple[str, ...], _text(
        "Access", "Origins of other sites whose pages may ask, such as `https://app.example.com`, separated by "
        "commas; `*` for all. Unset: only pages from the edge's own host.")] = ()

    # The log
    partitions: Annotated[int, _number(
        "Log", "partitions", "Hash tags that sessions are spread over, fixed in Redis at first use. 64 spread evenly "
        "over any cluster of up to some 20 nodes, and one script call each per flush is still cheap.",
        least=1, most=1024)] = 64
    session_ttl_s: Annotated[int, _number(
        "Log", "s", "How long a session's keys outlive its last sign of life. A day is enough to fetch a transcript "
        "the next morning.", least=60)] = 86_400
    audio_retention_s: Annotated[int, _number(
        "Log", "s", "Audio kept behind the checkpoint, for replays. A thousand sessions of 16 kHz audio fill 25 GB in "
        "10 minutes; longer history is an archive's work.", least=0)] = 600
    changes_max_notices: Annotated[int, _number(
        "Log", "notices", "Length bound of each partition's `changes` stream. A notice is some 200 bytes: 20 MB a "
        "partition at worst; a projection further behind walks the sessions instead.", least=100)] = 100_000
    feed_max_events: Annotated[int, _number(
        "Log", "events", "Length bound of one session's feed. Hours of finals; a listener further behind is told to "
        "start anew.", least=10)] = 10_000

    # Sessions
    max_sessions: Annotated[int, _number(
        "Sessions", "sessions", "Live sessions over all replicas. More than two slow cores carry; raise it "
        "with the machines that are added.", least=1)] = 1000
    max_sessions_per_tenant: Annotated[int, _number(
        "Sessions", "sessions", "Live sessions of one tenant over all replicas; 0 for no bound but `max_sessions`.",
        least=0)] = 0
    reservation_ttl_s: Annotated[int, _number(
        "Sessions", "s", "How long a crashed edge's reservations count against `max_sessions`; a living edge renews "
        "them three times as often.", least=3, most=60)] = 60
    max_session_s: Annotated[float, _number(
        "Sessions", "s of audio", "Longest session; past it, it is ended and its client told. Half a working day: a "
        "client that forgets to stop is no conversation.", least=1)] = 14_400.0
    idle_s: Annotated[int, _number(
        "Sessions", "s", "Silence of a client (no audio, no keepalive) after which its session is ended. Longer than "
        "any pause in a conversation that is still one.", least=1)] = 300
    idle_sweep_s: Annotated[int, _number(
        "Sessions", "s", "Time between two looks for idle sessions: a tenth of `idle_s`, so the end is that punctual.",
        least=1)] = 30

    # Edge
    flush_ms: Annotated[int, _number(
        "Edge", "ms", "Time that audio is gathered before it is appended, all sockets in one go. Adds half of itself "
        "to an ack, and makes an append per flush out of one per frame.", least=1, most=1000)] = 10
    flush_bytes: Annotated[int, _number(
        "Edge", "bytes", "Gathered audio that is appended at once without waiting for `flush_ms`. Redis takes some "
        "milliseconds for it, so that no other call waits longer.", least=4096)] = 1_048_576
    ack_interval_ms: Annotated[int, _number(
        "Edge", "ms of audio", "Audio after which a client hears of its durability at the latest.",
        least=10, most=250)] = 250
    max_frame_bytes: Annotated[int, _number(
        "Edge", "bytes", "Largest WebSocket message taken. 32 s of 16 kHz mono: no live client sends more at once.",
        least=1024)] = 1_048_576
    unacked_bytes: Annotated[int, _number(
        "Edge", "bytes", "Audio of one session that may wait for its ack before its socket is read no further. At "
        "least one frame of `max_frame_bytes`; a thousand held back at once stay within a gigabyte.",
        least=1024)] = 1_048_576
    refill_s: Annotated[float, _number(
        "Edge", "s of audio", "Acked audio that an edge keeps, to fill what a failover of Redis lost. More than a "
        "replica usually lags behind, and 160 kB a session.", least=0, most=60)] = 5.0
    outbox_messages: Annotated[int, _number(
        "Edge", "messages", "Messages that may wait for one slow client. Minutes of captions; then the client is "
        "disconnected and may resume.", least=8)] = 256
    redis_gone_s: Annotated[float, _number(
        "Edge", "s", "How long edges hold their sockets while Redis does not answer, before they close them with "
        "code 1013 (try again later). Longer than a failover takes.", least=0)] = 30.0
    end_wait_s: Annotated[float, _number(
        "Edge", "s", "How long the edge waits for the stitched transcript at a session's end before it answers with "
        "the transcript's URL. As long as a person waits for a page.", least=0)] = 10.0
    answer_wait_s: Annotated[float, _number(
        "Edge", "s", "How long a request that brings a recording is held for its transcript, before it is answered "
        "with 202 and the transcript's URL. As long as proxies hold a silent request.", least=0, most=3600)] = 60.0
    max_upload_bytes: Annotated[int, _number(
        "Edge", "bytes", "Largest recording in one request: 2 GiB. Three hours of 48 kHz stereo WAV, weeks of Opus; it "
        "costs time, not memory: no process and no Redis ever holds more than `upload_ahead_bytes` of it.", least=1024)
    ] = 2_147_483_648
    ready_stale_s: Annotated[float, _number(
        "Edge", "s", "Time without any worker having consumed after which `/v1/ready` is red: three leases.",
        least=1)] = 15.0
    ready_lag_s: Annotated[float, _number(
        "Edge", "s", "How long a session may wait for a worker, decided speech for its text, or a fact for the lists "
        "and feeds, before `/v1/ready` is red. Captions that late are of no use to anybody.", least=1)] = 30.0
    sse_keepalive_s: Annotated[float, _number(
        "Edge", "s", "Time between two comments on an event stream on which nothing comes. Proxies close a connection "
        "after 30 s of silence and more.", least=0.1)] = 15.0
    sse_listeners: Annotated[int, _number(
        "Edge", "listeners", "Event streams that one edge process has open at most. An idle one takes some 5 KiB; file "
        "descriptors may be the nearer bound.", least=1)] = 10_000
    sse_listeners_per_user: Annotated[int, _number(
        "Edge", "listeners", "Of those, one user's, where tokens say who that is. More tabs than anybody has open, "
        "and room for a dashboard.", least=1)] = 100
    sse_buffer_bytes: Annotated[int, _number(
        "Edge", "bytes", "What may wait in the process, and as much in the kernel, for a listener that doesn't read: "
        "minutes of captions. Past it nothing more is sent until it has read.", least=4096)] = 65_536
    sse_slow_s: Annotated[float, _number(
        "Edge", "s", "How long a listener may leave all of that unread before it is dropped. Longer than a phone's "
        "change of network takes.", least=0.1)] = 10.0

    # Worker
    lease_ms: Annotated[int, _number(
        "Worker", "ms", "A claim not renewed for this long is taken over. Short enough that captions resume while the "
        "speaker still talks, long enough that no pause of a busy machine looks like a death.", least=500)] = 5000
    worker_capacity: Annotated[int, _number(
        "Worker", "sessions", "Sessions that one worker holds at most: what one core reads and segments.",
        least=1)] = 1000
    worker_tick_ms: Annotated[int, _number(
        "Worker", "ms", "Time between two reads of all audio streams. Polling a thousand streams costs Redis less "
        "than blocking on them, and adds half a tick to a final.", least=1, most=1000)] = 20
    read_bytes_each: Annotated[int, _number(
        "Worker", "bytes", "Audio that one read takes of one stream at most: 8 s of 16 kHz mono. 250 streams that "
        "catch up would otherwise send hundreds of megabytes at once.", least=4096)] = 262_144
    pending_utterances: Annotated[int, _number(
        "Worker", "utterances", "Decided utterances of one session that may wait for recognition before its audio is "
        "read no further: a minute of speech at most, so that it is soon recognised.", least=1)] = 8
    suspicion_limit: Annotated[int, _number(
        "Worker", "deaths", "Deaths of workers over one session, without a commit between, after which it is tried "
        "alone. Two may be chance.", least=0)] = 2
    solo_timeout_s: Annotated[float, _number(
        "Worker", "s", "Bound of that try, after which the session is set aside. Enough to load a model and to "
        "recognise a minute of speech on one slow core.", least=1)] = 120.0
    decoders: Annotated[int, _number(
        "Worker", "processes", "Recordings that one worker decodes at once; the others wait in line. A live browser "
        "needs a decoder for as long as it speaks, so it is counted in browsers, not in cores: some 16 MB each, and a "
        "hundredth of a core; recordings are held back by `decode_ahead_s`.", least=1)] = 64
    decode_ahead_s: Annotated[int, _number(
        "Worker", "s of audio", "How far a recording is decoded ahead of what is transcribed. Some 40 utterances, so "
        "that about ten cores find enough to do at once; 12 MB in Redis, half of what is kept behind it.",
        least=30)] = 300
    spool_bytes: Annotated[int, _number(
        "Worker", "bytes", "Longest MP4 whose index stands at its end; it must be kept in a temporary file until then. "
        "Half a gigabyte is many hours of sound.", least=1_048_576)] = 536_870_912

    # Speech
    vad_mode: Annotated[int, _number(
        "Speech", "mode", "Aggressiveness of webrtcvad. 0 and 1 keep sentences whole; 2 and 3 cut them to pieces and "
        "multiply the errors.", least=0, most=3)] = 1
    hangover_ms: Annotated[int, _number(
        "Speech", "ms", "Pause that ends an utterance. Shorter answers sooner and cuts sentences; 300 ms multiplied "
        "the errors.", least=100, most=5000)] = 700
    speaker_labels: Annotated[Literal["channel", "hash"], _text(
        "Speech", "Whose an utterance is: `channel` numbers the channels from 1, which is all that is known of who "
        "speaks; `hash` draws a label from the utterance's samples, so that the same audio has the same one anywhere. "
        "Pinned at each session's start.")] = "channel"
    partial_interval_ms: Annotated[int, _number(
        "Speech", "ms", "Time between two provisional texts of an open utterance, while there is room. A second "
        "reads as live; each costs a recognition.", least=100)] = 1000
    partials_per_s: Annotated[int, _number(
        "Speech", "partials/s", "Provisional texts that one worker publishes at most, so that with a fast engine they "
        "do not outweigh the audio; past it they thin out.", least=0)] = 200
    batch_clips: Annotated[int, _number(
        "Speech", "clips", "Utterances recognised in one call. On CPUs a batch saves a fifth at most, and the first "
        "of it waits for the last; GPUs want 16 and more.", least=1, most=64)] = 2
    engine: Annotated[str, _text(
        "Speech", "Recogniser: `whisper`, `mock`, `openai`, or one that an installed package brings as entry point "
        "`stenolog.recognisers`.")] = "whisper"
    model: Annotated[str, _text(
        "Speech", "Name or path of the engine's model. Unset: the bundled tiny.en for `whisper`, `whisper-1` for "
        "`openai`.")] = ""
    whisper_cpu_threads: Annotated[int, _number(
        "Speech", "threads", "Threads of one recognition; as many recognitions run side by side as the process has "
        "cores for. Utterances are short: two at once on a core each beat one on two.", least=1)] = 1
    openai_base_url: Annotated[str, _text(
        "Speech", "Address of an OpenAI-compatible API, up to and with its version.")] = "https://api.openai.com/v1"
    openai_api_key: Annotated[str, _text("Speech", "Key sent as bearer token. Unset: none is sent.")] = ""
    openai_timeout_s: Annotated[float, _number(
        "Speech", "s", "Bound of one request. Above what a busy service takes for 20 s of speech.",
        least=0.1)] = 30.0

    # Recorded files
    batch_wait_s: Annotated[float, _number(
        "Recorded files", "s", "How long `/batch/process` waits for a recording's transcript before it answers 202 "
        "and where that will be. An hour of speech takes about a minute on two cores; proxies give up after one or "
        "some.", least=0)] = 300.0
    mock_tenant_id: Annotated[str, _text(
        "Recorded files", "Tenant of recordings whose request names none (`X-Tenant-ID`) while authentication is off. "
        "Unset: a new one each.", pattern=f"^({TENANT_PATTERN})?$", allowed="a UUID v4")] = ""
    mock_user_id: Annotated[str, _text(
        "Recorded files", "User of recordings whose request names none (`X-User-ID`) while authentication is off. "
        "Unset: `system`.", pattern=f"^({NAME_PATTERN})?$", allowed="1 to 255 printable ASCII characters without spaces"
        )] = ""
    upload_ahead_bytes: Annotated[int, _number(
        "Recorded files", "bytes", "How much of a recording may be in Redis that is not decoded yet, or, of bare "
        "samples, not transcribed (two minutes in any case); its sender is read no faster. Hours of compressed speech, "
        "so that only large files ever wait.", least=1_048_576)
    ] = 67_108_864
    recognise_share: Annotated[bool, _text(
        "Recorded files", "Whether utterances of recordings may be recognised by any worker with the same engine, "
        "rather than by the one that has the session alone.")] = True
    recognise_ahead: Annotated[int, _number(
        "Recorded files", "utterances", "Decided utterances that one worker may have waiting for recognition, by "
        "whichever worker, of recordings that are past `pending_utterances`: enough to keep ten cores busy; 40 MB of "
        "audio at most.", least=1)] = 64
    recognise_lease_ms: Annotated[int, _number(
        "Recorded files", "ms", "After which an utterance that another worker took is offered again: that worker may "
        "have died. Longer than a batch takes on a slow core; twice recognised does no harm.", least=1000)] = 20_000

    # Projections
    projections: Annotated[tuple[Projection, ...], _text(
        "Projections", "What `stenolog up` and `stenolog project` run, separated by commas.",
    )] = ("lists", "feeds", "sessions", "status", "eventbridge", "webhooks")
    forward_lease_ms: Annotated[int, _number(
        "Projections", "ms", "For how long a process that forwards events keeps a partition without a sign of life; "
        "then another forwards its events.", least=1000)] = 10_000
    forward_give_up_s: Annotated[float, _number(
        "Projections", "s", "How long an event is tried to be forwarded, with growing pauses, before it goes to the "
        "dead letters. Longer than most outages; well below `session_ttl_s`, with which its facts expire.", least=0)
    ] = 3600.0
    event_source: Annotated[str, _text(
        "Projections", "Source that EventBridge events name.")] = "com.yourapp.transcription"
    eventbridge_bus_name: Annotated[str, _text(
        "Projections", "EventBridge bus that finished recordings are told to: name or ARN.")] = "default"
    aws_region: Annotated[str, _text(
        "Projections", "Region of that bus. Credentials are found as boto3 finds them.")] = "us-east-1"
    aws_endpoint_url: Annotated[str, _text(
        "Projections", "Address of an emulator in place of AWS.")] = ""
    eventbridge_bucket: Annotated[str, _text(
        "Projections", "S3 bucket for events above EventBridge's size limit, which are forwarded by reference. Unset: "
        "they go to the dead letters.")] = ""
    eventbridge_encryption: Annotated[Literal["AES256", "aws:kms", "bucket"], _text(
        "Projections", "How objects in that bucket are encrypted, asked for with each. `bucket`: as the bucket's own "
        "default has it, which a key of your own needs.")] = "AES256"
    eventbridge_max_bytes: Annotated[int, _number(
        "Projections", "bytes", "Largest event, and all of one request, to EventBridge. It takes 1 MB, and SQS 1 MiB "
        "with the envelope; regions that were not raised to that yet, as those in China, take 256 KB.",
        least=10_000, most=1_048_576)] = 1_000_000
    kafka_url: Annotated[str, _text(
        "Projections", "Kafka brokers of the projection `kafka`, several separated by semicolons.",
        pattern=r"^kafka://[^/@;]+(;kafka://[^/@;]+)*$", allowed="kafka://host:9092")] = "kafka://localhost:9092"
    kafka_max_bytes: Annotated[int, _number(
        "Projections", "bytes", "Largest record for Kafka, others go to the dead letters: just under the brokers' own "
        "default (`message.max.bytes`). Hours of speech fit; raise both together.", least=10_000)] = 1_000_000
    kafka_tls: Annotated[bool, _text(
        "Projections", "Whether the brokers are spoken to by TLS.")] = False
    kafka_ca_file: Annotated[str, _text(
        "Projections", "Certificates (PEM) of the authority that signed the brokers'. Unset: the system's own.")] = ""
    kafka_cert_file: Annotated[str, _text(
        "Projections", "Certificate (PEM) to show to brokers that ask their clients for one.")] = ""
    kafka_key_file: Annotated[str, _text(
        "Projections", "Key (PEM) of `kafka_cert_file`.")] = ""
    kafka_user: Annotated[str, _text(
        "Projections", "User for the brokers (SASL). Unset: none is named.")] = ""
    kafka_password: Annotated[str, _text(
        "Projections", "Password of `kafka_user`.")] = ""
    kafka_sasl: Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], _text(
        "Projections", "How user and password are shown to the brokers. The first only over TLS.")] = "SCRAM-SHA-512"
    webhook_private: Annotated[bool, _text(
        "Projections", "Whether webhooks may go to private and loopback addresses and by plain HTTP. Off, since "
        "tenants choose the addresses and this machine may reach what they may not.")] = False
    webhook_timeout_s: Annotated[float, _number(
        "Projections", "s", "Bound of one webhook request.", least=0.1)] = 10.0

    def __repr__(self) -> str:
        """All fields, secrets hidden, since a repr ends up in logs."""
        shown = ((field.name, "…" if field.name in SECRETS and getattr(self, field.name) else
                  repr(getattr(self, field.name))) for field in fields())
        return f"Settings({', '.join(f'{name}={value}' for name, value in shown)})"


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one setting: its names, type, metadata and default."""

    name: str
    variable: str
    annotation: Any
    meta: Meta
    default: Any

    @property
    def group(self) -> str:
        """Heading that the setting stands under in the documentation."""
        return str((self.meta.extra or {})["group"])

    @property
    def unit(self) -> str:
        """What the value counts or measures."""
        return str((self.meta.extra or {})["unit"])

    @property
    def allowed(self) -> str:
        """The values that are taken, in words."""
        kind = get_args(self.annotation)[0]
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        if kind == tuple[Projection, ...]:
            return f"any of {', '.join(get_args(Projection))}, separated by commas"
        if choices:
            return f"one of {', '.join(choices)}"
        if self.meta.ge is None:
            return str((self.meta.extra or {})["allowed"])
        number = "a whole number" if kind is int else "a number"
        upper = "" if self.meta.le is None else f" and at most {self.meta.le}"
        return f"{number} of at least {self.meta.ge}{upper} ({self.unit})"


def fields() -> Iterator[Field]:
    """Every setting, in the order of declaration."""
    hints = get_type_hints(Settings, include_extras=True)
    for field in msgspec.structs.fields(Settings):
        hint = hints[field.name]
        yield Field(name=field.name, variable=PLAIN_NAMES.get(field.name, PREFIX + field.name.upper()),
                    annotation=hint, meta=hint.__metadata__[0], default=field.default)
