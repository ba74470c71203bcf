"""What simulated runs need people for: questions, approvals, steps whose cause has to be mended, steps in doubt.

`people` are those who help.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

import perdure
from perdure import ApprovalRejected, Retry, step
from perdure.testing.simulation.books import books
from perdure.testing.torture import workshop
from perdure.testing.torture.programs import value_of

WITH_LEAVE: Final = "perdure.simulation.with_leave"
DOUBTFUL: Final = "perdure.simulation.doubtful"
USED_UP: Final = "perdure.simulation.used_up"

#: Amounts that whoever approves a step may change.
EDITABLE: Final = (5, 30)

#: Kinds of instructions whose steps wait for a decision, and the steps' names.
DECIDED: Final = {"doubtful": DOUBTFUL, "used up": USED_UP}

#: How often nobody knows, by when the answer is lost.
_DOUBTS: Final = {"before": 1, "before, thrice": 3, "after": 1}


def _seen(outcome: tuple[str, int]) -> int:
    workshop.books.sees(outcome[0])
    return outcome[1]


# -- questions ------------------------------------------------------------------------------------------


async def _asks(tag: str, more: Any) -> int:
    timeout, impatient = more
    answer = asyncio.ensure_future(_answer(tag, timeout))
    if impatient is not None:
        _seen(await workshop.works(f"{tag}/meanwhile", impatient))
        answer.cancel()  # giving up the wait withdraws the question
        with contextlib.suppress(asyncio.CancelledError):
            _heard(tag, await answer)
            return value_of(tag)
        _heard(tag, "withdrawn")
        return value_of(tag)
    _heard(tag, await answer)
    return value_of(tag)


async def _answer(tag: str, timeout: float | None) -> str:
    try:
        return f"answered {await perdure.ask(tag, int, details={'tag': tag}, timeout=timeout)}"
    except TimeoutError:
        return "expired"


def _heard(tag: str, outcome: str) -> None:
    books().says("heard", tag, (perdure.info().generation, outcome))


@step(name=WITH_LEAVE)
async def done_with_leave(tag: str, amount: int) -> tuple[str, int]:
    books().says("begins with leave", tag, amount)
    workshop.note("begin", tag)
    await asyncio.sleep(0.005)
    workshop.note("effect", tag)
    return tag, value_of(tag)


async def _approved(tag: str, more: Any) -> int:
    try:
        call = done_with_leave(tag, more)
        value = _seen(await perdure.approve(call, tag, editable=more in EDITABLE))
    except ApprovalRejected:
        _heard(tag, "rejected")
        return value_of(tag)
    _heard(tag, "approved")
    return value


# -- steps that people have to look at ------------------------------------------------------------------


@step(name="perdure.simulation.breaks")
async def breaks(tag: str) -> tuple[str, int]:
    """Fails, and with it its run, until somebody has mended the cause."""
    workshop.note("begin", tag)
    await asyncio.sleep(0.005)
    if tag not in books().mended:
        books().broken.add(tag)
        raise RuntimeError(tag)
    workshop.note("effect", tag)
    return tag, value_of(tag)


@step(name=USED_UP, retry=Retry(max_attempts=2, initial=0.01, jitter=False, on_exhausted="block"))
async def uses_attempts_up(tag: str) -> tuple[str, int]:
    """Fails until somebody has mended the cause, and waits for that person's word."""
    workshop.note("begin", tag)
    await asyncio.sleep(0)
    if tag not in books().mended:
        raise ConnectionError(tag)
    workshop.note("effect", tag)
    return tag, value_of(tag)


@step(name=DOUBTFUL, once=True)
async def leaves_in_doubt(tag: str, how: str) -> tuple[str, int]:
    """Doesn't tell, the first times, whether it has happened. Only a person knows that."""
    info = perdure.step_info()
    books().says("begins once", tag, (info.known_as, info.step_id))
    workshop.note("begin", tag)
    await asyncio.sleep(0.005)
    books().doubts[tag] += 1
    in_doubt = books().doubts[tag] <= _DOUBTS.get(how, 0)
    if in_doubt and how != "after":
        raise TimeoutError("no answer")
    workshop.note("effect", tag)
    if in_doubt:
        raise TimeoutError("no answer")
    return tag, value_of(tag)


async def _breaks(tag: str, more: Any) -> int:
    return _seen(await breaks(tag))


async def _used_up(tag: str, more: Any) -> int:
    return _seen(await uses_attempts_up.with_options(key=tag)(tag))


async def _doubtful(tag: str, how: str) -> int:
    return _seen(await leaves_in_doubt.with_options(key=tag)(tag, how))


workshop.others.update(
    {
        "asks": _asks,
        "approved": _approved,
        "breaks": _breaks,
        "used up": _used_up,
        "doubtful": _doubtful,
    }
)
