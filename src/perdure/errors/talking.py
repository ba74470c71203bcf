"""Talking with runs goes wrong: queries, updates, and callbacks completed from outside."""

from __future__ import annotations

from collections.abc import Mapping

from perdure.errors.base import PerdureError


class UnknownHandlerError(PerdureError):
    """The run has no query or update handler of this name; the message names those it has."""


class ReadOnlyError(PerdureError):
    """A query handler or a validator tried to act. They only look; what acts belongs into an update handler."""


class UpdateRejected(PerdureError):
    """An update was turned down by its validator (whose text this is), or its arguments don't fit the handler.

    Nothing of it is in the run's history.
    """


class ValidatorActedError(UpdateRejected, ReadOnlyError):
    """An update was rejected because its validator tried to act."""


class HandlerFailed(PerdureError):
    """A query or update handler failed with an exception whose class can't be rebuilt in this process.

    Attributes:
        type: the original exception's qualified class name.
    """

    def __init__(self, message: str, *, type: str = "") -> None:
        super().__init__(message)
        self.type = type


class HandlerUnreachableError(PerdureError):
    """A query wasn't answered: no process that has the workflow's code could be reached in time."""


class TravelError(PerdureError):
    """The past of a run can't be shown: its code takes too long, or has ended the process that replays it."""


class NoCodeError(TravelError):
    """This process doesn't have the code of a run's workflow; the message says how it gets it."""


class CallbackFailed(PerdureError):
    """Somebody outside failed a callback, or sent a value that isn't what the code expects.

    Attributes:
        callback: its id within the run.
    """

    def __init__(self, message: str, *, callback: str = "") -> None:
        super().__init__(message)
        self.callback = callback


class CallbackError(PerdureError):
    """A callback can't be completed, failed or kept alive. Nothing was changed.

    Attributes:
        run_id: the run it belongs to, "" if that isn't known.
    """

    def __init__(self, message: str, *, run_id: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id


class UnknownCallbackError(CallbackError):
    """No callback in this database has this token."""


class CallbackCompletedError(CallbackError):
    """The callback was completed or failed before; that can be done once."""


class CallbackExpiredError(CallbackError):
    """The callback's time is over, or the run it belongs to has ended."""


class QuestionError(PerdureError):
    """A question can't be answered. Nothing was changed.

    Attributes:
        question: its id, "" if there is none.
        run_id: the run that asks, "" if that isn't known.
    """

    def __init__(self, message: str, *, question: str = "", run_id: str = "") -> None:
        super().__init__(message)
        self.question = question
        self.run_id = run_id


class UnknownQuestionError(QuestionError):
    """No question in this database has this id, or the run asks nothing."""


class QuestionAnsweredError(QuestionError):
    """The question was answered before, with something else; that can be done once."""


class QuestionClosedError(QuestionError):
    """Nobody waits for the answer any more: its time is over, it was withdrawn, or its run has ended."""


class InvalidAnswerError(QuestionError):
    """The answer isn't what was asked for.

    Attributes:
        problems: what is wrong, by field (`items[0].price`; "" is the answer as a whole).
    """

    def __init__(
        self, message: str, *, problems: Mapping[str, str] | None = None, question: str = "", run_id: str = ""
    ) -> None:
        super().__init__(message, question=question, run_id=run_id)
        self.problems: dict[str, str] = dict(problems or {})
