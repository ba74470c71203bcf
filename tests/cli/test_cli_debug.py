"""`perdure debug` in a terminal of its own: stepping, breakpoints, and prompts where nothing goes on."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import debugged
import pytest
from debugged import Shelf, careless, changes, research

import perdure
from conftest import Cli
from perdure import Engine, RunFailed

PROMPT = "(perdure) "
SOURCE = Path(debugged.__file__)


def at(text: str) -> str:
    """The place of the first line with this text."""
    lines = SOURCE.read_text().splitlines()
    return f"debugged.py:{next(number for number, line in enumerate(lines, 1) if text in line)}"


class Terminal:
    """A process in a terminal, and what it has shown."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        source = os.pathsep.join([str(Path(perdure.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from perdure.cli import main; main()", "debug", *arguments],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": source,
                "PERDURE_URL": "sqlite:///runs.db",
                "TERM": "dumb",
                "PYTHON_COLORS": "0",
                **environment,
            },
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.shown = ""

    def ask(self, command: str | None = None) -> str:
        """Give a command, and wait for the next prompt. Returns what is shown until then."""
        if command is not None:
            os.write(self._ours, command.encode() + b"\n")
        return self._read(lambda text: text.endswith(PROMPT))

    def end(self, command: str) -> str:
        """Give a command after which the process ends. Returns what it shows at the end."""
        os.write(self._ours, command.encode() + b"\n")
        text = self._read(lambda text: False)
        assert self._process.wait(30) == 0, text
        return text

    def _read(self, enough: Callable[[str], bool]) -> str:
        text, deadline = "", time.monotonic() + 60
        while not enough(text):
            ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"it shows no more: {text}"
            try:
                data = os.read(self._ours, 65_536)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            text += data.decode().replace("\r\n", "\n")
        self.shown += text
        return text

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._ours)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database of runs."""
    folder = tmp_path_factory.mktemp("recorded")

    async def main() -> None:
        async with Engine(f"sqlite:///{folder / 'runs.db'}") as engine:
            await engine.run(research("cats"), id="done")
            with pytest.raises(RunFailed):
                await engine.run(research("unknown"), id="failed")
            await engine.run(changes(), id="changed")
            await engine.run(careless(), id="careless")
            for url in "abc":
                await engine.entity(Shelf, "one").add(url)
            waiting = await engine.start(research("long"), id="waits")
            while (await waiting.info()).events < 8:
                await asyncio.sleep(0.01)

    before = Path.cwd()
    os.chdir(folder)
    try:
        asyncio.run(main())
    finally:
        os.chdir(before)
    shutil.copy(SOURCE, folder / "debugged.py")
    Path(folder, "executed").unlink()
    return folder


@pytest.fixture
def debug(recorded: Path, tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Starts `perdure debug`; at the end nothing has been executed or written."""
    folder = tmp_path / "work"
    shutil.copytree(recorded, folder)
    before = contents(folder)
    terminals: list[Terminal] = []

    def start(*arguments: str, **environment: str) -> Terminal:
        terminals.append(Terminal(folder, *arguments, "--module", "debugged", **environment))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()
    assert not (folder / "executed").exists()
    assert contents(folder) == before


