"""The simulation finds bugs in what holds runs back: rate limits, budgets, people, and singletons."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

import msgspec
import pytest
from planting import check_found

from perdure.api import approving
from perdure.codec.events import decode_event
from perdure.core import budgets, limiting
from perdure.core import events as ev
from perdure.core.permits import Block, LimitState, Unblock
from perdure.core.reuse import Reuse
from perdure.runtime import driver, once, runs, spending
from perdure.runtime.attempt import NoMoney
from perdure.runtime.spending import Bookkeeper
from perdure.storage import budgeting, memory_callbacks, memory_ledger, memory_limits
from perdure.storage.callbacks import CallbackVerdict
from perdure.storage.memory_callbacks import MemoryCallbacks
from perdure.storage.memory_database import MemoryDatabase
from perdure.storage.memory_run import Run

pytestmark = pytest.mark.usefixtures("no_definitions_of_others")

_shortage = budgeting.shortage
_turn, _permit, _settle, _wake = limiting.turn, limiting._permit, memory_ledger.settle, budgeting._wake
_too_late = driver.too_late
_read, _deliver, _close = approving._read, MemoryDatabase.deliver, MemoryCallbacks._close


# -- of rate limits -----------------------------------------------------------------------------------


def nothing_used(pace: Any, arrival: int, amount: int, at: int) -> int:
    """Who begins takes nothing of the limit."""
    return arrival


def open_to_all(states: Mapping[str, LimitState], ask: Any, now: int) -> Any:
    """A limit that is blocked lets everybody begin."""
    opened = {name: msgspec.structs.replace(state, blocked_until=0) for name, state in states.items()}
    permit = _permit(opened, ask, now)
    for name, state in opened.items():
        states[name].latest = state.latest
    return permit


def newest_block(states: dict[str, LimitState], batch: Any, now: int) -> Any:
    """Whoever blocks a limit cuts a longer block short."""
    for change in batch.changes:
        if isinstance(change, Block) and change.limit in states:
            states[change.limit].blocked_until = 0
    return _turn(states, batch, now)


def no_changes(states: dict[str, LimitState], batch: Any, now: int) -> Any:
    """What people say of a limit that is in use isn't heard."""
    if batch.asks or not states:
        return _turn(states, batch, now)
    kept = [change for change in batch.changes if not isinstance(change, Block | Unblock)]
    return _turn(states, msgspec.structs.replace(batch, changes=kept), now)


def block_goes_on(states: dict[str, LimitState], batch: Any, now: int) -> Any:
    """Ending a block does nothing."""
    kept = [change for change in batch.changes if not isinstance(change, Unblock)]
    return _turn(states, msgspec.structs.replace(batch, changes=kept), now)


# -- of spending and budgets --------------------------------------------------------------------------


def nothing_held(account: Any, amount: Any) -> None:
    """Of a call that is made nothing is reserved."""


def charged_twice(db: Any, charges: Any, now: float) -> None:
    """An account is charged twice."""
    _settle(db, charges, now)
    _settle(db, charges, now)


def not_written_before(books: Bookkeeper, attempt: Any) -> None:
    """A call is made, and the ledger doesn't know of it before it has ended."""


def surely_free(error: BaseException | None) -> bool:
    """A call of which nobody knows the outcome has cost nothing."""
    return False


def slept_through(keys: Any, more: Any, now: float) -> Generator[Any, Any, bool]:
    """Who waits for money isn't told that there is some."""
    wishes, answer = _wake(keys, more, now), None
    while True:
        try:
            wish = wishes.send(answer)
        except StopIteration as stop:
            return bool(stop.value)
        answer = None if isinstance(wish, budgeting.SendMail) else (yield wish)


def nothing_lately(account: Any, now: float) -> int:
    """What was spent within the last minute is forgotten at once."""
    return 0


def closed_by_whoever_asks(terms: Any, key: Any, account: Any, *more: Any) -> Any:
    """An open breaker is closed by the next call."""
    account.tripped_at = None
    return _shortage(terms, key, account, *more)


def always_fails(error: Any) -> bool:
    """A call for which there is no money fails, also where it is to wait."""
    return True


