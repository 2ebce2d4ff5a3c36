"""The examples of docs/batch.md, typed as they stand there."""

import asyncio
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge.ingest.batch import BatchPending, BatchResult, Segment
from tests.integration.edge.replicas import Replica
from tests.support.speech import RECORDINGS, speech
from tests.support.tree import ROOT

PAGE = ROOT / "docs/batch.md"
EXAMPLES_S = 60


@pytest.mark.usefixtures("path")
@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="the examples use curl and jq")
async def test_the_examples_work(edge: Replica, tmp_path: Path) -> None:
    """Every example for a shell does what the page says, one after the other (BATCH-1)."""
    examples = "\n".join(re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))
    (tmp_path / "talk.webm").write_bytes((RECORDINGS / "mediarecorder.webm").read_bytes())
    (tmp_path / "talk.pcm").write_bytes(speech(1))
    done = await asyncio.to_thread(
        subprocess.run, ["/bin/bash", "-euo", "pipefail", "-c", examples], cwd=tmp_path, capture_output=True,
        text=True, check=False, timeout=EXAMPLES_S, env={"PATH": os.environ["PATH"], "EDGE": edge.http},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0]
    assert "2.5" in said
    assert any(re.fullmatch(r"/api/v1/sessions/[0-9a-f-]{36}/status/stream", line) for line in said)
    assert int((tmp_path / "messages").read_text()) >= 2
    assert said[-1]


def test_every_field_stands_on_the_page() -> None:
    """Each field of the answers is named on the page."""
    page = PAGE.read_text(encoding="utf-8")
    fields = {name for kind in (BatchPending, BatchResult, Segment) for name in kind.__struct_fields__}
    assert {name for name in fields if f"`{name}`" not in page} == set()