def contents(folder: Path) -> list[tuple[object, ...]]:
    connection = apsw.Connection(str(folder / "runs.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        rows = connection.execute("SELECT id, status, epoch, owner FROM runs ORDER BY run").fetchall()
        return [*rows, *connection.execute("SELECT count(*), max(seq) FROM events").fetchall()]
    finally:
        connection.close()


def test_next_goes_over_awaits(debug: Callable[..., Terminal]) -> None:
    terminal = debug("done")
    assert "event 1 of 7" in (first := terminal.ask())
    assert "-> found = []" in first
    terminal.ask("next")
    assert "-> name = await last_word" in terminal.ask("next")
    after = terminal.ask("next")
    assert "event 2 of 7" in after
    assert "step 'debugged.fetch#1' completed" in after
    assert "-> found.append(name)" in after
    assert "'cats/one'" in terminal.ask("p name")
    for _ in range(5):
        terminal.ask("next")
    assert "-> both = await asyncio.gather" in terminal.ask("where")
    terminal.ask("n")
    assert "-> await asyncio.sleep(0.01)" in terminal.ask("n")
    assert "timer 'sleep:1' fired" in terminal.ask("n")
    assert "The code returned 'cats/one, cats/two, page of x, y'." in terminal.end("continue")


def test_step_goes_into_functions_of_the_user_and_back(debug: Callable[..., Terminal]) -> None:
    terminal = debug("done")
    terminal.ask()
    terminal.ask("next")
    assert "-> name = await last_word" in terminal.ask("next")
    assert "-> page = await fetch(url)" in terminal.ask("step")
    where = terminal.ask("where")
    assert where.index("in research" if "in research" in where else "research()") < where.index("last_word()")
    assert "machine.py" not in where
    assert "-> words = page.split()" in terminal.ask("step")
    assert "-> return words[-1]" in terminal.ask("step")
    assert "--Return--" in terminal.ask("step")
    assert "-> found.append(name)" in terminal.ask("step")
    assert "research()" in terminal.ask("where")
    terminal.end("q")


def test_after_the_last_line_of_a_function_next_is_in_the_caller(debug: Callable[..., Terminal]) -> None:
    terminal = debug("done", "--break", at("return words"))
    assert "-> return words[-1]" in terminal.ask()
    for _ in range(2):
        text = terminal.ask("next")
    assert "-> found.append(name)" in text
    terminal.end("q")


def test_it_stops_after_an_event(debug: Callable[..., Terminal]) -> None:
    terminal = debug("done", "--at", "3")
    first = terminal.ask()
    assert "event 3 of 7" in first
    assert "-> words = page.split()" in first
    assert "'page of cats/two'" in terminal.ask("p page")
    assert "-> name = await last_word" in terminal.ask("up")
    assert "['cats/one']" in terminal.ask("p found")
    terminal.end("q")


def test_it_stops_at_breakpoints(debug: Callable[..., Terminal]) -> None:
    terminal = debug("done", "-b", at("found.append"))
    assert "-> found.append(name)" in terminal.ask()
    assert "event 3 of 7" in terminal.ask("continue")
    assert at("if topic ==") in terminal.ask(f"break {at('if topic ==')}")
    assert "-> if topic ==" in terminal.ask("continue")
    assert "The code returned" in terminal.end("continue")


def test_it_ends_where_the_code_failed(debug: Callable[..., Terminal]) -> None:
    terminal = debug("failed", "-b", at("raise ValueError"))
    terminal.ask()
    text = terminal.ask("continue")
    assert "The code raised ValueError: no such topic" in text
    assert '-> raise ValueError("no such topic")' in text
    assert "['unknown/one', 'unknown/two']" in terminal.ask("p found")
    terminal.end("q")


def test_it_ends_where_the_code_waits(debug: Callable[..., Terminal]) -> None:
    terminal = debug("waits", "--at", "6")
    text = terminal.ask()
    assert "-> if topic ==" in text
    text = terminal.ask("continue")
    assert "The history ends here. The code waits for" in text
    assert "task 1: " in text
    assert "-> await asyncio.gather(perdure.receive" in text
    tasks = terminal.ask("tasks")
    assert "last_word" in tasks or tasks.count("task ") >= 2
    assert "give the number of a task" in terminal.ask("task 99")
    assert "-> " in terminal.ask("task 1")
    assert "'long'" in terminal.ask("p topic")
    terminal.end("q")


def test_it_ends_where_the_code_diverges(debug: Callable[..., Terminal]) -> None:
    terminal = debug("changed", "-b", at("return first"), DEBUGGED_CHANGED="1")
    text = terminal.ask()
    assert "disagree at event 3" in text
    assert "The code stands here:" in text
    assert '-> second = await fetch("c"' in text
    assert "'page of a'" in terminal.ask("p first")
    terminal.end("q")


def test_code_is_guarded_and_the_prompt_is_not(debug: Callable[..., Terminal]) -> None:
    terminal = debug("careless", "-b", at("refused with"))
    assert '-> return f"refused with' in terminal.ask()
    assert "ForbiddenInWorkflowError" in terminal.ask("p told")
    assert "research" in terminal.ask("p open('debugged.py').read()[:3000]")
    assert "The code returned" in terminal.end("c")


def test_calls_of_an_entity_are_gone_through_from_the_first_on(debug: Callable[..., Terminal]) -> None:
    terminal = debug("debugged.Shelf/one", "-b", at("return len"))
    terminal.ask()
    assert "['page of a']" in terminal.ask("p self.state.read")
    terminal.ask("continue")
    terminal.ask("continue")
    assert "['page of a', 'page of b', 'page of c']" in terminal.ask("p self.state.read")
    assert "The code waits for the next call" in terminal.end("continue")


def test_breakpoint_in_the_code_stops_it(debug: Callable[..., Terminal]) -> None:
    terminal = debug("done", "-b", at("return first"), DEBUGGED_BREAK="1")  # which isn't met
    text = terminal.ask()
    if "-> breakpoint()" in text:  # there Python 3.13 stops, and earlier ones at the next line
        text = terminal.ask("next")
    assert "-> await asyncio.sleep(0.01)" in text
    assert "timer 'sleep:1' fired" in terminal.ask("next")
    terminal.end("q")


def test_the_session_of_the_guide_is_what_happens(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "guide" / "debugging.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python run\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (session,) = re.findall(r"^```text session\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "shop.py").write_text(program, encoding="utf-8")
    source = str(Path(perdure.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "shop.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": source}, timeout=60
    )
    assert done.returncode == 0
    command, _, _ = session.partition("\n")
    terminal = Terminal(tmp_path, *command.split()[3:])
    try:
        terminal.ask()
        typed = re.findall(r"^\(perdure\) (.*)$", session, re.MULTILINE)
        for line in typed[:-1]:
            terminal.ask(line)
        terminal.end(typed[-1])
    finally:
        terminal.close()
    shown = re.sub(r"(# event \d+ of \d+), [^:]*:\d\d:\d\d:", r"\1:", terminal.shown)
    shown = shown.replace(f"{tmp_path}{os.sep}", "")
    assert shown.strip().splitlines() == session.partition("\n")[2].strip().splitlines()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nothing",), "No run has the id 'nothing'"),
        (("done", "--at", "99"), "has 7 events: --at 99 comes after all of them"),
        (("done", "-b", "debugged.py"), "give FILE:LINE"),
        (("done", "-b", "missing.py:3"), "no file 'missing.py'"),
        (("done", "-b", "debugged.py:9999"), "can't stop at"),
    ],
)
def test_mistakes_are_told(cli: Cli, recorded: Path, arguments: tuple[str, ...], told: str) -> None:
    url = f"sqlite:///{recorded / 'runs.db'}"
    text = cli.fails("debug", *arguments, "--module", "debugged", url=url)
    assert told in " ".join(text.split())


def test_the_code_has_to_be_named(recorded: Path) -> None:
    terminal = Terminal(recorded, "done")
    try:
        text = terminal._read(lambda text: False)
        assert "--module app" in " ".join(text.split())
    finally:
        terminal.close()