# -- of people ----------------------------------------------------------------------------------------


def always_open(row: Any) -> CallbackVerdict:
    """A question that was answered can be answered again."""
    return CallbackVerdict.UNKNOWN if row is None else CallbackVerdict.DONE


def unheard(callbacks: MemoryCallbacks, row: Any, state: Any, event: bytes, now: float) -> None:
    """An answer doesn't reach a run that nobody drives."""
    if callbacks._database().runs[row.run].owner is None:
        row.state, row.ended_at = state.value, now
    else:
        _close(callbacks, row, state, event, now)


def always_yes(data: bytes) -> Any:
    """Whatever a person says to a step is a yes."""
    said = _read(data)
    return said if said.approved else type(said)(True)


def as_it_was(function: Any, arguments: Any, input: bytes, given: Any) -> bytes:
    """What a person changes of a call that is approved isn't heard."""
    return input


async def surely_not(*more: Any) -> tuple[None, None]:
    """A step that is done once, and of which nobody knows whether it happened, is done again."""
    return None, None


def second_words(*more: Any) -> bool:
    """What a second person decides counts, too."""
    return False


def earlier_words(machine: Any, event: ev.Event) -> bool:
    """What was said of an earlier attempt of a step lets it be attempted once more."""
    if isinstance(event, ev.StepRerun):
        event = msgspec.structs.replace(event, started_at=None)
    return _too_late(machine, event)


def rerun_unheard(
    database: MemoryDatabase, run: Run, data: bytes, now: float | None, *more: Any, **named: Any
) -> bool:
    """A decision doesn't reach a run that nobody drives."""
    if run.owner is None and isinstance(decode_event(data), ev.StepRerun):
        return True
    return _deliver(database, run, data, now, *more, **named)


def nothing_taken(reuse: Reuse, operation: Any) -> None:
    """A run that goes on after it has failed does everything anew."""


def any_number(workflow: str) -> bool:
    """Any number of runs of a singleton may be live."""
    return False


PLANTED: dict[str, tuple[Any, str, Callable[..., Any], str]] = {
    "limit not counted": (limiting, "taken", nothing_used, "limits"),
    "block not heeded": (limiting, "_permit", open_to_all, "limits"),
    "block cuts a block short": (memory_limits, "turn", newest_block, "limits"),
    "people's blocks unheard": (memory_limits, "turn", no_changes, "limits"),
    "block can't be ended": (memory_limits, "turn", block_goes_on, "limits"),
    "nothing held": (budgeting, "hold", nothing_held, "budgets"),
    "charged twice": (memory_ledger, "settle", charged_twice, "budgets"),
    "call not noted": (Bookkeeper, "forecast", not_written_before, "budgets"),
    "unknown call forgotten": (spending, "may_have_cost", surely_free, "budgets"),
    "spike not seen": (budgets, "spent_lately", nothing_lately, "budgets"),
    "breaker closes by itself": (budgeting, "shortage", closed_by_whoever_asks, "budgets"),
    "no money fails": (NoMoney, "fails", property(always_fails), "budgets"),
    "raise unheard": (budgeting, "_wake", slept_through, "budgets"),
    "question answered twice": (memory_callbacks, "standing", always_open, "questions"),
    "answer unheard": (MemoryCallbacks, "_close", unheard, "questions"),
    "refusal not heeded": (approving, "_read", always_yes, "questions"),
    "edit not heeded": (approving, "changed", as_it_was, "questions"),
    "done twice in doubt": (once, "_ask", surely_not, "troubles"),
    "second word counts": (driver, "too_late", second_words, "troubles"),
    "earlier word counts": (driver, "too_late", earlier_words, "troubles"),
    "decision unheard": (MemoryDatabase, "deliver", rerun_unheard, "troubles"),
    "retry does all anew": (Reuse, "_take", nothing_taken, "troubles"),
    "singleton not heeded": (runs, "is_singleton", any_number, "singletons"),
}
#: Where the search for a bug begins that few seeds find.
FIRST = {"earlier word counts": 240}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, bug, theme = PLANTED[name]
    check_found(monkeypatch, name, owner, attribute, bug, theme, first=FIRST.get(name, 0))
