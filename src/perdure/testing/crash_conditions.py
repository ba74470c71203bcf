"""What makes scenarios of crashes comparable, and what is noted of steps meanwhile."""

from __future__ import annotations

import contextlib
import logging
import os
import random
from collections.abc import Generator
from types import CodeType

from perdure.runtime.runs import SEED_BYTES
from perdure.runtime.stepcontext import StepInfo


class Steady:
    """Chance that is the same in each scenario, as far as code can see it: seeds of runs, how retries are spread."""

    def __init__(self) -> None:
        self._seeds = random.Random("seeds")  # noqa: S311 - it is to repeat
        self._numbers = random.Random("numbers")  # noqa: S311

    def random(self) -> float:
        return 0.5

    def getrandbits(self, bits: int) -> int:
        return self._numbers.getrandbits(bits)

    def randbytes(self, length: int) -> bytes:
        return self._seeds.randbytes(length) if length == SEED_BYTES else os.urandom(length)


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """What workers say of crashes is no news where they are made on purpose."""
    logger = logging.getLogger("perdure.worker")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def asked_keys(names: set[str]) -> Generator[None]:
    """Note which steps ask for their idempotency key."""
    real = StepInfo.idempotency_key

    def asked(self: StepInfo) -> str:
        names.add(self.name)
        return real(self)

    StepInfo.idempotency_key = asked  # type: ignore[method-assign]
    try:
        yield
    finally:
        StepInfo.idempotency_key = real  # type: ignore[method-assign]


def names_key(code: CodeType) -> bool:
    """Whether a function's own code asks for the key: of mocked ones it isn't seen otherwise."""
    return "idempotency_key" in code.co_names or any(
        names_key(inner) for inner in code.co_consts if isinstance(inner, CodeType)
    )
