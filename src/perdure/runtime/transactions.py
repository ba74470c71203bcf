"""Transactional steps: a step's effect on the user's own database and its record there, in one transaction.

The database keeps a small table, `perdure_steps`, with a row for each such step that is done. A step's
attempt claims its row, does its work, writes the result into the row, and commits all of it:

    begin -> claim the row -> body -> result into the row -> commit -> (the engine records the result)
                '--- the row was there already: take its result, do nothing

A crash before the commit leaves nothing behind; one after it leaves effect and result, and the next attempt
finds them. The claim comes first, so that of two attempts at the same time (a worker that was taken for dead,
say) the second waits for the first and then finds its result.

The flow is written once, as a generator that asks for statements; databases.py carries them out, on the
event loop or in a thread.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeAlias

from perdure.core.retry import is_transient_in_databases
from perdure.errors import ConfigurationError, OutcomeUnknown, UsageError
from perdure.runtime.definitions import step_named
from perdure.runtime.stepcontext import StepInfo, current_step
from perdure.storage.chance import chance

#: Made on demand. Whoever may not create tables finds it in the guide, to make it by a migration.
TABLE = (
    "CREATE TABLE IF NOT EXISTS perdure_steps ("
    "run_id VARCHAR(255) NOT NULL, step_id VARCHAR(512) NOT NULL, result TEXT NOT NULL, "
    "recorded_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (run_id, step_id))"
)
LOOK = "SELECT 1 FROM perdure_steps WHERE 1 = 0"

_CLAIM = {
    "postgresql": "INSERT INTO perdure_steps (run_id, step_id, result, recorded_at) "
    "VALUES (:run, :step, :result, :at) ON CONFLICT DO NOTHING",
    "mysql": "INSERT IGNORE INTO perdure_steps (run_id, step_id, result, recorded_at) "
    "VALUES (:run, :step, :result, :at)",
}
_CLAIM["sqlite"] = _CLAIM["postgresql"]
_CLAIM["mariadb"] = _CLAIM["mysql"]
_FIND = "SELECT result FROM perdure_steps WHERE run_id = :run AND step_id = :step"
_RECORD = (
    "UPDATE perdure_steps SET result = :result, recorded_at = :at WHERE run_id = :run AND step_id = :step"
)

_CLAIMED = "?"  # no JSON text begins so


class Statement(NamedTuple):
    """A statement with named parameters (`:name`)."""

    text: str
    values: dict[str, Any]


class CallBody(NamedTuple):
    """Call the step's function, with the open connection before its arguments."""


Ask: TypeAlias = Statement | CallBody


class Transaction(Protocol):
    """An open transaction.

    Attributes:
        connection: what the step's function gets.
        dialect: "postgresql", "sqlite", "mysql" or "mariadb".
    """

    connection: Any
    dialect: str

    def is_open(self) -> bool:
        """Whether nobody has committed it or rolled it back."""
        ...

    def execute(self, statement: Statement) -> Any:
        """The rows of its answer, empty if it gives none; to be awaited on an async database."""
        ...


class Transactions(Protocol):
    """The user's database, see databases.py."""

    @property
    def asynchronous(self) -> bool | None: ...
    @property
    def described(self) -> str: ...
    def begin(self) -> AbstractContextManager[Transaction]: ...
    def begin_async(self) -> AbstractAsyncContextManager[Transaction]: ...


def transactional(function: Callable[..., Any], database: Transactions) -> Callable[..., Any]:
    """What executes a transactional step: the function without its first parameter, in a transaction.

    Raises:
        ConfigurationError: the function has no first parameter, or is sync and the database isn't, or the
            other way round.
    """
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        msg = (
            f"{function.__qualname__} is given transaction=, so it gets an open connection as its first argument: "
            "add a parameter for it in front"
        )
        raise ConfigurationError(msg)
    is_async = inspect.iscoroutinefunction(function)
    if database.asynchronous is not None and database.asynchronous != is_async:
        raise mismatch(is_async=is_async, described=database.described)
    ready = _Ready(database)

    async def run_async(*args: Any, **kwargs: Any) -> Any:
        return await _run_async(ready, function, args, kwargs)

    def run_sync(*args: Any, **kwargs: Any) -> Any:
        return _run_sync(ready, function, args, kwargs)

    run = functools.wraps(function)(run_async if is_async else run_sync)
    run.__signature__ = signature.replace(parameters=parameters[1:])  # type: ignore[attr-defined]
    return run


def mismatch(*, is_async: bool, described: str) -> ConfigurationError:
    """The error for an async function on a sync database, or the other way round."""
    if is_async:
        msg = (
            f"the step is async and its transaction= isn't ({described}): waiting for the database would hold the "
            "event loop up. Write the step as a plain `def`, which runs in a thread, or give an async connection, "
            "pool or engine"
        )
    else:
        msg = (
            f"the step is a plain function and its transaction= is asynchronous ({described}): write it as "
            "`async def`, or give a sync connection, pool or engine"
        )
    return ConfigurationError(msg)


class _Ready:
    """A database, and whether its table is known to be there."""

    def __init__(self, database: Transactions) -> None:
        self.database = database
        self.known = False


