"""The requirements that are met so far, each with a test that cites it."""

import ast
import re

from tests.support import tree

CITED = re.compile(r"\b[A-Z]+-\d+\b")
# The ids of the requirements that are met so far. This may only grow.
REQUIRED = {
    "STITCH-1", "STITCH-2", "STITCH-3", "STITCH-4", "STITCH-5", "STITCH-6", "STITCH-7", "STITCH-8",
    "LIVE-1", "LIVE-2", "LIVE-3", "LIVE-4", "LIVE-5", "LIVE-6",
    "STATUS-1", "STATUS-2", "STATUS-3", "STATUS-4", "STATUS-5", "STATUS-6", "STATUS-7",
    "SESS-1", "SESS-2", "SESS-3", "SESS-4", "SESS-5", "SESS-6", "SESS-7", "SESS-8", "SESS-9", "SESS-10",
    "BATCH-1", "BATCH-2", "BATCH-3", "BATCH-4", "BATCH-5", "BATCH-6", "BATCH-7", "BATCH-8", "BATCH-9", "BATCH-10",
    "REPLAY-1", "REPLAY-2", "REPLAY-3",
    "SAFE-1", "SAFE-2", "SAFE-3", "SAFE-4",
    "OPS-1", "OPS-2", "OPS-3",
}  # fmt: skip


def test_each_requirement_is_cited_by_a_test() -> None:
    """The docstring of a test cites each requirement in scope."""
    cited = {
        name for module in tree.modules("tests") for one in module.functions() if one.name.startswith("test_")
        for name in CITED.findall(ast.get_docstring(one) or "")
    }
    assert REQUIRED - cited == set()
