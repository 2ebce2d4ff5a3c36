"""`stenolog aws setup` and `stenolog aws verify`; docs/aws.md is their page."""

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from stenolog.cli.options import ExampleCommand, ExampleGroup
from stenolog.cli.output import print_json
from stenolog.operations.aws.access import Access
from stenolog.operations.aws.desired_state import Names
from stenolog.operations.aws.setup import Setup
from stenolog.operations.aws.verify import Verify
from stenolog.settings import Settings, load

Command = TypeVar("Command", bound=Callable[..., Any])

_QUEUE = re.compile(r"[A-Za-z0-9_-]{1,80}")
_RULE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BUS = re.compile(r"(arn:aws[\w-]*:events:[a-z0-9-]+:\d{12}:event-bus/)?[/A-Za-z0-9._-]{1,256}")


def _named(pattern: re.Pattern[str], kind: str) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """Refuse a name that AWS wouldn't take, before anything is made."""
    def check(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
        if value is not None and not pattern.fullmatch(value):
            raise click.BadParameter(f"{value!r} is no name of {kind}")
        return value

    return check


def _options(command: Command) -> Command:
    """Add the options of both commands; the settings have their defaults."""
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


@click.group(cls=ExampleGroup, epilog="stenolog aws setup --dry-run\nstenolog aws verify")
def aws() -> None:
    """Make and test the receivers of EventBridge events: a queue, its dead-letter queue, a rule."""


@aws.command(cls=ExampleCommand, epilog=(
    "stenolog aws setup --dry-run\n"
    "stenolog aws setup --queue-name transcripts --json | jq -r .queue_url"
))
@_options
@click.option("--dlq-name", "dlq", default="meeting-transcripts-dlq", show_default=True, metavar="NAME",
              callback=_named(_QUEUE, "a standard queue"), help="Queue for messages that were received three times.")
@click.option("--rule-name", "rule", default="capture-transcripts-rule", show_default=True, metavar="NAME",
              callback=_named(_RULE, "a rule"), help="Rule that takes the events from the bus.")
@click.option("--dry-run", is_flag=True, help="Change nothing, and show what would be made.")
def setup(*, as_json: bool, dry_run: bool, dlq: str, rule: str, **options: Any) -> None:  # noqa: ANN401 - settings have many types
    """Make the queues, the rule and its target, unless they exist.

    Existing ones are kept unchanged, and their differences are reported. Prints the queue's URL, the dead-letter
    queue's URL and the rule's ARN.
    """
    settings = _settings(options)
    names = _names(settings, options, dlq=dlq, rule=rule)
    found = Setup(_access(settings, options), names, _note, dry_run=dry_run).run()
    if as_json:
        print_json(found)
        return
    for label, value in (("queue", found.queue_url), ("dead-letter queue", found.dlq_url), ("rule", found.rule_arn)):
        click.echo(f"{label}: {value or '(would be created)'}")


@aws.command(cls=ExampleCommand, epilog="stenolog aws verify\nstenolog aws verify --json | jq .seconds")
@_options
def verify(*, as_json: bool, **options: Any) -> None:  # noqa: ANN401
    """Send a test event and wait for it in the queue, for 30 s: exit status 0 if it comes unchanged, 1 if not.

    The event has an interaction id of its own and the user `stenolog-verify`. Only its own message is deleted.
    """
    settings = _settings(options)
    found = Verify(_access(settings, options), _names(settings, options), _note).run()
    if as_json:
        print_json(found)
    elif found.ok:
        click.echo(f"ok: the event {found.event_id} came in {found.seconds} s, unchanged")
    for problem in found.problems:
        _note(f"error: {problem}")
    if not found.ok:
        sys.exit(1)


def _settings(options: Mapping[str, Any]) -> Settings:
    return load(
        aws_region=options["region"], aws_endpoint_url=options["endpoint_url"], event_source=options["source"],
        eventbridge_bus_name=options["bus"],
    )  # fmt: skip


def _access(settings: Settings, options: Mapping[str, Any]) -> Access:
    return Access(
        region=settings.aws_region, endpoint_url=settings.aws_endpoint_url, overrule=bool(options["endpoint_url"])
    )


def _names(settings: Settings, options: Mapping[str, Any], **more: str) -> Names:
    return Names(bus=settings.eventbridge_bus_name, source=settings.event_source, queue=options["queue"], **more)


def _note(line: str) -> None:
    click.echo(line, err=True)
