"""What clients of providers do in workflow code besides sending requests, and what becomes of it.

Before its first request a client of OpenAI's or Anthropic's asks the system, in a thread, what it is, for a header.
Workflow code has no threads: the answer is given at once. Python keeps what it has found out of the system, so after
a first look no file is opened for it.
"""

from __future__ import annotations

import platform
import sys
from functools import cache
from typing import Any

from perdure.core.forbidden import answered_at_once

#: Modules of clients with a function `get_platform`.
_CLIENTS = ("openai._base_client", "anthropic._base_client")


@cache
def prepare() -> None:
    """Look at the system before workflow code does."""
    platform.platform()
    platform.system()
    try:
        platform.freedesktop_os_release()
    except (AttributeError, OSError):
        pass
    for name in _CLIENTS:
        answered_at_once[(name, "get_platform")] = _Answer(name)


class _Answer:
    """The system's kind, as a client calls it."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __call__(self) -> Any:
        return sys.modules[self._module].get_platform()
