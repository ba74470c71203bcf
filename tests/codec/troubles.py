"""Exceptions for tests: ordinary ones, and ones with code that recording and rebuilding must not run."""

from __future__ import annotations

import abc
import errno
from typing import Any


class Declined(Exception):
    """Makes its own text, and keeps more than it passes on."""

    def __init__(self, code: int, *, card: object = None) -> None:
        super().__init__(f"declined with {code}")
        self.code = code
        self.card = card


class Described(Exception):
    kind = "class default"

    def __str__(self) -> str:
        return f"{self.kind}: {self.args}"


class DiskError(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(errno.ENOSPC, "disk full", path)
        self.path = path


class Missing(KeyError, AttributeError):
    pass


class Abstract(Exception, abc.ABC):
    pass


class Problems(ExceptionGroup[Exception]):
    pass


class Outer:
    class Inner(ValueError):
        pass


class WithNew(Exception):
    calls = 0

    def __new__(cls, *args: object) -> WithNew:
        cls.calls += 1
        return super().__new__(cls, *args)


class WithSlots(Exception):
    __slots__ = ("code",)


class WithProperty(Exception):
    @property
    def code(self) -> int:
        raise AssertionError("a property ran")

    @code.setter
    def code(self, code: int) -> None:
        raise AssertionError("a property ran")


class WithInit(Exception):
    def __init__(self, *args: object) -> None:
        raise AssertionError("__init__ ran")


class WithSetattr(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise AssertionError("__setattr__ ran")


class WithGetattribute(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise AssertionError("__getattribute__ ran")


class WithReduce(Exception):
    def __reduce__(self) -> Any:
        raise AssertionError("__reduce__ ran")


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        raise AssertionError("a metaclass ran")

    def __call__(cls, *args: object) -> Any:
        raise AssertionError("a metaclass ran")


class WithMeta(Exception, metaclass=Meta):
    pass
