"""Steps in processes, in programs as users write them: scripts, modules, notebooks; and programs that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

PATIENCE = 60.0

SCRIPT = """
    import os, re, subprocess, sys, time
    from dataclasses import dataclass
    from pathlib import Path
    import perdure

    class Declined(Exception):
        pass

    @dataclass
    class Point:
        x: int

    @perdure.step(process=True)
    def moved(point: Point) -> Point:
        assert __name__ != "__main__" and isinstance(point, Point)
        return Point(point.x + 1)

    @perdure.step(process=True)
    def declines() -> None:
        raise Declined("no")

    @perdure.step(process=True)
    def hangs(how: str) -> str:
        with Path("bodies").open("a") as file:
            file.write("hangs\\n")
        if Path("go").exists():
            return "done"
        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
        Path("pids.new").write_text(f"{os.getpid()} {child.pid}")
        Path("pids.new").replace("pids")
        if how == "native":
            re.match(r"(a+)+$", "a" * 60 + "b")  # holds the interpreter for ages
        while True:
            time.sleep(0.01)

    @perdure.workflow
    async def works(how: str) -> list:
        point = await moved(Point(1))
        try:
            await declines()
        except Declined as error:
            refused = repr(error)
        return [point.x, refused, await hangs(how) if how else ""]
"""
MAIN = """
    if __name__ == "__main__":
        print(perdure.run(works(sys.argv[1]), url="sqlite:///runs.db", id="a"))
"""


def start(folder: Path, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(folder: Path, *command: str) -> tuple[int, str, str]:
    process = start(folder, *command)
    out, told = process.communicate(timeout=PATIENCE)
    return process.returncode, out, told


def write(folder: Path, name: str, *parts: str) -> None:
    (folder / name).write_text("".join(dedent(part) for part in parts))


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Programs that a test has started and perhaps not ended."""
    programs: list[subprocess.Popen[str]] = []
    yield programs
    for program in programs:
        program.kill()
        program.communicate()


def test_a_script_s_own_steps_work(tmp_path: Path) -> None:
    write(tmp_path, "app.py", SCRIPT, MAIN)
    assert outcome(tmp_path, "app.py", "") == (0, "[2, \"Declined('no')\", '']\n", "")
    assert [path.name for path in tmp_path.glob("__pycache__/*")] == []


