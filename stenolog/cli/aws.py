"""`stenolog aws setup` and `stenolog aws verify`; docs/aws.md is their page."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from stenolog.operations.aws.access import Access
    from stenolog.operations.aws.desired_state import Names

Command = TypeVar("Command", bound=Callable[..., Any])

_QUEUE = re.compile(r"[A-Za-z0-9_-]{1,80}")
_RULE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BUS = re.compile(r"(arn:aws[\w-]*:events:[a-z0-9-]+:\d{12}:event-bus/)?[/A-Za-z0-9._-]{1,256}")


def _named(pattern: re.Pattern[str], what: str) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """Refuse a name that AWS wouldn't take, before anything is made."""
    def check(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
        if value is not None and not pattern.fullmatch(value):
            raise click.BadParameter(f"{value!r} is no name of {what}")
        return value

    return check


def _options(command: Command) -> Command:
    """What both commands take; what isn't given comes from the settings."""
    for option in reversed((
        click.option("--endpoint-url", metavar="URL", help="An emulator in place of AWS.  [default: AWS_ENDPOINT_URL]"),
        click.option("--region", help="AWS region.  [default: AWS_REGION, us-east-1]"),
        click.option("--bus", metavar="NAME|ARN", callback=_named(_BUS, "an event bus"),
                     help="Event bus.  [default: EVENTBRIDGE_BUS_NAME, default]"),
        click.option("--source", help="Source of the events.  [default: EVENT_SOURCE, com.yourapp.transcription]"),
        click.option("--queue-name", "queue", default="meeting-transcripts-queue", show_default=True, metavar="NAME",
                     callback=_named(_QUEUE, "a standard queue"), help="Queue that the events go to."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
    )):
        command = option(command)
    return command


@click.group()
def aws() -> None:
    """Make and try what listens to EventBridge: a queue, its dead-letter queue, a rule."""


@aws.command()
@_options
@click.option("--dlq-name", "dlq", default="meeting-transcripts-dlq", show_default=True, metavar="NAME",
              callback=_named(_QUEUE, "a standard queue"), help="Queue for what was received three times.")
@click.option("--rule-name", "rule", default="capture-transcripts-rule", show_default=True, metavar="NAME",
              callback=_named(_RULE, "a rule"), help="Rule that takes the events from the bus.")
@click.option("--dry-run", is_flag=True, help="Only look, and tell what would be made.")
def setup(*, as_json: bool, dry_run: bool, dlq: str, rule: str, **options: Any) -> None:  # noqa: ANN401 - settings have many types
    """Make the queues, the rule and its target, as far as they aren't there.

    What exists is kept as it is; what of it differs is told. Prints the queue's URL, the dead-letter queue's URL and
    the rule's ARN.
    """
    from stenolog.operations.aws.setup import Setup  # noqa: PLC0415 - commands import when they run

    access, names = _prepared(options, dlq=dlq, rule=rule)
    found = _run(lambda: Setup(access(), names, _note, dry_run=dry_run).run())
    if as_json:
        _print_json(found)
        return
    for label, value in (("queue", found.queue_url), ("dead-letter queue", found.dlq_url), ("rule", found.rule_arn)):
        click.echo(f"{label}: {value or '(would be created)'}")


@aws.command()
@_options
def verify(*, as_json: bool, **options: Any) -> None:  # noqa: ANN401
    """Send a test event and wait for it in the queue, for 30 s: exit status 0 if it comes as it was sent, 1 if not.

    The event has an interaction id of its own and the user `stenolog-verify`. Only its own message is deleted.
    """
    from stenolog.operations.aws.verify import Verify  # noqa: PLC0415

    access, names = _prepared(options)
    found = _run(lambda: Verify(access(), names, _note).run())
    if as_json:
        _print_json(found)
    elif found.ok:
        click.echo(f"ok: the event {found.event_id} came in {found.seconds} s, as it was sent")
    for problem in found.problems:
        _note(f"error: {problem}")
    if not found.ok:
        sys.exit(1)


def _prepared(options: dict[str, Any], **more: str) -> tuple[Callable[[], Access], Names]:
    """How to reach AWS, and the names, by options and settings."""
    from stenolog.cli.errors import told  # noqa: PLC0415
    from stenolog.operations.aws.access import Access  # noqa: PLC0415
    from stenolog.operations.aws.desired_state import Names  # noqa: PLC0415
    from stenolog.settings import load  # noqa: PLC0415

    with told():
        settings = load(
            aws_region=options["region"], aws_endpoint_url=options["endpoint_url"],
            event_source=options["source"], eventbridge_bus_name=options["bus"],
        )  # fmt: skip
    names = Names(bus=settings.eventbridge_bus_name, source=settings.event_source, queue=options["queue"], **more)
    return lambda: Access(
        region=settings.aws_region, endpoint_url=settings.aws_endpoint_url, overrule=bool(options["endpoint_url"])
    ), names


def _run(work: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever the work returns
    from stenolog.cli.errors import UserError  # noqa: PLC0415
    from stenolog.operations.aws.access import AwsError  # noqa: PLC0415

    try:
        return work()
    except AwsError as error:
        raise UserError(str(error)) from error


def _print_json(found: Any) -> None:  # noqa: ANN401 - a struct
    import msgspec  # noqa: PLC0415

    click.echo(msgspec.json.encode(found).decode())


def _note(line: str) -> None:
    click.echo(line, err=True)
