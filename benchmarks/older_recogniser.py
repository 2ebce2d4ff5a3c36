"""The recogniser of an older checkout, in a process whose first path is that checkout.

Run as a script, with that checkout as PYTHONPATH: it reads a JSON line with settings, then one per call with clips, and
answers each with a JSON line. It imports nothing of this checkout.
"""

import base64
import json
import sys
import time
from typing import Any


def answer(recogniser: Any, clip_type: Any, call: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: ANN401 -- its types
    """Recognise the clips of one call, and return texts, numbers of decodes and the process's own CPU seconds."""
    clips = [clip_type(**{**clip, "pcm": base64.b64decode(clip["pcm"])}) for clip in call]
    before_s = time.process_time()
    found = recogniser.recognise(clips)
    cpu_s = time.process_time() - before_s
    return {"texts": [one.text for one in found], "decodes": [one.decodes for one in found], "cpu_s": cpu_s}


def main() -> None:
    """Answer calls until standard input ends."""
    from processor.recognisers.base import Clip  # noqa: PLC0415 -- of the checkout that PYTHONPATH names
    from processor.recognisers.whisper import WhisperRecogniser  # noqa: PLC0415

    recogniser = WhisperRecogniser(**json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        print(json.dumps(answer(recogniser, Clip, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
