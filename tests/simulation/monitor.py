"""Watches every script call for what must never happen, while it happens."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from eventlog.codec import decode_fact
from eventlog.events import UtteranceFinal
from eventlog.keys import Keys, RunKeys
from eventlog.log import Code
from eventlog.positions import Position
from eventlog.readmodel.documents import decode_document, encode_final
from eventlog.work.claims import GROUP
from processor.worker import Worker
from projections.public_json import encode_event, to_listed_final
from tests.simulation.network import Network
from tests.simulation.redis_model import RedisModel
from tests.simulation.scheduler import Process
from tests.support.deployment import Facts, expected, timeless
from tests.support.pcm import Story

EXCUSED_S = 6.0
"""A worker that something happened to may lose a claim up to a lease and some calls later."""

THAWED_SHARE = 0.7
THAWED_AFTER_S = (0.0, 0.01, 0.1, 0.3)
"""Of workers that are frozen when they lose a claim, so many go on so soon: before the taker has begun, when it has
begun, when it reads, and about when it commits."""


class Monitor:
    """Invariants: what a claim is for, what facts are for, and what every read model must be."""

    def __init__(self, model: RedisModel, keys: Keys, network: Network, kinds: dict[str, str]) -> None:
        self._model = model
        self._keys = keys
        self._network = network
        self._kinds = kinds
        self._expected: dict[str, Facts] = {}
        self._seen: Counter[str] = Counter()
        self._runs: dict[str, RunKeys] = {}
        self._takeovers: Counter[str] = Counter()
        self.workers: dict[str, tuple[Process, Worker]] = {}
        self.troubles: list[str] = []
        self.calls: Counter[str] = Counter()
        self.commits = 0

    def trouble(self, text: str) -> None:
        """Note something that must not be; it is raised outside of the simulated world."""
        self.troubles.append(f"at {self._network.loop.time():.3f} s: {text}")

    def expect(self, run: RunKeys, story: Story) -> None:
        """A run is to state what an undisturbed one states of `story`."""
        self._runs[run.member] = run
        self._expected[run.member] = expected(story, run.session_id)

    def observe(
        self, sha1: str, keys: Sequence[str], arguments: Sequence[bytes]
    ) -> Callable[[Any], None] | None:
        """Look before a script, and return who looks after it."""
        kind = self._kinds[sha1]
        self.calls[kind] += 1
        if kind == "commit_facts":
            return self._watch_commit(keys, arguments)
        if kind == "take_over_claims":
            return self._watch_take_over(keys)
        if kind == "renew_claims":
            return self._watch_renewal(set(keys))
        if kind == "load_claimed_run":
            return lambda _: self._judge_suspicion(arguments[3].decode(), keys[2])
        return None

    def _ask(self, *command: Any) -> Any:  # noqa: ANN401 - as Redis
        return self._model.execute(command)

    def _pending(self, sessions: str) -> dict[bytes, tuple[bytes, int]]:
        """Holder and deliveries of each pending entry."""
        found = self._ask("XPENDING", sessions, GROUP, "-", "+", 1_000)
        return {entry: (consumer, deliveries) for entry, consumer, _, deliveries in found}

    def _watch_commit(self, keys: Sequence[str], arguments: Sequence[bytes]) -> Callable[[Any], None]:
        entry, consumer, deliveries, member = arguments[:4]
        holder = self._pending(keys[0]).get(entry)
        before = self._ask("XLEN", keys[3]), self._ask("HGETALL", keys[2])
        serial = int(self._ask("HGET", keys[2], "serial") or 0)

        def after(answer: Any) -> None:  # noqa: ANN401 - the script's
            if answer[0] == Code.MISPLACED:
                self.trouble(f"the holder of {member!r} commits facts that are there")
            if (self._ask("XLEN", keys[3]), self._ask("HGETALL", keys[2])) == before:
                return
            if int(self._ask("HGET", keys[2], "serial")) != serial + 1 or int(arguments[4]) != serial:
                self.trouble(f"a commit of {member!r} that expects {arguments[4]!r} commits is written after {serial}")
            self.commits += 1
            if holder != (consumer, int(deliveries)):
                self.trouble(f"{consumer!r} commits {member!r} which {holder} has")
            if answer[0] != Code.OK:
                self.trouble(f"a commit of {member!r} answers {answer} and writes")
            self._takeovers[member.decode()] = 0
            self.check_facts(self._runs[member.decode()])

        return after

    def _watch_renewal(self, streams: set[str]) -> Callable[[Any], None]:
        before = {sessions: self._pending(sessions) for sessions in streams}

        def after(answer: Any) -> None:  # noqa: ANN401, ARG001 - the script's
            if any(self._pending(sessions) != held for sessions, held in before.items()):
                self.trouble("a renewal gives a claim to somebody else")

        return after

    def _watch_take_over(self, keys: Sequence[str]) -> Callable[[Any], None]:
        before = self._pending(keys[0])

        def after(answer: Any) -> None:  # noqa: ANN401, ARG001 - the script's
            members = {entry: fields[1].decode() for entry, fields in self._ask("XRANGE", keys[0], "-", "+")}
            for entry, (consumer, deliveries) in self._pending(keys[0]).items():
                holder, held = before[entry]
                if (consumer, deliveries) == (holder, held):
                    continue
                self._takeovers[members[entry]] += 1
                self._judge_theft(members[entry], entry, holder.decode(), consumer.decode())

        return after

    def _judge_theft(self, member: str, entry: bytes, holder: str, taker: str) -> None:
        """A living worker that nothing happened to keeps what it runs, whatever became of Redis."""
        process, worker = self.workers[holder]
        # What a claim is for shows right after it was taken, if whoever had it goes on and commits before the taker.
        if self._network.loop.random.random() < THAWED_SHARE:
            process.thaw(self._network.loop.random.choice(THAWED_AFTER_S))
        if process.is_dead or process.disturbed_until_s > self._network.loop.time() - EXCUSED_S:
            return
        if any(run.claim.keys.member == member and run.claim.entry_id.encode() == entry for run in worker.active_runs):
            self.trouble(f"{taker} takes {member} from {holder}, which lives and works on it")

    def _judge_suspicion(self, member: str, checkpoint: str) -> None:
        suspicion = int(self._ask("HGET", checkpoint, "suspicion") or 0)
        if suspicion > self._takeovers[member]:
            self.trouble(f"{member} is suspected {suspicion} times after {self._takeovers[member]} takeovers")

    def judge_trial(self, member: str, suspicion_limit: int) -> None:
        """Nobody is tried alone, and so nobody is set aside, whom fewer deaths than that speak against."""
        if self._takeovers[member] <= suspicion_limit:
            self.trouble(f"{member} is tried alone after {self._takeovers[member]} takeovers")

    def facts(self, run: RunKeys) -> list[tuple[Position, bytes]]:
        """The facts of a run, as they are stored."""
        entries = self._ask("XRANGE", run.transcript, "-", "+")
        return [(Position.parse(entry), fields[1]) for entry, fields in entries]

    def check_facts(self, run: RunKeys) -> None:
        """The facts so far are the first of those that an undisturbed run states."""
        found = [(at, timeless(decode_fact(fact))) for at, fact in self.facts(run)]
        wanted = self._expected[run.member][: len(found)]
        if found != wanted:
            self.trouble(f"facts of {run.member}: {_positions(found)} instead of {_positions(wanted)}")

    def check_read_models(self) -> None:
        """Lists and feeds say each fact once, in order, and none that isn't there."""
        for run in self._runs.values():
            facts = [(at, decode_fact(fact)) for at, fact in self.facts(run)]
            finals = [encode_final(to_listed_final(fact)) for _, fact in facts if isinstance(fact, UtteranceFinal)]
            shown = self._ask("LRANGE", run.list, 0, -1)
            if shown != finals[: len(shown)]:
                self.trouble(f"the List of {run.member} has {len(shown)} entries that aren't its facts' first finals")
            events = [[str(at).encode(), [b"event", body]] for at, fact in facts[1:] if (body := encode_event(fact))]
            fed = self._ask("XRANGE", run.feed, "-", "+")
            if fed != events[: len(fed)]:
                self.trouble(f"the feed of {run.member} isn't what its facts say: {[one[0] for one in fed]}")

    def set_aside(self) -> set[str]:
        """The runs that were set aside."""
        entries = [one for keys in self._keys.partitions for one in self._ask("XRANGE", keys.quarantined, "-", "+")]
        return {fields[1].decode() for _, fields in entries}

    def check_end(self, poisoned: set[str]) -> None:
        """Everything was said once and is shown; nothing is pending; only the poisoned are set aside."""
        if self.set_aside() != poisoned:
            self.trouble(f"set aside: {self.set_aside()}, poisoned: {poisoned}")
        for member, run in self._runs.items():
            if member in poisoned:
                continue
            found = self.facts(run)
            if len(found) != len(self._expected[member]):
                self.trouble(f"{member} ends with facts {_positions(found)}")
            finals = sum(isinstance(decode_fact(fact), UtteranceFinal) for _, fact in found)
            document = self._ask("GET", run.document)
            if self._ask("LLEN", run.list) != finals or not document:
                self.trouble(f"{member} ends with {self._ask('LLEN', run.list)} of {finals} finals in its List")
            elif len(decode_document(document).utterances) != finals:
                self.trouble(f"{member}'s document lacks finals")
        for keys in self._keys.partitions:
            if left := self._pending(keys.sessions) or self._ask("HGETALL", keys.entries):
                self.trouble(f"claims that nobody needs: {left}")


def _positions(facts: Sequence[tuple[Position, bytes]]) -> list[str]:
    return [str(at) for at, _ in facts]
