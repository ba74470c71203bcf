"""Programs without the time that it takes to start them: a process with all imported forks one for each."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Zygote:
    """The process that forks the ones that die.

    Args:
        frameworks: it has frameworks for agents and the web imported, too, for programs that use one.
    """

    def __init__(self, *, frameworks: bool = False) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "forking.py"), *(["--frameworks"] if frameworks else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "error", "PERDURE_URL": ""},
        )

    def ask(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def run(
        self, script: Path, folder: Path, die_at: int = 0, *, before: bool = False, temporary: bool = False
    ) -> dict[str, Any]:
        """Run a program in a folder, and tell how it ended.

        Args:
            die_at: number of the commit at which it dies, 0 for never.
            before: it dies before that commit is done, else right after it.
            temporary: its temporary files are in the folder, too.
        """
        order = {"script": str(script), "folder": str(folder), "die_at": die_at}
        return self.ask(do="run", **order, before=before, temporary=temporary)

    def look(self, folder: Path) -> dict[str, Any]:
        return self.ask(do="look", folder=str(folder))

    def close(self) -> None:
        self._process.communicate("")


#: What takes seconds to import.
FRAMEWORK = re.compile(
    r"^(?:import|from) (?:agents|fastapi|httpx2|langchain\w*|langgraph|opentelemetry|pydantic_ai)\b",
    re.MULTILINE,
)


def uses_a_framework(script: Path) -> bool:
    return FRAMEWORK.search(script.read_text(encoding="utf-8")) is not None
