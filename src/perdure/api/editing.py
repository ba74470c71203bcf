"""What a fork changes: results and arguments of steps, and the input of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from perdure.api.call import Call, WorkflowCall
from perdure.codec.arguments import Arguments
from perdure.codec.changing import Misplaced
from perdure.codec.values import ValueCodec
from perdure.core import events as ev
from perdure.core.edits import Edit, is_pattern, names
from perdure.core.scope import operation_name
from perdure.errors import UndecodableError, UsageError
from perdure.runtime.definitions import step_named, step_names, workflow_named

_ANY = ValueCodec[Any](Any, "value given for a fork")

_STEPS = (
    ev.StepCompleted,
    ev.StepFailed,
    ev.StepStarted,
    ev.StepAttemptFailed,
    ev.StepDelayed,
    ev.StepParked,
)


class Args:
    """Arguments in the place of those that the code gives: `edits={"app.fetch#1": Args("x")}`, `input=Args("bees")`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs

    def __repr__(self) -> str:
        given = [repr(arg) for arg in self.args] + [f"{name}={arg!r}" for name, arg in self.kwargs.items()]
        return f"Args({', '.join(given)})"


class Change:
    """Other parts in the arguments of a step, or of all steps of a name; the rest stays as the code gives it.

    Args:
        parts: values by the path where they are put: a parameter's name, and from there keys of objects and places in
            arrays with dots between them, `*` for all of them. Of a step that is given one object, as calls of models
            are, a path may begin in that.
        text: texts that take the place of others, in all texts of the arguments.

    Example:
        >>> Change({"model": "claude-haiku-4-5", "messages.0.content": "Answer in one sentence."})
        Change({'model': 'claude-haiku-4-5', 'messages.0.content': 'Answer in one sentence.'})
        >>> Change(text={"in English": "in Finnish"})
        Change({}, text={'in English': 'in Finnish'})
    """

    def __init__(
        self, parts: Mapping[str, Any] | None = None, *, text: Mapping[str, str] | None = None
    ) -> None:
        self.parts = dict(parts or {})
        self.text = dict(text or {})
        if not self.parts and not self.text:
            msg = 'Change() changes nothing: give parts, as in Change({"model": "..."}), or text={old: new}'
            raise UsageError(msg)
        if "" in self.text or "" in self.parts:
            msg = f"{self!r}: the empty text is everywhere, and leads nowhere"
            raise UsageError(msg)

    def edit(self, steps: str) -> Edit:
        """The same as it is written down, of the steps that a pattern names."""
        parts = tuple((path, _ANY.record(value)[0]) for path, value in self.parts.items())
        return Edit(steps, parts=parts, text=tuple(self.text.items()))

    def __repr__(self) -> str:
        return f"Change({self.parts!r}{f', text={self.text!r}' if self.text else ''})"


class Edits(NamedTuple):
    """Edits as a fork's first event tells them: of single steps by their ids, and of those that patterns name."""

    results: dict[str, bytes]
    inputs: dict[str, bytes]
    patterns: tuple[Edit, ...]


