"""The fake provider without its server: takes requests, keeps its books, and says what to answer."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from perdure.testing.fake_llm.anthropic_wire import MessagesWire
from perdure.testing.fake_llm.embeddings_wire import EmbeddingsWire
from perdure.testing.fake_llm.exchange import Answer, Call, Prompt, Reply, Tokens, billed
from perdure.testing.fake_llm.faults import Fault, Kind, rate_limited
from perdure.testing.fake_llm.gemini_wire import GenerateWire
from perdure.testing.fake_llm.jobs import Jobs
from perdure.testing.fake_llm.limits import Limits
from perdure.testing.fake_llm.openai_wire import ChatWire
from perdure.testing.fake_llm.responses_wire import ResponsesWire
from perdure.testing.fake_llm.wire import Json, Wire

_WIRES: Sequence[Wire] = (ChatWire(), ResponsesWire(), MessagesWire(), GenerateWire(), EmbeddingsWire())
_BILLED_FAULTS = frozenset({Kind.HANG, Kind.LOST, Kind.CUT})


@dataclass(frozen=True)
class Outcome:
    """What the server is to send.

    Attributes:
        body: in one piece, bytes as they are; None if `events` is the answer.
        fault: what happens on the way.
    """

    status: int
    headers: Mapping[str, str]
    body: Json | bytes | None = None
    events: Sequence[bytes] = field(default_factory=tuple[bytes, ...])
    fault: Fault | None = None


class Provider:
    """What the server asks. Thread-safe.

    Args:
        answer: what the model says to a prompt.
        clock: wall-clock seconds.
        jobs_take: seconds that background responses and batches take.
    """

    def __init__(
        self, answer: Answer, limits: Limits, clock: Callable[[], float], jobs_take: float = 0.0
    ) -> None:
        self._answer = answer
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._script: deque[Fault | None] = deque()
        self._calls: list[Call] = []
        self._number = 0
        self.jobs = Jobs(jobs_take)
        self._jobs_lock = threading.Lock()  # never taken while the other one is held

    @property
    def calls(self) -> list[Call]:
        with self._lock:
            return list(self._calls)

    def script(self, faults: Iterable[Fault | None]) -> None:
        with self._lock:
            self._script.extend(faults)

    def look(self, path: str, url: str) -> Outcome:
        """A question that came in."""
        with self._jobs_lock:
            try:
                found = self.jobs.get(path, self._clock(), url)
            except KeyError:
                found = None
        return _unknown(path) if found is None else Outcome(found[0], {}, found[1])

    def begin(self, path: str, data: bytes, key: str | None) -> Outcome | None:
        """A request that begins a job, or has to do with one; None if it isn't one. Faults don't meet these."""

        def does(path: str, body: Json) -> tuple[int, Json]:
            outcome = self.handle(path, body, key, script=False)
            assert isinstance(outcome.body, Mapping)
            return outcome.status, outcome.body

        with self._jobs_lock:
            found = self.jobs.post(path, data, self._clock(), does)
        return None if found is None else Outcome(found[0], {}, found[1])

    def handle(self, path: str, body: Json, key: str | None, *, script: bool = True) -> Outcome:
        """A request that came in.

        Args:
            script: whether it meets what was scripted, and the limits.
        """
        try:
            wire, prompt = _read(path, body)
        except (KeyError, TypeError, AttributeError) as error:
            return Outcome(400, {}, {"error": {"message": f"the request lacks something: {error!r}"}})
        if wire is None or prompt is None:
            return _unknown(path)
        try:
            said = self._answer(prompt)
        except Exception as error:  # noqa: BLE001 - the test's own: its author is to see it
            return Outcome(
                500, {}, {"error": {"message": f"the answer= of the fake provider raised {error!r}"}}
            )
        reply = Reply(said) if isinstance(said, str) else said
        if prompt.api == "embeddings":
            reply = Reply(output_tokens=0)
        tokens = billed(prompt, reply)
        with self._lock:
            self._number += 1
            number = self._number
            fault = self._script.popleft() if script and self._script else None
            now = self._clock()
            if script and fault is None and (wait := self._limits.admit(tokens.input, now)) > 0:
                fault = rate_limited(wait)
            refusal = None if fault is None or fault.kind in _BILLED_FAULTS else wire.refuse(fault, now)
            status = 200 if refusal is None else refusal.status
            headers = wire.headers(self._limits.standings(now), now, number)
            self._calls.append(_call(prompt, number, key, status, tokens, fault, now))
        if refusal is not None:
            return Outcome(status, {**headers, **refusal.headers}, refusal.body, fault=fault)
        if prompt.stream:
            return Outcome(status, headers, events=wire.stream(prompt, reply, tokens, number), fault=fault)
        whole = wire.whole(prompt, reply, tokens, number)
        if prompt.api == "responses" and body.get("background"):
            with self._jobs_lock:
                whole = self.jobs.background(whole, now)
        return Outcome(status, headers, whole, fault=fault)


def _unknown(path: str) -> Outcome:
    return Outcome(404, {}, {"error": {"message": f"the fake provider doesn't know the path {path!r}"}})


def _read(path: str, body: Json) -> tuple[Wire | None, Prompt | None]:
    for wire in _WIRES:
        if (prompt := wire.read(path, body)) is not None:
            return wire, prompt
    return None, None


def _call(
    prompt: Prompt, number: int, key: str | None, status: int, tokens: Tokens, fault: Fault | None, now: float
) -> Call:
    paid = status == 200
    return Call(
        number=number,
        api=prompt.api,
        model=prompt.model,
        text=prompt.text,
        stream=prompt.stream,
        key=key,
        status=status,
        billed=paid,
        tokens=tokens if paid else None,
        fault=None if fault is None else fault.kind.value,
        at=now,
    )


class Books:
    """Questions about the calls that came in, wherever they are kept."""

    @property
    def calls(self) -> list[Call]:
        """Every request so far, in the order of arrival."""
        raise NotImplementedError

    @property
    def billed(self) -> list[Call]:
        """Those that the provider charges for."""
        return [call for call in self.calls if call.billed]

    @property
    def hits(self) -> Counter[str]:
        """How often each `Idempotency-Key` was billed. Calls without one don't count here."""
        return Counter(call.key for call in self.billed if call.key is not None)

    @property
    def tokens(self) -> Tokens:
        """All that is charged for."""
        all_of = [call.tokens for call in self.billed if call.tokens is not None]
        return Tokens(
            sum(tokens.input for tokens in all_of),
            sum(tokens.output for tokens in all_of),
            sum(tokens.cached for tokens in all_of),
            sum(tokens.reasoning for tokens in all_of),
        )
