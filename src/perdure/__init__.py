"""Durable execution for Python: plain asyncio functions that survive crashes.

    import asyncio, perdure
    from perdure import step, workflow

    @step
    async def fetch(url: str) -> str: ...

    @workflow
    async def research(urls: list[str]) -> list[str]:
        return await asyncio.gather(*(fetch(url) for url in urls))

    perdure.run(research(["https://example.org"]), url="sqlite:///research.db", id="r-1")

Everything public is importable from here; the rest is the engine's own. What every program needs is imported with the
package, the rest when it is first used.
"""

import importlib as _importlib
import typing as _typing

from perdure import errors
from perdure.api.call import Call
from perdure.api.children import ChildHandle, start
from perdure.api.context import RunContext, continue_as, info, log, now, random, sleep, sleep_until, uuid4
from perdure.api.decorators import step, workflow
from perdure.api.durable import Step, Workflow
from perdure.api.engine import Engine
from perdure.api.handle import Handle
from perdure.api.insidestep import heartbeat, idempotency_key, step_info
from perdure.api.messages import Message, receive, send, until
from perdure.api.oneshot import run
from perdure.api.runinfo import RunInfo, StrayMessage
from perdure.core import events
from perdure.core.bounds import Bounds
from perdure.core.retry import Retry
from perdure.core.status import Status
from perdure.errors import (
    ApprovalRejected,
    BudgetExceeded,
    CallbackCompletedError,
    CallbackError,
    CallbackExpiredError,
    CallbackFailed,
    CompensationFailed,
    EffectRefused,
    HandlerFailed,
    HandlerUnreachableError,
    HttpStatusError,
    InvalidAnswerError,
    MapFailed,
    NoCodeError,
    NonDeterminismError,
    NothingToDecideError,
    NotSerializableError,
    OutcomeUnknown,
    PerdureError,
    Permanent,
    QuestionAnsweredError,
    QuestionClosedError,
    QuestionError,
    QuotaExceededError,
    RateLimited,
    ReadOnlyError,
    Retryable,
    RunCancelled,
    RunConflictError,
    RunEndedError,
    RunError,
    RunFailed,
    RunTerminated,
    RunTimedOut,
    ScheduleConflictError,
    SealedError,
    SecretUnavailableError,
    StaleWorkerError,
    StepFailed,
    StoreError,
    TravelError,
    UnknownCallbackError,
    UnknownHandlerError,
    UnknownQuestionError,
    UnknownRunError,
    UnknownScheduleError,
    UpdateRejected,
)
from perdure.runtime.budgets import Budget
from perdure.runtime.queues import Queue
from perdure.runtime.retention import Retention
from perdure.runtime.stepcontext import StepInfo

if _typing.TYPE_CHECKING:
    from perdure import logs, redactions, secrets
    from perdure.api.approving import Approval, NeedsApproval, ToolApproval, approve, ask_approval
    from perdure.api.asking import ask
    from perdure.api.budgets import AccountInfo, BudgetInfo
    from perdure.api.callbacks import Callback, Callbacks, callback
    from perdure.api.comparing import Difference, RunDiff, RunSide, StepDiff, StepSide
    from perdure.api.editing import Args, Change
    from perdure.api.entities import entity, read
    from perdure.api.erasing import Erased
    from perdure.api.failures import StepFailure, failure
    from perdure.api.forkplans import ForkPlan
    from perdure.api.handlers import on_query, on_update
    from perdure.api.interface import RunInterface
    from perdure.api.keeping import DiskUsage, Pruned, RetentionState
    from perdure.api.limits import LimitInfo, UnitInfo, settle
    from perdure.api.mapping import ItemStatus, MapResult, map
    from perdure.api.metrics import Metrics
    from perdure.api.polling import poll
    from perdure.api.publications import (
        PublicationInfo,
        SubscriptionInfo,
        WaitingInfo,
        event,
        publish,
        publish_in,
    )
    from perdure.api.questions import QuestionInfo
    from perdure.api.queues import QueueInfo
    from perdure.api.quotas import QuotaInfo
    from perdure.api.saga import Saga
    from perdure.api.scheduleinfo import ScheduledRun, ScheduleInfo
    from perdure.api.schedules import ScheduleHandle
    from perdure.api.searching import patched, set_attributes
    from perdure.api.spending import Usage, UsageLine, record_usage
    from perdure.api.steplogs import LogLine, StepLogHandler
    from perdure.api.streams import StreamItem, emit
    from perdure.api.workerinfo import WorkerInfo
    from perdure.codec.sealing.chain import CannotOpen, Codec, Place
    from perdure.codec.sealing.compression import Compression
    from perdure.codec.sealing.encryption import Encryption
    from perdure.codec.sealing.keys import KeyRing
    from perdure.codec.secret import Secret
    from perdure.core.doubt import Done
    from perdure.core.quotas import Quota
    from perdure.core.rates import Rate
    from perdure.core.standing import Standing
    from perdure.core.subscribing import Event
    from perdure.core.usage import Spend
    from perdure.runtime.health import Health
    from perdure.runtime.limits import RateLimit
    from perdure.storage.blobs.config import Blobs
    from perdure.web.client import HttpClient as HttpClient

__version__ = "0.1.0"