def test_a_package_s_own_steps_work(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    write(tmp_path, "shop/__init__.py", "")
    write(tmp_path, "shop/names.py", "NAME = 'shop'")
    write(tmp_path, "shop/__main__.py", SCRIPT, "\nfrom .names import NAME\n", MAIN)
    assert outcome(tmp_path, "-m", "shop", "") == (0, "[2, \"Declined('no')\", '']\n", "")
    write(tmp_path, "shop/app.py", SCRIPT, "\nfrom .names import NAME\n", MAIN)
    (tmp_path / "runs.db").unlink()
    assert outcome(tmp_path, "-m", "shop.app", "") == (0, "[2, \"Declined('no')\", '']\n", "")


def test_a_script_that_does_its_work_when_it_is_imported_is_told_so(tmp_path: Path) -> None:
    write(tmp_path, "app.py", SCRIPT, 'print(perdure.run(works(""), url="sqlite:///runs.db", id="a"))\n')
    code, out, told = outcome(tmp_path, "app.py")
    assert code == 1
    assert not out
    assert 'Put what the script does under `if __name__ == "__main__":`' in told
    assert "process=True, but its process can't find it in the program's script" in told


def test_a_step_without_a_file_is_refused_where_it_is_made(tmp_path: Path) -> None:
    code, _, told = outcome(
        tmp_path, "-c", "import perdure\n@perdure.step(process=True)\ndef works() -> None: ...\n"
    )
    assert code == 1
    assert "ConfigurationError: @step(process=True) can't take works" in told
    assert "in a notebook or a shell" in told


@pytest.mark.parametrize("how", ["native", "python"])
def test_processes_die_with_their_engine_and_the_run_goes_on(
    tmp_path: Path, how: str, started: list[subprocess.Popen[str]]
) -> None:
    write(tmp_path, "app.py", SCRIPT, MAIN)
    program = start(tmp_path, "app.py", how)
    started.append(program)
    until((tmp_path / "pids").exists)
    pids = list(map(int, (tmp_path / "pids").read_text().split()))
    assert all(map(alive, pids))
    program.send_signal(signal.SIGKILL)
    until(lambda: not any(map(alive, pids)))
    (tmp_path / "go").touch()
    code, out, told = outcome(tmp_path, "app.py", how)
    assert (code, out) == (0, "[2, \"Declined('no')\", 'done']\n"), told
    assert (tmp_path / "bodies").read_text().split() == ["hangs", "hangs"]


def test_processes_die_with_their_engine_even_if_a_fork_of_it_lives(
    tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    fork = """
        @perdure.step
        def forks() -> None:
            while not Path("pids").exists():
                time.sleep(0.01)
            child = os.fork()
            if child == 0:  # it has copies of all that the engine has open
                time.sleep(60)
                os._exit(0)
            Path("forked.new").write_text(str(child))
            Path("forked.new").replace("forked")

        @perdure.workflow
        async def both() -> None:
            import asyncio
            await asyncio.gather(hangs("python"), forks())

        if __name__ == "__main__":
            perdure.run(both(), url="sqlite:///runs.db")
    """
    write(tmp_path, "app.py", SCRIPT, fork)
    program = start(tmp_path, "-W", "ignore", "app.py")
    started.append(program)
    until((tmp_path / "forked").exists)
    forked = int((tmp_path / "forked").read_text())
    pids = list(map(int, (tmp_path / "pids").read_text().split()))
    program.send_signal(signal.SIGKILL)
    until(lambda: not any(map(alive, pids)))
    assert alive(forked)
    os.kill(forked, signal.SIGKILL)


def test_a_module_that_is_never_imported_is_a_time_out(tmp_path: Path) -> None:
    write(
        tmp_path,
        "slow.py",
        """
        import sys, time, perdure

        if "perdure.runtime.stepprocess" in sys.modules:
            time.sleep(60)

        @perdure.step(process=True, timeout=0.1, retry=perdure.Retry(max_attempts=1))
        def works() -> None: ...

        @perdure.workflow
        async def main() -> str:
            try:
                await works()
            except TimeoutError as error:
                return str(error)
            return ""
        """,
    )
    write(
        tmp_path,
        "app.py",
        """
        import perdure, slow
        import perdure.runtime.processes

        perdure.runtime.processes.IMPORT_WITHIN = 0.5
        print(perdure.run(slow.main(), url="memory:"))
        """,
    )
    expected = "the process for step slow.works didn't import slow within 0.5 s\n"
    assert outcome(tmp_path, "app.py") == (0, expected, "")


def test_ctrl_c_ends_the_program_and_its_processes_quietly(
    tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    main = """
        async def main():
            async with perdure.Engine("sqlite:///runs.db", grace=0.1) as engine:
                await engine.run(works("python"), id="a")

        if __name__ == "__main__":
            import asyncio
            try:
                asyncio.run(main())
            except KeyboardInterrupt:
                print("bye")
    """
    write(tmp_path, "app.py", SCRIPT, main)
    program = start(tmp_path, "app.py")
    started.append(program)
    until((tmp_path / "pids").exists)
    pids = list(map(int, (tmp_path / "pids").read_text().split()))
    os.kill(pids[0], signal.SIGINT)  # a terminal sends it to both
    os.kill(pids[0], signal.SIGTERM)
    program.send_signal(signal.SIGINT)
    out, told = program.communicate(timeout=PATIENCE)
    assert (program.returncode, out, told) == (0, "bye\n", "")
    until(lambda: not any(map(alive, pids)))


def test_a_worker_of_the_command_line_finds_steps_of_its_module(
    tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    pytest.importorskip("typer")
    write(tmp_path, "app.py", SCRIPT)
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    worker = start(
        tmp_path,
        "-c",
        "from perdure.cli import main; main()",
        "worker",
        "app",
        "--processes",
        "1",
        "--url",
        url,
    )
    started.append(worker)
    client = """
        import asyncio, perdure, app

        async def main():
            async with perdure.Engine("sqlite:///runs.db", worker=False) as engine:
                print(await engine.run(app.works("")))

        asyncio.run(main())
    """
    write(tmp_path, "client.py", client)
    assert outcome(tmp_path, "client.py") == (0, "[2, \"Declined('no')\", '']\n", "")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=PATIENCE) == 0
