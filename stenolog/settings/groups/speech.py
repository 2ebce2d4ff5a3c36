"""Segmentation and recognition of speech."""

from typing import Annotated, Literal

from stenolog.settings.groups.metadata import number, text
from stenolog.settings.groups.worker import Worker


class Speech(Worker, frozen=True, kw_only=True):
    """Segmentation and recognition of speech."""

    vad_mode: Annotated[int, number(
        "Speech", "mode", "Aggressiveness of webrtcvad. 0 and 1 keep sentences whole; 2 and 3 cut them to pieces and "
        "multiply the errors. No parameter of a client overrides it.", least=0, most=3)] = 1
    hangover_ms: Annotated[int, number(
        "Speech", "ms", "Pause that ends an utterance. Shorter answers sooner and cuts sentences; 300 ms multiplied "
        "the errors. A client's parameter `hangover_ms` overrides it for its session. The cuts of long utterances are "
        "fixed, except in replays: from 15 s on at the first short pause, at 20 s without one.",
        least=100, most=5000)] = 700
    speaker_labels: Annotated[Literal["channel", "hash"], text(
        "Speech", "Labels of speakers: `channel` numbers the channels from 1, all that is known of them; `hash` "
        "derives a label from the utterance's samples, so that the same audio has the same one anywhere. Pinned at "
        "each session's start.")] = "channel"
    partial_interval_ms: Annotated[int, number(
        "Speech", "ms", "Time between two provisional texts of an open utterance, which come at pauses too; with a "
        "busy recogniser it grows. Each costs a recognition of the speech since the last pause. A session's own "
        "interval overrides it.", least=100)] = 1500
    early_final_ms: Annotated[int, number(
        "Speech", "ms", "Pause after which an open utterance is recognised as the final that it becomes if the pause "
        "continues, so that its final is there at once. Shorter is in vain more often: at 330 ms 0.6 times for each "
        "that is used, at 450 ms 0.4 times. It begins at 300 ms at the earliest, when the samples are a final's. "
        "0: never.",
        least=0, most=5000)] = 330
    partials_per_s: Annotated[int, number(
        "Speech", "partials/s", "Provisional texts that one worker publishes at most, so that with a fast engine they "
        "do not outweigh the audio; past it they thin out.", least=0)] = 200
    max_batch_clips: Annotated[int, number(
        "Speech", "clips", "Utterances recognised in one call, as far as so many wait. On CPUs eight together take a "
        "sixth less time than one by one, and the first of them waits for the last; GPUs want 16 and more.",
        least=1, most=64)] = 8
    engine: Annotated[str, text(
        "Speech", "Recogniser: `whisper`, `mock`, `openai`, or one of an installed package with the entry point "
        "`stenolog.recognisers`.")] = "whisper"
    model: Annotated[str, text(
        "Speech", "Name or path of the engine's model. Unset: the bundled tiny.en for `whisper`, `whisper-1` for "
        "`openai`.")] = ""
    whisper_cpu_threads: Annotated[int, number(
        "Speech", "threads", "Threads of one recognition; as many recognitions run side by side as the process has "
        "cores for. Utterances are short: two at once on a core each beat one on two.", least=1)] = 1
    whisper_device: Annotated[Literal["cpu", "cuda", "auto"], text(
        "Speech", "Where Whisper runs. `auto`: on a GPU if CTranslate2 finds one, else on the CPU; `cuda` refuses to "
        "start without. `stenolog doctor --local` shows the device in use and its speed.")] = "cpu"
    whisper_device_index: Annotated[int, number(
        "Speech", "index", "Which GPU, as CUDA counts them.", least=0)] = 0
    whisper_compute_type: Annotated[Literal[
        "auto", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16", "float16", "bfloat16", "float32",
    ], text(
        "Speech", "Number format of CTranslate2. `auto`: int8 on a CPU, float16 on a GPU, the fastest of each.",
    )] = "auto"
    whisper_beam: Annotated[int, number(
        "Speech", "hypotheses", "Texts that Whisper weighs against each other where the first is in doubt. 0: five, "
        "its own default; one saves time and costs accuracy.", least=0, most=20)] = 0
    whisper_batch_s: Annotated[float, number(
        "Speech", "s of audio", "Audio that Whisper decodes together. 0: as much as the device does best; past that a "
        "batch takes longer than its parts, or more memory than the device has.", least=0, most=7200)] = 0.0
    openai_base_url: Annotated[str, text(
        "Speech", "Address of an OpenAI-compatible API, up to and with its version.")] = "https://api.openai.com/v1"
    openai_api_key: Annotated[str, text("Speech", "Key sent as bearer token. Unset: none is sent.")] = ""
    openai_timeout_s: Annotated[float, number(
        "Speech", "s", "Bound of one request. A busy service takes less for 20 s of speech.", least=0.1)] = 30.0
