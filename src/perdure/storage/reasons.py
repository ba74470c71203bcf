"""The texts a store gives as a run's `reason` when it blocks one by itself."""

from __future__ import annotations

from perdure.core.errands import step_of


def no_worker_knows(workflow: str, queue: str) -> str:
    """For BlockCode.CODE."""
    step = step_of(workflow)
    code = f"workflow {workflow!r}" if step is None else f"step {step!r}"
    return (
        f"no worker knows the {code} in queue {queue!r}: none of the running workers has "
        f"imported its module or serves this queue. Start one that does; the run then goes on by itself."
    )


def no_worker_of_version(version: str) -> str:
    """For BlockCode.CODE, of pinned runs."""
    named = f"no worker of version {version!r}" if version else "no worker without a version"
    return (
        f"{named}: the run is pinned to the version of the code that began it, and none of the running workers "
        f"with its workflow and queue has that. Start one that does; the run then goes on by itself."
    )


def took_workers_down(times: int) -> str:
    """For BlockCode.POISON."""
    return (
        f"Its worker died {times} times in a row while driving it, without recording anything new, at last with "
        f"nothing else in its hands. It was set aside to protect the other runs. Look for crashes or memory "
        f"exhaustion in its code, then terminate the run and start it anew."
    )


def row_unreadable(told: str) -> str:
    """For BlockCode.HISTORY."""
    return (
        f"a text in the run's row can't be read ({told}): the database is damaged. See with `perdure check` what "
        f"else is. Bring the row back from a backup, and then resume the run, or terminate it."
    )


def parent_ended(parent: str) -> str:
    """For children that are cancelled or terminated with their parent."""
    return f"the parent run {parent!r} ended"


def callback_timed_out(op: str, seconds: float) -> str:
    """For callbacks that nobody completed in time."""
    return f"{op} wasn't completed within its timeout of {seconds:g} s"


def question_timed_out(op: str, seconds: float) -> str:
    """For questions that nobody answered in time."""
    return f"nobody answered {op} within its timeout of {seconds:g} s"


def callback_silent(op: str, seconds: float) -> str:
    """For callbacks whose heartbeat stopped."""
    return f"nothing was heard of {op} for {seconds:g} s, its heartbeat timeout"


def being_moved(where: str) -> str:
    """For runs that are paused so that they can be moved."""
    return f"it is being moved to {where}"


def moved(where: str) -> str:
    """For runs that were moved, where they were."""
    return f"it was moved to {where} and goes on there"
