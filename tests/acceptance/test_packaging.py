"""What users install: the wheel holds what it should, needs what it says, and each extra works alone.

The first tests build once and install into empty environments, from PyPI. With PERDURE_SOAK=1 each extra gets one, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOAK = os.environ.get("PERDURE_SOAK") == "1"

pytestmark = pytest.mark.acceptance

#: What each extra is for: modules that can be imported with it and nothing else.
EXTRAS = {
    "cli": ["perdure.cli.app", "perdure.cli.verify", "perdure.cli.lint"],
    "schedules": ["cronsim", "perdure.runtime.slots"],
    "crypto": ["cryptography.hazmat.primitives.ciphers.aead", "zstandard"],
    "postgres": ["perdure.storage.postgres", "perdure.storage.postgres.auditor"],
    "ai": ["perdure.ai", "perdure.ai.http", "perdure.ai.calls", "genai_prices"],
    "pydantic-ai": ["perdure.integrations.pydantic_ai"],
    "langgraph": ["perdure.integrations.langgraph"],
    "openai-agents": ["perdure.integrations.openai_agents"],
    "mcp": ["perdure.integrations.mcp"],
    "server": ["perdure.web", "perdure.web.app", "perdure.web.client", "perdure.web.dashboard"],
    "uvloop": ["uvloop"],
    "metrics": ["prometheus_client", "perdure.api.metricstext"],
    "archive": ["pyarrow.parquet", "perdure.storage.archives"],
    "blobs": ["fsspec", "perdure.storage.blobs.places"],
    "otel": ["perdure.integrations.opentelemetry", "opentelemetry.exporter.otlp.proto.http.trace_exporter"],
    "bench": ["matplotlib"],
    "docs": ["mkdocs", "mkdocstrings"],
}

#: Runs a workflow on a file: the core, with nothing else installed.
PROGRAM = """
import asyncio
import sys

import perdure

@perdure.step
async def double(number: int) -> int:
    return 2 * number

@perdure.workflow
async def sums(numbers: list[int]) -> int:
    return sum(await asyncio.gather(*(double(number) for number in numbers)))

print(perdure.run(sums([1, 2, 3]), url="sqlite:///core.db", id="r"))
print(perdure.run(sums([1, 2, 3]), url="sqlite:///core.db", id="r"))
"""

#: Modules that `import perdure` may not bring, since importing them takes long and few need them.
_SLOW = """
    apsw cryptography cronsim email fastapi greenlet http httpx importlib.metadata multiprocessing nicegui psycopg
    pydantic rich sqlite3 tomllib typer unittest uvicorn xml zipfile
"""
SLOW = set(_SLOW.split())
#: Modules in all that it may bring, Python's own included: about 390 at the moment.
MODULES = 440


def run(*command: str | Path, cwd: Path | None = None, expect: int = 0) -> str:
    """What a command says. Nothing of this environment reaches it."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PERDURE"))
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**environment, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == expect, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel, which is built from the sdist, and that."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def environment(folder: Path, what: str) -> Path:
    """The interpreter of a new environment with something in it: in a soak as users install it, else in less time."""
    python = folder / "bin" / "python"
    if SOAK:
        run(sys.executable, "-m", "venv", folder)
        run(python, "-m", "pip", "install", "-q", what)
    else:
        run(sys.executable, "-m", "venv", "--without-pip", folder)
        run(sys.executable, ROOT / "requirements" / "install.py", "--into", python, what)
    return python


@pytest.fixture(scope="module")
def core(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("core") / "env", str(built[0]))


def test_the_wheel_holds_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    source = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert source <= names
    assert "perdure/py.typed" in names
    assert {name for name in names if ".dist-info/" not in name} - source == {"perdure/cli/research_agent.py"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    needed = [
        line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line
    ]
    assert sorted(line.split()[1].partition(">")[0] for line in needed) == ["apsw", "msgspec"]


def test_the_sdist_holds_what_tests_and_builds_need(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "tests/conftest.py"):
        assert name in names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", ".git/"))]


def test_the_core_needs_msgspec_and_apsw_only_and_works(core: Path, tmp_path: Path) -> None:
    listed = json.loads(run(sys.executable, "-m", "pip", "--python", core, "list", "--format", "json"))
    assert {entry["name"].lower() for entry in listed} - {"pip", "setuptools", "wheel"} == {
        "apsw",
        "msgspec",
        "perdure",
    }
    (tmp_path / "program.py").write_text(PROGRAM)
    assert run(core, "program.py", cwd=tmp_path) == "12\n12\n"
    missing = run(core.parent / "perdure", "ls", expect=2)
    assert "pip install 'perdure[cli]'" in missing


def test_importing_brings_nothing_slow(core: Path) -> None:
    script = (
        "import sys; before = set(sys.modules); import perdure; print(*sorted(set(sys.modules) - before))"
    )
    brought = run(core, "-I", "-c", script).split()
    assert len(brought) <= MODULES
    assert not SLOW & set(brought)


def test_what_is_missing_is_told_by_its_extra(core: Path) -> None:
    for url, extra in (("postgresql://localhost/x", "postgres"),):
        script = f"import perdure; perdure.Engine({url!r})._store"
        assert f"perdure[{extra}]" in run(core, "-I", "-W", "ignore", "-c", script, expect=1)


def test_every_extra_is_tried() -> None:
    import tomllib

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS) == set(declared) - {"dev"}


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_works_alone(built: tuple[Path, Path], tmp_path: Path, extra: str) -> None:
    if not SOAK and extra != "cli":
        pytest.skip("each extra gets an environment of its own in a soak only")
    python = environment(tmp_path / "env", f"{built[0]}[{extra}]")
    for module in EXTRAS[extra]:
        run(python, "-I", "-c", f"import {module}")
    run(sys.executable, "-m", "pip", "--python", python, "check")
