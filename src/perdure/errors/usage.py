"""What the caller's program does wrongly: its set-up, and calls in the wrong place."""

from __future__ import annotations

from perdure.errors.base import PerdureError


class ConfigurationError(PerdureError):
    """The program is set up in a way that can't work; the message names the setting and the mend."""


class DuplicateNameError(ConfigurationError):
    """Two different functions were registered under one durable name."""


class UsageError(PerdureError):
    """A durable call was made in a place where it can't work."""


class ForbiddenInWorkflowError(UsageError):
    """Workflow code did something that can't be replayed: I/O, threads, sockets, subprocesses, sleeping.

    Put it into a `@step` and await that instead.
    """


class NamespaceError(UsageError):
    """What was asked concerns the whole database, and whoever asked sees one namespace of it."""


class DurableCallInStepError(UsageError):
    """A step awaited a workflow, another step, or a durable wait. Steps are leaves: they do I/O only."""


class EngineClosedError(PerdureError):
    """The engine isn't open: use it inside `async with Engine(...)`."""
