"""Commands about runs: comparing a session's replays with its live run, and choosing which one readers get."""

from typing import Any

import click

from stenolog.cli.commands.declaring import Examples, options


@click.command(cls=Examples, epilog=(
    "stenolog diff live large-v3                         every session that has both\n"
    "stenolog diff live large-v3 $SESSION --context 3\n"
    "stenolog diff live large-v3 --summary --ignore-case --ignore-punctuation\n"
    "stenolog diff live large-v3 --json | jq .total.wer"
))
@click.argument("runs", metavar="RUN_A RUN_B", nargs=2)
@click.argument("sessions", metavar="[SESSION]...", nargs=-1)
@options("data")
@click.option("--ignore-case", is_flag=True, help="Upper and lower case make no difference.")
@click.option("--ignore-punctuation", is_flag=True, help="Punctuation makes no difference.")
@click.option(
    "--context", type=click.IntRange(0, 1_000_000), default=8, show_default=True, metavar="WORDS",
    help="Words that agree, shown on either side.",
)
@click.option("--summary", is_flag=True, help="Only the numbers, a line a session.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def diff(**given: Any) -> None:  # noqa: ANN401
    """Compare two runs of the same audio word by word: what differs, and the word error rate of RUN_B against RUN_A.

    `live` is what a session's own client caused; other runs are replays. Words are compared as they stand unless
    --ignore-case or --ignore-punctuation is given. [-words-] are RUN_A's alone, {+words+} RUN_B's. Exit status 0 if
    the runs agree, 1 if they differ, 2 if one isn't there or Redis can't be used.
    """
    from stenolog.cli.diff import run  # noqa: PLC0415

    run(**given)


@click.command(cls=Examples, epilog=(
    "stenolog promote large-v3 $SESSION\n"
    "stenolog promote large-v3 --all            wherever there is such a run\n"
    "stenolog promote live $SESSION             back to what it was"
))
@click.argument("run")
@click.argument("sessions", metavar="[SESSION]...", nargs=-1)
@options("data")
@click.option("--all", "everything", is_flag=True, help="In every session that has the run.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, an object a session.")
def promote(**given: Any) -> None:  # noqa: ANN401
    """Let readers of the SESSIONs get RUN, all at once: List, transcript, exports, events and listings.

    Nothing is lost: `live`, or any other run, can be promoted again, and promoting the same one twice is harmless.
    Only a run that is over, and hasn't failed, is promoted. Exit status 1 if one couldn't be.
    """
    from stenolog.cli.promote import run  # noqa: PLC0415

    run(**given)
