"""What an errand is told, and what it tells: the input of its run, and the report that it ends with.

The run that sends an errand decides when a step is tried again and when it has failed, since only its code has the
policy. So an errand carries what one attempt needs, and reports an exception with all that a policy looks at.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import msgspec

from perdure.codec.bare import bases, type_name
from perdure.codec.failures import failure_of
from perdure.core import events as ev
from perdure.core.refusals import told
from perdure.errors import UndecodableError
from perdure.runtime.definitions import main_module
from perdure.runtime.limits import SentLimit
from perdure.runtime.standins import error_of


class Errand(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt of a step that is to be executed elsewhere.

    Attributes:
        run, step: the stored id of the run whose step it is, and the step's id there.
        keys: that run's generation by which idempotency keys are made.
        keys_of: the stored id by which they are made, if that isn't `run`.
        input: the step's encoded arguments.
        timeout, heartbeat_timeout: of the attempt, in seconds.
        deadline: in seconds from `first_at`, when the first attempt began; until then attempts may begin.
        limits: rate limits under which it is.
        detail, detail_at: what the newest heartbeat of an earlier attempt told.
        trace: where the attempt stands in a trace, as the sender's telemetry says it.
        quiet: what it publishes isn't published, since the run is counterfactual.
    """

    run: str
    step: str
    keys: int
    attempt: int
    input: bytes
    timeout: float | None = None
    heartbeat_timeout: float | None = None
    detail: bytes | None = None
    detail_at: float = 0.0
    limits: tuple[SentLimit, ...] = ()
    deadline: float | None = None
    first_at: float | None = None
    quiet: bool = False
    trace: str | None = None
    keys_of: str | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Errand).decode


def encode_errand(errand: Errand) -> bytes:
    """As the input of a run."""
    return _encode(errand)


def decode_errand(data: bytes) -> Errand:
    """The errand that a run was made for.

    Raises:
        UndecodableError: a newer version of Perdure has sent it, or the bytes are damaged.
    """
    try:
        return _decode(data)
    except msgspec.MsgspecError as error:
        msg = f"what an errand is told can't be read: {error}. Upgrade Perdure on this worker, and it goes on"
        raise UndecodableError(msg) from error


def failed(report: ev.ErrandEnded, error: BaseException) -> ev.ErrandEnded:
    """The report of an attempt that has raised something. Classes of a script go by the name of its module."""
    status, after = told(error, report.at)
    return msgspec.structs.replace(
        report,
        failure=_renamed(failure_of(error), _imported),
        kinds=tuple(_imported(type_name(kind)) for kind in bases(type(error))),
        http_status=status,
        retry_after=after,
    )


def error_in(report: ev.ErrandEnded) -> BaseException | None:
    """What the attempt has raised, as far as it can be rebuilt here; None if it hasn't raised anything."""
    if report.failure is None:
        return None
    kinds = [_loaded(kind) for kind in report.kinds]
    return error_of(_renamed(report.failure, _loaded), kinds, report.http_status, report.retry_after)


def _imported(name: str) -> str:
    """What a class is called where its module is imported: here that may be the script that was started."""
    return main_module() + name.removeprefix("__main__") if name.startswith("__main__.") else name


def _loaded(name: str) -> str:
    """What a class is called here."""
    module = main_module()
    return (
        "__main__" + name[len(module) :]
        if name.startswith(f"{module}.") and module not in sys.modules
        else name
    )


def _renamed(failure: ev.Failure, rename: Callable[[str], str]) -> ev.Failure:
    return msgspec.structs.replace(
        failure,
        type=rename(failure.type),
        cause=None if failure.cause is None else _renamed(failure.cause, rename),
        members=tuple(_renamed(member, rename) for member in failure.members),
    )
