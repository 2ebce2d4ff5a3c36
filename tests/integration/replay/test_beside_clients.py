"""Replays while clients speak: both get what each would get alone."""

import asyncio
from pathlib import Path

from tests.e2e.deployment import undisturbed
from tests.e2e.processes import Roles, spoken, texts
from tests.integration.replay.commands import Command
from tests.integration.replay.test_command import same
from tests.support.deployment import Deployment
from tests.support.pcm import Story, talk

SENTENCES = (1, 4)
SPEED = 3.0


async def test_clients_and_replays_disturb_each_other_in_nothing(single: Deployment, tmp_path: Path) -> None:
    """REPLAY-1: during a replay a client's finals are those of a calm run, and the replay says what the live did."""
    sessions = [await single.spoken(Story(talk())) for _ in range(6)]
    with Roles(single.url, tmp_path) as roles:
        edge = roles.edge()
        roles.worker()
        roles.projector()
        await single.ended(*sessions)
        wanted = [session.keys.session_id for session in sessions]
        async with edge.client() as speaker:
            await speaker.begin()
            with Command(single.url, tmp_path, *wanted, "--workers", "2", "--name", "beside") as command:
                await speaker.say(spoken(SENTENCES), speed=SPEED)
                end = await speaker.finish()
                status = await asyncio.to_thread(command.ended)
    assert status == 0, command.stderr
    assert texts(speaker.finals) == undisturbed(SENTENCES)
    assert end["transcript"] == " ".join(undisturbed(SENTENCES))
    assert all([await same(session, "beside") for session in sessions])
