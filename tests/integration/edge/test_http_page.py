"""The examples of docs/http.md, typed as they stand there."""

import asyncio
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.edge.replicas import replica
from tests.support.speech import RECORDINGS, speech
from tests.support.tree import ROOT

PAGE = ROOT / "docs/http.md"
EXAMPLES_S = 60


@pytest.mark.usefixtures("path")
@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="the examples use curl and jq")
async def test_the_examples_work(redis_url: str, tmp_path: Path) -> None:
    """Every example for a shell does what the page says, one after the other (SESS-2, LIVE-1, LIVE-2)."""
    examples = "\n".join(re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))
    (tmp_path / "talk.webm").write_bytes((RECORDINGS / "mediarecorder.webm").read_bytes())
    (tmp_path / "talk.pcm").write_bytes(speech(1))
    async with replica(redis_url) as edge:
        done = await asyncio.to_thread(
            subprocess.run, ["/bin/bash", "-euo", "pipefail", "-c", examples], cwd=tmp_path, capture_output=True,
            text=True, check=False, timeout=EXAMPLES_S, env={"PATH": os.environ["PATH"], "EDGE": edge.http},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert re.fullmatch(r"\w[\w ,.]+\.", said[0])
    assert (tmp_path / "talk.vtt").read_text(encoding="utf-8").startswith("WEBVTT")
    assert [line for line in said if line.isdigit()] == ["8000", "16000", "24000", "27491"]
    assert sum('"offset":32000,"end":32000' in line for line in said) == 2
    assert any(line.startswith("the session's audio ends at 32000") for line in said)
    assert "true" in said
