"""Approvals: a person says yes before a step's body runs.

    @step(approval=NeedsApproval("Send this money?", to="treasurers", editable=True))
    async def transfer(account: str, cents: int) -> str: ...

The question shows the step and its arguments, and is bound to a digest of them: whoever approves has approved these,
and a fork or a replay with others asks anew. Who approved, when and through what is in the history of the run. So is
a refusal, which the workflow sees as `ApprovalRejected`. With `editable` the person may change the arguments.

Asking is the first half of awaiting the step (see `StepCall`), and the step's own half is as ever: retries, `once=True`
and queues know nothing of approvals, and a retried attempt needs no second one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from typing import Any, TypeAlias, TypeVar

import msgspec

from perdure.api.asking import answered, check_to, digest_of, named, plain, wait_of
from perdure.api.call import Call, StepCall
from perdure.api.context import run_machine
from perdure.codec.forms import JsonSchema
from perdure.codec.named import by_name, changed, form_of
from perdure.core.events import Question
from perdure.core.machine import Machine
from perdure.errors import ApprovalRejected, ConfigurationError, UndecodableError, UsageError
from perdure.runtime.withholding import counterfactual, effect_of

R = TypeVar("R")

_DIGEST_BYTES = 16

#: For steps that a counterfactual run won't execute: nobody needs to be asked.
_WITHHELD = b'{"approved":true,"comment":"the step is withheld"}'


@dataclass(frozen=True, slots=True)
class Approval:
    """What a person said to a step, or to anything else that has to be approved; true if it was yes.

    Attributes:
        approved: whether it was.
        comment: what else was said.

    Example:
        >>> if await perdure.ask("Publish?", perdure.Approval, timeout=86_400): ...  # doctest: +SKIP
    """

    approved: bool
    comment: str = ""

    def __bool__(self) -> bool:
        return self.approved


@dataclass(frozen=True, slots=True)
class ToolApproval(Approval):
    """What a person said to a call of a tool; true if it was yes.

    Attributes:
        arguments: what the person has changed of the arguments, by name; None if nothing.
        by: who it was, if that is known.
    """

    arguments: dict[str, Any] | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class NeedsApproval:
    """That a step needs a person's approval: `@step(approval=NeedsApproval(...))`.

    Args:
        text: the question; made of the step's name by default.
        to: whom it is for, as of `perdure.ask`.
        timeout: seconds to wait; then TimeoutError is raised. For ever by default.
        editable: the person may change the arguments; the step is then called with those.
        when: called with the step's arguments; approval is only needed if it says so. It has to be as deterministic as
            workflow code is.

    Example:
        >>> NeedsApproval("Delete it?", when=lambda path: path.startswith("/etc")).text
        'Delete it?'
    """

    text: str | None = None
    to: str | None = None
    timeout: float | timedelta | None = None
    editable: bool = False
    when: Callable[..., object] | None = None

    def __post_init__(self) -> None:
        if self.text is not None and not self.text.strip():
            msg = "NeedsApproval(text=...): give the question, or leave it out"
            raise ConfigurationError(msg)
        try:
            check_to(self.to)
            wait_of(self.timeout)
        except UsageError as error:
            msg = f"NeedsApproval: {error}"
            raise ConfigurationError(msg) from None

    def before(
        self, call: StepCall[Any], machine: Machine, op_id: str, input: bytes
    ) -> Generator[Any, Any, bytes]:
        """Ask, and wait for the approval. See `Before`."""
        if self.editable and not call.takes_edits:
            msg = f"the arguments of {op_id!r} can't be changed, as its body is made of live objects: no editable=True"
            raise ConfigurationError(msg)
        definition = call.definition
        if self.when is not None:
            args, kwargs = definition.arguments.decode(input)
            if not self.when(*args, **kwargs):
                return input
        function, arguments = definition.run, definition.arguments
        form = form_of(function, arguments) if self.editable else None
        asked = _question(
            self.text or f"Approve {definition.name}?",
            {"step": definition.name, "arguments": by_name(function, input)},
            by_name(function, input) if self.editable else None,
            form,
            to=self.to,
            digest=blake2b(input, digest_size=_DIGEST_BYTES).hexdigest(),
            step=op_id,
        )

        def read(data: bytes) -> tuple[ToolApproval, bytes]:
            given = _read(data)
            if not given.approved or not given.arguments:
                return given, input
            if form is None:
                msg = "the arguments can't be changed"
                raise UndecodableError(msg)
            return given, changed(function, arguments, input, given.arguments)

        kind = "approval" if call.options.key is None else f"approval:{definition.name}"
        name = named(kind, machine, call.options.key)
        said: tuple[tuple[ToolApproval, bytes], str | None]
        withheld = counterfactual(machine) is not None and effect_of(definition, call.options) != "read"
        presumed = _WITHHELD if withheld else None
        said = yield from answered(machine, asked, read, wait_of(self.timeout), name, presumed).__await__()
        (given, taken), by = said
        if not given.approved:
            raise rejected(f"step {op_id!r}", given.comment, by, step=op_id)
        return taken


#: What `@step(approval=...)` takes; None leaves it as it is.
Approves: TypeAlias = bool | str | NeedsApproval | None


def approval_of(given: Approves) -> NeedsApproval | None:
    """What `approval=` means. Raises ConfigurationError if that is nothing."""
    match given:
        case None | False:
            return None
        case True:
            return NeedsApproval()
        case str():
            return NeedsApproval(given)
        case NeedsApproval():
            return given
        case _:  # pyright: ignore[reportUnnecessaryComparison] - of callers without types
            msg = f"approval={given!r}: give True, the question as a text, or a NeedsApproval(...)"
            raise ConfigurationError(msg)


def approve(
    call: Call[R],
    text: str | None = None,
    *,
    to: str | None = None,
    timeout: float | timedelta | None = None,
    editable: bool = False,
) -> Call[R]:
    """The same call of a step, which needs a person's approval: await it in workflow code.

    Args:
        call: of a step.
        text: the question; made of the step's name by default.
        to, timeout, editable: as for `NeedsApproval`.

    Returns:
        The call. Awaiting it gives the step's result, or raises `ApprovalRejected`.

    Raises:
        UsageError: it isn't a call of a step.
        ConfigurationError: an argument can't be used.

    Example:
        >>> receipt = await perdure.approve(transfer("ann", 500), "Send it?")  # doctest: +SKIP
    """
    if not isinstance(call, StepCall):
        call.close()
        msg = f"approve() takes the call of a step, as in approve(transfer(...)), not {call!r}: use ask() for the rest"
        raise UsageError(msg)
    needed = NeedsApproval(text, to=to, timeout=timeout, editable=editable)
    call.options = dataclasses.replace(call.options, before=needed)
    return call


async def ask_approval(
    what: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    text: str | None = None,
    form: JsonSchema | None = None,
    details: Any = None,
    to: str | None = None,
    key: str | None = None,
    timeout: float | timedelta | None = None,
) -> ToolApproval:
    """Ask whether something may be done, and wait: what approvals of steps are made of, for tools of other frameworks.

    Args:
        what: what is to be done: the name of a tool.
        arguments: with which arguments. The approval is bound to a digest of both.
        text: the question; made of `what` by default.
        form: JSON Schema of the arguments, if the person may change them.
        details: what is shown besides.
        to: whom it is for.
        key: names the question within the run instead of its position: a tool call's id.
        timeout: how long to wait, in seconds; for ever by default.

    Returns:
        What was said, and by whom. Its `arguments` are what the person has changed. They fit `form`, and no more than
        that is known of them.

    Raises:
        TimeoutError: nobody has answered in time.
        UsageError: outside of workflow code, or an argument can't be used.
        NotSerializableError: what is shown has no JSON form.

    Example:
        >>> approval = await perdure.ask_approval("delete_file", {"path": path}, key=call.id)  # doctest: +SKIP
        >>> if approval: ...  # doctest: +SKIP
    """
    machine = run_machine("perdure.ask_approval()")
    check_to(to)
    given = dict(arguments or {})
    shown = {"tool": what, "arguments": given}
    if details is not None:
        shown["details"] = details
    asked = _question(
        text or f"Approve {what}?",
        shown,
        None if form is None else given,
        form,
        to=to,
        digest=digest_of([what, given]),
    )

    def read(data: bytes) -> ToolApproval:
        answer = _read(data)
        if answer.arguments and form is None:
            msg = "the arguments can't be changed"
            raise UndecodableError(msg)
        return answer

    said: tuple[ToolApproval, str | None]
    said = await answered(machine, asked, read, wait_of(timeout), named("approval", machine, key))
    answer, by = said
    return dataclasses.replace(answer, by=by)


def rejected(what: str, comment: str, by: str | None, *, step: str = "") -> ApprovalRejected:
    """The error for what a person hasn't approved."""
    told = f"{what} wasn't approved" + (f" by {by}" if by else "") + (f": {comment}" if comment else "")
    return ApprovalRejected(told, comment=comment, by=by, step=step)