def _table(dialect: str) -> Statement:
    long = dialect in ("mysql", "mariadb")  # whose TEXT ends at 64 kB
    return Statement(TABLE.replace("TEXT", "LONGTEXT") if long else TABLE, {})


# -- the flow -----------------------------------------------------------------------------------------


def _flow(info: StepInfo, dialect: str) -> Generator[Ask, Any, Any]:
    """What happens in the transaction of one attempt. Returns the step's result."""
    definition = step_named(info.name)
    assert definition is not None, "a step executes where it is defined"
    if dialect not in _CLAIM:
        msg = f"transactional steps work on PostgreSQL, SQLite, MySQL and MariaDB; this is {dialect!r}"
        raise ConfigurationError(msg)
    step = info.step_id if info.keys == 1 else f"{info.step_id}@{info.keys}"  # a run can go on under its id
    place = {"run": info.acts_as, "step": step}
    mine = _CLAIMED + chance.token_hex(8)
    yield Statement(_CLAIM[dialect], {**place, "result": mine, "at": time.time()})
    found = yield Statement(_FIND, place)
    recorded = found[0][0] if found else ""
    if recorded != mine:
        if not recorded or recorded.startswith(_CLAIMED):
            raise _ended_by_itself(info)
        return definition.result.decode(recorded.encode())
    value = yield CallBody()
    data, _ = definition.result.record(value)
    if info.cancelled:
        msg = f"attempt {info.attempt} isn't waited for any more: its transaction is rolled back"
        raise TimeoutError(msg)
    yield Statement(_RECORD, {**place, "result": data.decode(), "at": time.time()})
    return value


def _check_open(transaction: Transaction, info: StepInfo | None) -> None:
    if info is not None and not transaction.is_open():
        raise _ended_by_itself(info)


def _ended_by_itself(info: StepInfo) -> UsageError:
    return UsageError(
        f"step {info.step_id!r} of run {info.run_id!r} ended its transaction by itself, so what it did was committed "
        "without its result. Leave commit and rollback to Perdure. To go on, look what the step did, and delete its "
        "row from perdure_steps, or put its result there as JSON"
    )


def _plain_flow() -> Generator[Ask, Any, Any]:
    """Outside of an engine: the function in a transaction, and no record."""
    return (yield CallBody())


def _in_doubt(error: Exception) -> BaseException:
    """An error of the commit itself: it may have happened. Another attempt finds out."""
    if not is_transient_in_databases(error):
        return error  # a deferred constraint, say: the database refused
    doubt = OutcomeUnknown(
        f"the commit was cut off ({type(error).__name__}: {error}); the next attempt will know"
    )
    doubt.__cause__ = error
    return doubt


# -- carrying it out ----------------------------------------------------------------------------------


def _run_sync(
    ready: _Ready, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> Any:
    info = current_step.get()
    database = ready.database
    if info is not None and not ready.known:
        _prepare_sync(database)
        ready.known = True
    done = False
    value: Any = None
    try:
        with database.begin() as transaction:
            flow = _plain_flow() if info is None else _flow(info, transaction.dialect)
            answer: Any = None
            while True:
                try:
                    ask = flow.send(answer)
                except StopIteration as end:
                    value, done = end.value, True
                    break
                if isinstance(ask, Statement):
                    answer = transaction.execute(ask)
                else:
                    answer = function(transaction.connection, *args, **kwargs)
                    _check_open(transaction, info)
    except Exception as error:
        if done:
            raise _in_doubt(error) from error
        raise
    return value


def _prepare_sync(database: Transactions) -> None:
    try:
        with database.begin() as transaction:
            transaction.execute(Statement(LOOK, {}))
    except ConfigurationError:
        raise
    except Exception:  # noqa: BLE001 - each driver has its own error for a table that isn't there
        try:
            with database.begin() as transaction:
                transaction.execute(_table(transaction.dialect))
        except Exception:  # noqa: BLE001 - another process may have made it at the same moment
            with database.begin() as transaction:
                transaction.execute(Statement(LOOK, {}))


async def _run_async(
    ready: _Ready, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> Any:
    info = current_step.get()
    database = ready.database
    if info is not None and not ready.known:
        await _prepare_async(database)
        ready.known = True
    done = False
    value: Any = None
    try:
        async with database.begin_async() as transaction:
            flow = _plain_flow() if info is None else _flow(info, transaction.dialect)
            answer: Any = None
            while True:
                try:
                    ask = flow.send(answer)
                except StopIteration as end:
                    value, done = end.value, True
                    break
                if isinstance(ask, Statement):
                    answer = await transaction.execute(ask)
                else:
                    answer = await function(transaction.connection, *args, **kwargs)
                    _check_open(transaction, info)
    except Exception as error:
        if done:
            raise _in_doubt(error) from error
        raise
    return value


async def _prepare_async(database: Transactions) -> None:
    try:
        async with database.begin_async() as transaction:
            await transaction.execute(Statement(LOOK, {}))
    except ConfigurationError:
        raise
    except Exception:  # noqa: BLE001 - each driver has its own error for a table that isn't there
        try:
            async with database.begin_async() as transaction:
                await transaction.execute(_table(transaction.dialect))
        except Exception:  # noqa: BLE001 - another process may have made it at the same moment
            async with database.begin_async() as transaction:
                await transaction.execute(Statement(LOOK, {}))