class Known:
    """The steps of a run that can be edited."""

    def __init__(self, run_id: str, history: Sequence[ev.Event]) -> None:
        self._run_id = run_id
        self._history = history
        self.ids = list(dict.fromkeys(event.step for event in history if isinstance(event, _STEPS)))
        self._starts_others = any(isinstance(event, ev.ChildStarted | ev.RunContinued) for event in history)

    def step(self, name: str) -> str:
        """The id of a step, given that or its name.

        Raises:
            UsageError: no step goes by that, or several do.
        """
        if name in self.ids:
            return name
        named = [id for id in self.ids if names(name, id)] if not is_pattern(name) else []
        if len(named) == 1:
            return named[0]
        what = f"several steps go by {name!r}" if named else f"there is no step {name!r}"
        known = ", ".join(repr(id) for id in (named or self.ids)[:20])
        hint = f"; {name + '#*'!r} means all of them" if named else ""
        msg = f"{what} in the history of run {self._run_id!r}: give the id of one, such as {known}{hint}"
        raise UsageError(msg)

    def edits(self, edits: Mapping[str, Any] | None) -> Edits:
        """Edits, encoded.

        Raises:
            UsageError: there is no such step; a change doesn't fit what it was given.
            NotSerializableError: a value doesn't fit its step.
        """
        found = Edits({}, {}, ())
        patterns: list[Edit] = []
        for name, value in (edits or {}).items():
            if isinstance(value, Change):
                patterns.append(self._change(name, value))
            elif is_pattern(name):
                self._check_pattern(name)
                patterns.append(self._for_all(name, value))
            elif isinstance(value, Args):
                step = self.step(name)
                found.inputs[step] = _input_of(step, value)
            else:
                step = self.step(name)
                found.results[step] = result_of(step, value)
        return found._replace(patterns=tuple(patterns))

    def result(self, pattern: str, value: Any) -> bytes:
        """A result for the steps that a pattern names, here or to come, encoded; checked, if they are of one kind.

        Raises:
            NotSerializableError: it doesn't fit.
        """
        named = {operation_name(id): id for id in self.ids if names(pattern, id)}
        return result_of(named.popitem()[1] if len(named) == 1 else pattern, value)

    def _change(self, name: str, change: Change) -> Edit:
        self._check_pattern(name)
        edit = change.edit(name)
        given = {
            event.step: event.input
            for event in self._history
            if isinstance(event, ev.StepCompleted | ev.StepFailed) and event.input is not None
        }
        for step, data in given.items():
            definition = step_named(operation_name(step))
            if definition is not None and names(name, step):
                try:
                    definition.arguments.change(data, edit.parts, edit.text)
                except (Misplaced, UndecodableError) as error:
                    msg = f"{change!r} doesn't fit step {step!r}: {error}"
                    raise UsageError(msg) from None
        return edit

    def _for_all(self, pattern: str, value: Any) -> Edit:
        if isinstance(value, Args):
            example = next((id for id in self.ids if names(pattern, id)), pattern)
            return Edit(pattern, input=_input_of(example, value))
        return Edit(pattern, result=self.result(pattern, value))

    def _check_pattern(self, pattern: str) -> None:
        """Whether a pattern may name a step at all: else it is a mistake."""
        if self._starts_others or any(names(pattern, id) for id in self.ids):
            return
        if not any(names(pattern, f"{name}#1") for name in step_names()):
            self.step(pattern)


def result_of(step: str, value: Any) -> bytes:
    """The result of a step that an id, a name or a pattern tells, encoded; checked, if only one can be meant.

    Raises:
        NotSerializableError: it doesn't fit.
    """
    definition = step_named(operation_name(step)) or step_named(step)
    if definition is None:
        meant = [name for name in step_names() if names(step, f"{name}#1")]
        definition = step_named(meant[0]) if len(meant) == 1 else None
    return (_ANY if definition is None else definition.result).record(value)[0]


def _input_of(step: str, args: Args) -> bytes:
    definition = step_named(operation_name(step))
    if definition is None:
        return _unnamed(step, args)
    definition.arguments.fits(*args.args, **args.kwargs)
    return definition.arguments.record(args.args, args.kwargs)[0]


def _unnamed(step: str, edit: Args) -> bytes:
    """Arguments of a step that this process has no code for, or whose body is made on the spot (see inline.py)."""
    if edit.kwargs or len(edit.args) != 1:
        msg = (
            f"edits={{{step!r}: {edit!r}}}: this process has no code for that step: import its module first. If it is "
            "a call of a model or a tool, give one argument: all that it is given"
        )
        raise UsageError(msg)
    return Arguments(_given, f"step {step}").record(edit.args, {})[0]


def _given(given: Any) -> None: ...


def run_input(workflow: str, before: bytes, given: Any, max_payload: int) -> bytes:
    """The input of a fork.

    Args:
        before: the original's.
        given: a call of the workflow, Args, or a Change of what was given before.

    Raises:
        UsageError: it is something else, or doesn't fit.
        NotSerializableError: a value can't be recorded.
    """
    if isinstance(given, Call):
        given.mark_used()
        if not isinstance(given, WorkflowCall) or given.name != workflow:
            msg = f"fork(input={given!r}): the run is one of {workflow!r}: give a call of that"
            raise UsageError(msg)
        return given.input(max_payload)
    if not isinstance(given, Args | Change):
        msg = f"fork(input={given!r}): give a call of the workflow, or Args(...), or Change({{...}})"
        raise UsageError(msg)
    definition = workflow_named(workflow)
    if definition is None:
        msg = f"fork(input={given!r}): this process has no code for {workflow!r}: import its module first"
        raise UsageError(msg)
    if isinstance(given, Args):
        definition.arguments.fits(*given.args, **given.kwargs)
        return definition.arguments.record(given.args, given.kwargs)[0]
    edit = given.edit(workflow)
    try:
        return definition.arguments.change(before, edit.parts, edit.text)
    except (Misplaced, UndecodableError) as error:
        msg = f"fork(input={given!r}) doesn't fit {workflow!r}: {error}"
        raise UsageError(msg) from None
