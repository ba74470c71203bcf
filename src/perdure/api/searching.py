"""Attributes, by which runs are found, and the changes of code that runs have seen."""

from __future__ import annotations

from perdure.api.call import current_machine
from perdure.core import events as ev
from perdure.core.attributes import AttributeValue, attributes_json, attributes_of
from perdure.errors import UsageError
from perdure.runtime.stepcontext import current_step
from perdure.storage.attributes import MarkPatched, SetAttributes

CHANGE_MAX = 200  #: characters of a change's id


def set_attributes(**values: AttributeValue | None) -> None:
    """Set attributes of the run, by which it can be found: `engine.runs(attributes=...)`.

    They are written with the run's next event, exactly once. Outside of runs nothing happens but the checks.

    Args:
        values: texts, numbers, bools, datetimes with a time zone, or lists of texts; None removes one.

    Raises:
        UsageError: a value can't be an attribute; or in a step: the workflow sets them.

    Example:
        >>> set_attributes(customer="c-17", total=99.5, urgent=True)
    """
    attributes = attributes_of(values)
    if current_step.get() is not None and current_machine() is None:
        msg = "perdure.set_attributes() was called in a step: return the values, and set them in the workflow"
        raise UsageError(msg)
    machine = current_machine()
    if machine is not None and attributes:
        op = machine.loop.scope().numbered("attributes")
        event = ev.AttributesSet(machine.loop.now, op, attributes_json(attributes))
        machine.write_down(event, [SetAttributes(attributes)])


def patched(change: str) -> bool:
    """Whether the code is to take the new branch of a change: True for new runs, False for those that passed
    here with the old code. What a run was told once, it is told always.

    Outside of runs it is True.

    Args:
        change: names the change; use each name for one change only.

    Raises:
        UsageError: outside of workflow code, inside a step; or the name can't be one.

    Example:
        >>> if patched("greet by name"):
        ...     ...  # the new way
        ... else:
        ...     ...  # the old way, until no run needs it any more
    """
    if not isinstance(change, str) or not 0 < len(change) <= CHANGE_MAX or not change.isprintable():
        msg = f"{change!r} can't name a change of code: a name has 1 to {CHANGE_MAX} printable characters"
        raise UsageError(msg)
    machine = current_machine()
    if machine is None:
        if current_step.get() is not None:
            msg = "perdure.patched() was called in a step: steps are never replayed, so they can just change"
            raise UsageError(msg)
        return True
    return machine.patched(change, [MarkPatched(change)])
