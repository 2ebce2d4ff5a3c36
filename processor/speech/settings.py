"""The settings that decide where one utterance ends and the next begins."""

import msgspec

SAMPLE_RATES_HZ = (8_000, 16_000, 24_000, 44_100, 48_000)
"""Rates a session may have: telephone, Whisper's own, synthetic voices, CD and browsers."""

SEGMENTER_VERSION = 1
"""Raised by any change that could move a boundary, so that a running session keeps its own."""

FRAME_MS = 30
"""The longest frame that webrtcvad takes: the fewest calls per second of audio."""

SHORTEST_MS = 300
"""Less speech than this rarely holds a word, and Whisper invents one: it gets no partial."""

SHORT_PAUSE_MS = 240
"""A pause of this length within an utterance lies between words; a stop consonant's closure is shorter."""

BOUNDARY_GRID_MS = 10
"""Boundaries are multiples of this: whole samples at every rate, 44.1 kHz included."""


class SegmenterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a session is cut into utterances, pinned in its start event.

    Durations are counted in whole 30 ms frames, rounded up.

    Attributes:
        version: The segmenter's version that the session was started with.
        vad_mode: webrtcvad's aggressiveness, 0 to 3; 2 and 3 cut sentences into pieces.
        hangover_ms: Pause that ends an utterance; shorter answers sooner, longer keeps sentences whole.
        preroll_ms: Audio kept before the first voiced frame, for soft onsets that the detector misses.
        postroll_ms: Audio kept after the last voiced frame, for trailing consonants.
        trigger_voiced_ms: Voiced audio within the window that opens an utterance; shorter takes clicks for speech.
        trigger_window_ms: The window in which the trigger counts voiced audio.
        warmup_ms: Start of each clean slate in which voice opens nothing yet: a fresh detector takes 150 ms to separate
            steady noise from voice. Speech that continues is found behind it, and the pre-roll reaches back over it.
        soft_cut_ms: Length from which the first short pause ends an utterance, since Whisper's window is 30 s.
        soft_pause_ms: Length of a short pause there: a breath, longer than a stop consonant's closure.
        hard_cut_ms: Length at which an utterance ends without any pause; it leaves Whisper's window room for padding.
        silence_ms: Silence after which a boundary without utterance is set, so that a restart rereads little.
    """

    version: int = SEGMENTER_VERSION
    vad_mode: int = 1
    hangover_ms: int = 700
    preroll_ms: int = 300
    postroll_ms: int = 300
    trigger_voiced_ms: int = 90
    trigger_window_ms: int = 150
    warmup_ms: int = 180
    soft_cut_ms: int = 15_000
    soft_pause_ms: int = 210
    hard_cut_ms: int = 20_000
    silence_ms: int = 10_000

    def __post_init__(self) -> None:
        """Refuse values that the segmenter cannot honour.

        Raises:
            ValueError: A setting is out of its range; the message names it.
        """
        _require(self.version == SEGMENTER_VERSION, f"version: only {SEGMENTER_VERSION} is known, not {self.version}")
        _require(0 <= self.vad_mode <= 3, f"vad_mode: 0 to 3, not {self.vad_mode}")  # noqa: PLR2004 -- webrtcvad's own range
        for name in self.__struct_fields__[2:]:
            _require(0 <= getattr(self, name) <= _LONGEST_MS, f"{name}: 0 to {_LONGEST_MS} ms")
        _require(self.hangover_ms >= FRAME_MS, "hangover_ms: at least one frame of 30 ms")
        _require(
            FRAME_MS <= self.trigger_voiced_ms <= self.trigger_window_ms <= _LONGEST_TRIGGER_MS,
            f"trigger_voiced_ms: 30 ms to trigger_window_ms, itself at most {_LONGEST_TRIGGER_MS} ms",
        )
        _require(self.soft_cut_ms <= self.hard_cut_ms, "soft_cut_ms: at most hard_cut_ms")
        _require(self.hard_cut_ms >= _SHORTEST_CUT_MS, f"hard_cut_ms: at least {_SHORTEST_CUT_MS} ms")
        _require(self.silence_ms >= _SHORTEST_CUT_MS, f"silence_ms: at least {_SHORTEST_CUT_MS} ms")


_LONGEST_MS = 60_000  # bounds what one session may hold in memory: a minute of 48 kHz audio is 5.8 MB
_LONGEST_TRIGGER_MS = 900  # thirty frames: the history stays one small integer
_SHORTEST_CUT_MS = 1_000  # below a second, boundaries would outnumber words


def _require(holds: bool, message: str) -> None:  # noqa: FBT001 -- the condition is the argument
    if not holds:
        raise ValueError(message)
