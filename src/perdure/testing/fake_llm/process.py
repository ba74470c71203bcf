"""The fake provider in a process of its own, for programs that are killed, or that several processes call."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self
from urllib.request import Request, urlopen

import msgspec

from perdure.testing.fake_llm.exchange import Call
from perdure.testing.fake_llm.faults import Fault
from perdure.testing.fake_llm.provider import Books
from perdure.testing.fake_llm.server import CALLS_PATH, FAULTS_PATH

_PATIENCE = 10.0  # seconds for an answer of the process


class RunningLLM(Books):
    """A fake provider that runs somewhere, known by its address.

    Args:
        url: what `FakeLLM.url` was there.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def calls(self) -> list[Call]:
        with urlopen(self.url + CALLS_PATH, timeout=_PATIENCE) as answer:  # noqa: S310 - our own http address
            return msgspec.json.decode(answer.read(), type=list[Call])

    def script(self, *faults: Fault | None) -> None:
        """What the next requests meet, one after the other; None: that one goes well."""
        request = Request(self.url + FAULTS_PATH, msgspec.json.encode(faults), method="POST")  # noqa: S310
        with urlopen(request, timeout=_PATIENCE) as answer:  # noqa: S310
            answer.read()


class FakeLLMProcess(RunningLLM):
    """A fake provider in a process of its own. A context manager; the process ends with it, or with this one.

    Args:
        options: of `python -m perdure.testing.fake_llm`.
    """

    def __init__(self, options: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "perdure.testing.fake_llm", "--with-parent", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        super().__init__(self._process.stdout.readline().strip())

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
