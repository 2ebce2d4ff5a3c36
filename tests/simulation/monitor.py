"""Checks every script call for violated invariants, at the time of the call."""

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

DISTURBANCE_S = 6.0
"""A disturbed worker may lose a claim up to a lease and some calls later."""

THAW_SHARE = 0.7
THAW_DELAYS_S = (0.0, 0.01, 0.1, 0.3)
"""The share of frozen workers that continue soon after they lost a claim, and how soon: before the new holder begins,
after that, while it reads, and about when it commits."""


class Monitor:
    """The invariants of claims, facts and read models."""

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
        self.violations: list[str] = []
        self.calls: Counter[str] = Counter()
        self.commits = 0

    def report(self, text: str) -> None:
        """Note a violation; it is raised outside of the simulated world."""
        self.violations.append(f"at {self._network.loop.time():.3f} s: {text}")

    def expect(self, run: RunKeys, story: Story) -> None:
        """Expect a run to state what an undisturbed one states of `story`."""
        self._runs[run.member] = run
        self._expected[run.member] = expected(story, run.session_id)

    def observe(
        self, sha1: str, keys: Sequence[str], arguments: Sequence[bytes]
    ) -> Callable[[Any], None] | None:
        """Check before a script, and return the check after it."""
        kind = self._kinds[sha1]
        self.calls[kind] += 1
        if kind == "commit_facts":
            return self._watch_commit(keys, arguments)
        if kind == "take_over_claims":
            return self._watch_take_over(keys)
        if kind == "renew_claims":
            return self._watch_renewal(set(keys))
        if kind == "load_claimed_run":
            return lambda _: self._check_suspicion(arguments[3].decode(), keys[2])
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
                self.report(f"the holder of {member!r} commits facts that are there")
            if (self._ask("XLEN", keys[3]), self._ask("HGETALL", keys[2])) == before:
                return
            if int(self._ask("HGET", keys[2], "serial")) != serial + 1 or int(arguments[4]) != serial:
                self.report(f"a commit of {member!r} that expects {arguments[4]!r} commits is written after {serial}")
            self.commits += 1
            if holder != (consumer, int(deliveries)):
                self.report(f"{consumer!r} commits {member!r} which {holder} has")
            if answer[0] != Code.OK:
                self.report(f"a commit of {member!r} answers {answer} and writes")
            self._takeovers[member.decode()] = 0
            self.check_facts(self._runs[member.decode()])

        return after

    def _watch_renewal(self, streams: set[str]) -> Callable[[Any], None]:
        before = {sessions: self._pending(sessions) for sessions in streams}

        def after(answer: Any) -> None:  # noqa: ANN401, ARG001 - the script's
            if any(self._pending(sessions) != held for sessions, held in before.items()):
                self.report("a renewal gives a claim to another worker")

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
                self._check_takeover(members[entry], entry, holder.decode(), consumer.decode())

        return after

    def _check_takeover(self, member: str, entry: bytes, holder: str, taker: str) -> None:
        """Check that an undisturbed live worker keeps its claims, in any outage of Redis."""
        process, worker = self.workers[holder]
        # The fence matters most right after a takeover, if the old holder continues and commits before the new one.
        if self._network.loop.random.random() < THAW_SHARE:
            process.thaw(self._network.loop.random.choice(THAW_DELAYS_S))
        if process.is_dead or process.disturbed_until_s > self._network.loop.time() - DISTURBANCE_S:
            return
        if any(run.claim.keys.member == member and run.claim.entry_id.encode() == entry for run in worker.active_runs):
            self.report(f"{taker} takes {member} from {holder}, which lives and works on it")

    def _check_suspicion(self, member: str, checkpoint: str) -> None:
        suspicion = int(self._ask("HGET", checkpoint, "suspicion") or 0)
        if suspicion > self._takeovers[member]:
            self.report(f"{member} is suspected {suspicion} times after {self._takeovers[member]} takeovers")

    def check_trial(self, member: str, suspicion_limit: int) -> None:
        """Check that no run gets a quarantine trial, and so no quarantine, after fewer deaths than that."""
        if self._takeovers[member] <= suspicion_limit:
            self.report(f"{member} gets a quarantine trial after {self._takeovers[member]} takeovers")

    def facts(self, run: RunKeys) -> list[tuple[Position, bytes]]:
        """The stored facts of a run."""
        entries = self._ask("XRANGE", run.transcript, "-", "+")
        return [(Position.parse(entry), fields[1]) for entry, fields in entries]

    def check_facts(self, run: RunKeys) -> None:
        """Check that the facts so far are the first of an undisturbed run's."""
        found = [(at, timeless(decode_fact(fact))) for at, fact in self.facts(run)]
        wanted = self._expected[run.member][: len(found)]
        if found != wanted:
            self.report(f"facts of {run.member}: {_positions(found)} instead of {_positions(wanted)}")

    def check_read_models(self) -> None:
        """Check that Lists and feeds hold the first facts, once each and in order."""
        for run in self._runs.values():
            facts = [(at, decode_fact(fact)) for at, fact in self.facts(run)]
            finals = [encode_final(to_listed_final(fact)) for _, fact in facts if isinstance(fact, UtteranceFinal)]
            shown = self._ask("LRANGE", run.list, 0, -1)
            if shown != finals[: len(shown)]:
                self.report(f"the List of {run.member} has {len(shown)} entries that aren't its facts' first finals")
            events = [[str(at).encode(), [b"event", body]] for at, fact in facts[1:] if (body := encode_event(fact))]
            fed = self._ask("XRANGE", run.feed, "-", "+")
            if fed != events[: len(fed)]:
                self.report(f"the feed of {run.member} isn't what its facts say: {[one[0] for one in fed]}")

    def quarantined(self) -> set[str]:
        """The quarantined runs."""
        entries = [one for keys in self._keys.partitions for one in self._ask("XRANGE", keys.quarantined, "-", "+")]
        return {fields[1].decode() for _, fields in entries}

    def check_end(self, poisoned: set[str]) -> None:
        """Check the end: every utterance once in every read model, no claim left, only poisoned runs in quarantine."""
        if self.quarantined() != poisoned:
            self.report(f"quarantined: {self.quarantined()}, poisoned: {poisoned}")
        for member, run in self._runs.items():
            if member in poisoned:
                continue
            found = self.facts(run)
            if len(found) != len(self._expected[member]):
                self.report(f"{member} ends with facts {_positions(found)}")
            finals = sum(isinstance(decode_fact(fact), UtteranceFinal) for _, fact in found)
            document = self._ask("GET", run.document)
            if self._ask("LLEN", run.list) != finals or not document:
                self.report(f"{member} ends with {self._ask('LLEN', run.list)} of {finals} finals in its List")
            elif len(decode_document(document).utterances) != finals:
                self.report(f"{member}'s document lacks finals")
        for keys in self._keys.partitions:
            if left := self._pending(keys.sessions) or self._ask("HGETALL", keys.entries):
                self.report(f"claims without work: {left}")


def _positions(facts: Sequence[tuple[Position, bytes]]) -> list[str]:
    return [str(at) for at, _ in facts]