__all__ = [
    "AccountInfo",
    "Approval",
    "ApprovalRejected",
    "Args",
    "Blobs",
    "Bounds",
    "Budget",
    "BudgetExceeded",
    "BudgetInfo",
    "Call",
    "Callback",
    "CallbackCompletedError",
    "CallbackError",
    "CallbackExpiredError",
    "CallbackFailed",
    "Callbacks",
    "CannotOpen",
    "Change",
    "ChildHandle",
    "Codec",
    "CompensationFailed",
    "Compression",
    "Difference",
    "DiskUsage",
    "Done",
    "EffectRefused",
    "Encryption",
    "Engine",
    "Erased",
    "Event",
    "ForkPlan",
    "Handle",
    "HandlerFailed",
    "HandlerUnreachableError",
    "Health",
    "HttpStatusError",
    "InvalidAnswerError",
    "ItemStatus",
    "KeyRing",
    "LimitInfo",
    "LogLine",
    "MapFailed",
    "MapResult",
    "Message",
    "Metrics",
    "NeedsApproval",
    "NoCodeError",
    "NonDeterminismError",
    "NotSerializableError",
    "NothingToDecideError",
    "OutcomeUnknown",
    "PerdureError",
    "Permanent",
    "Place",
    "Pruned",
    "PublicationInfo",
    "QuestionAnsweredError",
    "QuestionClosedError",
    "QuestionError",
    "QuestionInfo",
    "Queue",
    "QueueInfo",
    "Quota",
    "QuotaExceededError",
    "QuotaInfo",
    "Rate",
    "RateLimit",
    "RateLimited",
    "ReadOnlyError",
    "Retention",
    "RetentionState",
    "Retry",
    "Retryable",
    "RunCancelled",
    "RunConflictError",
    "RunContext",
    "RunDiff",
    "RunEndedError",
    "RunError",
    "RunFailed",
    "RunInfo",
    "RunInterface",
    "RunSide",
    "RunTerminated",
    "RunTimedOut",
    "Saga",
    "ScheduleConflictError",
    "ScheduleHandle",
    "ScheduleInfo",
    "ScheduledRun",
    "SealedError",
    "Secret",
    "SecretUnavailableError",
    "Spend",
    "StaleWorkerError",
    "Standing",
    "Status",
    "Step",
    "StepDiff",
    "StepFailed",
    "StepFailure",
    "StepInfo",
    "StepLogHandler",
    "StepSide",
    "StoreError",
    "StrayMessage",
    "StreamItem",
    "SubscriptionInfo",
    "ToolApproval",
    "TravelError",
    "UnitInfo",
    "UnknownCallbackError",
    "UnknownHandlerError",
    "UnknownQuestionError",
    "UnknownRunError",
    "UnknownScheduleError",
    "UpdateRejected",
    "Usage",
    "UsageLine",
    "WaitingInfo",
    "WorkerInfo",
    "Workflow",
    "approve",
    "ask",
    "ask_approval",
    "callback",
    "continue_as",
    "emit",
    "entity",
    "errors",
    "event",
    "events",
    "failure",
    "heartbeat",
    "idempotency_key",
    "info",
    "log",
    "logs",
    "map",
    "now",
    "on_query",
    "on_update",
    "patched",
    "poll",
    "publish",
    "publish_in",
    "random",
    "read",
    "receive",
    "record_usage",
    "redactions",
    "run",
    "secrets",
    "send",
    "set_attributes",
    "settle",
    "sleep",
    "sleep_until",
    "start",
    "step",
    "step_info",
    "until",
    "uuid4",
    "workflow",
]

#: What is imported when it is first used: modules, and names that they define.
_LATER = {
    "": "logs redactions secrets",
    "api.approving": "Approval NeedsApproval ToolApproval approve ask_approval",
    "api.asking": "ask",
    "api.budgets": "AccountInfo BudgetInfo",
    "api.callbacks": "Callback Callbacks callback",
    "api.comparing": "Difference RunDiff RunSide StepDiff StepSide",
    "api.editing": "Args Change",
    "api.entities": "entity read",
    "api.erasing": "Erased",
    "api.failures": "StepFailure failure",
    "api.forkplans": "ForkPlan",
    "api.handlers": "on_query on_update",
    "api.interface": "RunInterface",
    "api.keeping": "DiskUsage Pruned RetentionState",
    "api.limits": "LimitInfo UnitInfo settle",
    "api.mapping": "ItemStatus MapResult map",
    "api.metrics": "Metrics",
    "api.polling": "poll",
    "api.publications": "PublicationInfo SubscriptionInfo WaitingInfo event publish publish_in",
    "api.questions": "QuestionInfo",
    "api.queues": "QueueInfo",
    "api.quotas": "QuotaInfo",
    "api.saga": "Saga",
    "api.scheduleinfo": "ScheduleInfo ScheduledRun",
    "api.schedules": "ScheduleHandle",
    "api.searching": "patched set_attributes",
    "api.spending": "Usage UsageLine record_usage",
    "api.steplogs": "LogLine StepLogHandler",
    "api.streams": "StreamItem emit",
    "api.workerinfo": "WorkerInfo",
    "codec.sealing.chain": "CannotOpen Codec Place",
    "codec.sealing.compression": "Compression",
    "codec.sealing.encryption": "Encryption",
    "codec.sealing.keys": "KeyRing",
    "codec.secret": "Secret",
    "core.doubt": "Done",
    "core.quotas": "Quota",
    "core.rates": "Rate",
    "core.standing": "Standing",
    "core.subscribing": "Event",
    "core.usage": "Spend",
    "runtime.health": "Health",
    "runtime.limits": "RateLimit",
    "storage.blobs.config": "Blobs",
    "web": "HttpClient",
}
_MODULE_OF = {name: module for module, names in _LATER.items() for name in names.split()}

if not _typing.TYPE_CHECKING:  # which would take any name for one that exists

    def __getattr__(name: str) -> _typing.Any:
        """Import what is used for the first time; after that it is here like the rest."""
        if name not in _MODULE_OF:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        module = _importlib.import_module(f"{__name__}.{_MODULE_OF[name] or name}")
        found = globals()[name] = getattr(module, name) if _MODULE_OF[name] else module
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
