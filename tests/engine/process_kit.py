"""Steps that execute in processes, which import this module: so it imports little."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import perdure
from perdure import Rate, RateLimit, RateLimited, Retry, step

QUICK = Retry(max_attempts=3, initial=0.001)
PATIENT = Retry(max_attempts=9, initial=0.001)  # where a slow machine may cost attempts
ONLY_ONE = Retry(max_attempts=1)
PATIENCE = 60.0
METER = RateLimit("meter", requests=Rate(100, per=60, burst=10), units=Rate(1000, per=60, burst=900))


@dataclass
class Point:
    """Not plain JSON: it is decoded by the annotation."""

    x: int
    y: int


class Declined(Exception):
    """One that can be rebuilt."""


class Response:
    def __init__(self, status: int, after: str | None = None) -> None:
        self.status_code = status
        self.headers = {} if after is None else {"Retry-After": after}


class StatusError(Exception):
    """In the shape of an HTTP client's: it can't be rebuilt, and its status isn't plain data."""

    def __init__(self, message: str, *, response: Response) -> None:
        super().__init__(message, response)
        self.response = response


def wait_for(path: str | Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise LookupError(f"{path} never came")
        time.sleep(0.005)


def tells_pid(folder: str) -> None:
    """Leave this process's id in a file that is there as a whole or not at all."""
    path = Path(folder) / "pid"
    path.with_suffix(".new").write_text(str(os.getpid()))
    path.with_suffix(".new").replace(path)


@step(process=True)
def doubles(point: Point, by: int = 2) -> Point:
    return Point(point.x * by, point.y * by)


@step(process=True)
def tells() -> int:
    return os.getpid()


@step(process=True)
def holds_its_interpreter(folder: str) -> str:
    """Nobody else in this process can do anything until it is over, and it never is."""
    tells_pid(folder)
    re.match(r"(a+)+$", "a" * 60 + "b")
    return "never"


@step(process=True)
def waits(folder: str) -> str:
    tells_pid(folder)
    wait_for(Path(folder) / "go")
    return "done"


@step(process=True, on_cancel="wait")
def waits_to_the_end(folder: str) -> str:
    tells_pid(folder)
    wait_for(Path(folder) / "go")
    return "done"


@step(process=True, on_cancel="abandon")
def is_abandoned(folder: str) -> str:
    tells_pid(folder)
    wait_for(Path(folder) / "go")
    (Path(folder) / "reached").touch()
    return "done"


@step(process=True, timeout=0.2, retry=ONLY_ONE)
def spins_with_a_child(folder: str) -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    (Path(folder) / "grandchild").write_text(str(child.pid))
    tells_pid(folder)
    while True:
        pass


@step(process=True, retry=PATIENT, timeout=0.3)
def is_slow_at_first() -> int:
    if perdure.step_info().attempt == 1:
        time.sleep(60)
    return perdure.step_info().attempt


@step(process=True, heartbeat_timeout=0.2, retry=PATIENT)
def falls_silent() -> list[Any]:
    info = perdure.step_info()
    if info.attempt == 1:
        perdure.heartbeat({"page": 7})
        time.sleep(60)
    return [info.attempt, info.detail]


@step(process=True, retry=QUICK)
def dies(by: int, until: int) -> int:
    attempt = perdure.step_info().attempt
    if attempt < until:
        os.kill(os.getpid(), by)
        time.sleep(60)
    return attempt


@step(process=True, retry=QUICK)
def exits(code: int) -> None:
    os._exit(code)


@step(process=True, retry=QUICK)
def closes_everything() -> None:
    os.closerange(3, 1000)
    time.sleep(60)


@step(process=True)
def dies_by_default_policy() -> int:
    attempt = perdure.step_info().attempt
    if attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return attempt


@step(process=True, retry=QUICK)
def uses_its_context() -> dict[str, Any]:
    info = perdure.step_info()
    seen = {
        "run": info.run_id,
        "step": info.step_id,
        "attempt": info.attempt,
        "detail": info.detail,
        "beaten": info.last_heartbeat is not None,
        "key": perdure.idempotency_key(),
    }
    perdure.emit("progress", {"attempt": info.attempt})
    perdure.heartbeat()
    perdure.heartbeat(["half", info.attempt])
    perdure.log.warning("attempt %d speaks", info.attempt)
    if info.attempt == 1:
        raise ConnectionError("again")
    return seen


@step(process=True)
def declines(number: int) -> None:
    try:
        raise KeyError("the reason")
    except KeyError as error:
        raise Declined("no", number) from error


@step(process=True, retry=Retry(max_attempts=5, initial=0.001, on=(Declined,)))
def declines_twice() -> int:
    attempt = perdure.step_info().attempt
    if attempt < 3:
        raise Declined("not yet")
    raise KeyError(attempt)


@step(process=True, retry=perdure.Retry(max_attempts=2, initial=0.001, on=(StatusError,)))
def answers(status: int) -> int:
    raise StatusError(f"{status} it is", response=Response(status))


@step(process=True)
def is_busy_once(status: int) -> int:
    attempt = perdure.step_info().attempt
    if attempt == 1:
        raise StatusError(f"{status} it is", response=Response(status, "0"))
    return attempt


@step(process=True)
def exits_properly() -> None:
    sys.exit("enough")


@step(process=True, retry=QUICK)
def returns_what_cannot_be_kept() -> Any:
    return object()


@step(process=True)
def returns_much(size: int) -> str:
    return "x" * size


@step(process=True)
def shows_its_command_line(secret: str) -> bool:
    places = [Path(f"/proc/self/{name}").read_bytes() for name in ("cmdline", "environ")]
    return any(secret.encode() in place for place in places)


def happened(folder: str) -> perdure.Done[str] | None:
    return perdure.Done("it did") if (Path(folder) / "effect").exists() else None


def effect_then_death(folder: str) -> str:
    info = perdure.step_info()
    with (Path(folder) / "bodies").open("a") as file:
        file.write(f"{info.attempt}\n")
    if info.attempt == 1:
        if (Path(folder) / "does").exists():
            (Path(folder) / "effect").touch()
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    return "done again"


once_with_probe = step(process=True, once=True, verify=happened, retry=QUICK, name="once_with_probe")(
    effect_then_death
)
once_without = step(process=True, once=True, retry=QUICK, name="once_without")(effect_then_death)


@step(process=True, name="process_kit.counts")
def counts(folder: str, number: int) -> int:
    with (Path(folder) / "bodies").open("a") as file:
        file.write(f"{perdure.step_info().step_id}\n")
    return number * number


@step(process=True, limit=METER.cost(units=lambda most: most))
def metered(most: int, used: int) -> int:
    """Says how much it may use, and uses less; turned away if that is nothing."""
    if not used and not perdure.step_info().detail:
        perdure.heartbeat("turned away")
        raise RateLimited(after=0.05)
    perdure.settle(METER, units=used)
    return used


@step(process=True, limit=METER)
def settles_another() -> None:
    perdure.settle(RateLimit("other", units=Rate(1, per=1)), units=1)


@step(process=True, retry=Retry(max_attempts=2, initial=0.001))
def publishes_from_a_process(word: str) -> str:
    perdure.publish("process", word)
    perdure.publish("process", word, key="k")
    if perdure.step_info().attempt == 1:
        raise OSError(word)
    return word


@step(process=True, retry=perdure.Retry(max_attempts=1))
def tells_its_key(mended: str) -> str:
    if not os.path.exists(mended):
        raise ValueError(perdure.idempotency_key())
    return perdure.idempotency_key()