class _Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    approved: bool
    comment: str = ""
    arguments: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Answer).decode


def _read(data: bytes) -> ToolApproval:
    try:
        answer = _decode(data)
    except msgspec.MsgspecError as error:
        raise UndecodableError(str(error)) from error
    return ToolApproval(answer.approved, answer.comment, answer.arguments)


def _question(
    text: str,
    shown: Mapping[str, Any],
    default: Mapping[str, Any] | None,
    form: JsonSchema | None,
    *,
    to: str | None,
    digest: str,
    step: str | None = None,
) -> Question:
    """The question whose answer is an approval.

    Args:
        default: the arguments, if they may be changed.
        form: JSON Schema of these.
    """
    properties: dict[str, Any] = {
        "approved": {"type": "boolean"},
        "comment": {"type": "string", "default": ""},
    }
    schema: dict[str, Any] = {
        "title": "Approval",
        "type": "object",
        "properties": properties,
        "required": ["approved"],
    }
    if form is not None:
        definitions = form.get("$defs")
        properties["arguments"] = {key: value for key, value in form.items() if key != "$defs"}
        schema |= {} if definitions is None else {"$defs": definitions}
    return Question(
        id="",
        text=text,
        form=msgspec.json.encode(schema),
        details=plain(shown, "arguments to be approved"),
        default=None if default is None else plain({"arguments": default}, "arguments to be approved"),
        to=to,
        digest=digest,
        step=step,
    )
