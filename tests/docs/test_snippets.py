"""What the documents say is true: every snippet runs or compiles, every link leads somewhere."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from helpers.zygote import Zygote, uses_a_framework

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "guide").glob("*.md")),
]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

SOAK = os.environ.get("PERDURE_SOAK") == "1"

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


class Snippet(NamedTuple):
    """A block of Python, with the output that follows it, if the page shows one."""

    name: str
    code: str
    run: bool
    output: str | None


def snippets() -> list[Snippet]:
    found: list[Snippet] = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            kind, code = match.groups()
            if kind.split()[:1] == ["python"]:
                line = text.count("\n", 0, match.start()) + 1
                found.append(Snippet(f"{page.name}:{line}", code, kind == "python run", None))
            elif kind == "text output":
                found[-1] = found[-1]._replace(output=code)
    return found


SNIPPETS = snippets()


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    process = Zygote()
    yield process
    process.close()


def ended(script: Path, folder: Path, zygote: Zygote) -> tuple[int, str, str]:
    """A program's exit code, output and errors. In a soak it imports everything itself, as it does for its reader."""
    if not SOAK and not uses_a_framework(script):
        found = zygote.run(script, folder, temporary=True)
        return found["code"], found["stdout"], found["stderr"]
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("snippet", SNIPPETS, ids=[snippet.name for snippet in SNIPPETS])
def test_a_snippet_works(snippet: Snippet, tmp_path: Path, zygote: Zygote) -> None:
    if not snippet.run:
        compile(snippet.code, snippet.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        return
    script = tmp_path / "snippet.py"
    script.write_text(snippet.code, encoding="utf-8")
    code, output, errors = ended(script, tmp_path, zygote)
    assert code == 0, errors
    told = re.sub(r"^worker \S+ is dead; 1 runs go on elsewhere\n", "", errors, flags=re.MULTILINE)
    assert not told, told  # but for what a snippet about deaths makes the engine say
    if snippet.output is not None:
        assert output == snippet.output


def test_the_readme_shows_the_example_as_it_is() -> None:
    (example,) = [snippet for snippet in SNIPPETS if snippet.name.startswith("README.md")]
    assert example.code == (ROOT / "examples" / "hello.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(page.relative_to(ROOT)) for page in DOCUMENTS])
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in _LINK.findall(document.read_text(encoding="utf-8")):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = document.parent / path if path else document
            assert target.exists(), f"{link} leads nowhere"
            assert not anchor or anchor in headings(target), f"{link}: there is no such heading"


def headings(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(page.relative_to(ROOT)) for page in DOCUMENTS])
def test_every_file_that_is_named_exists(document: Path) -> None:
    """Source files and tests in backquotes, from the repository's root or the package's."""
    text = document.read_text(encoding="utf-8")
    for name in re.findall(
        r"`((?:src|tests|docs|examples|benchmarks|core|codec|storage|runtime)/[\w./-]+)`", text
    ):
        assert (ROOT / name).exists() or (ROOT / "src" / "perdure" / name).exists(), f"{name} doesn't exist"


def test_every_command_exists() -> None:
    pytest.importorskip("typer")
    from perdure.cli.app import COMMANDS

    shell = [code for page in PAGES for kind, code in _FENCE.findall(page.read_text("utf-8")) if kind == "sh"]
    used = {word for code in shell for word in re.findall(r"^perdure (\w+)", code, re.MULTILINE)}
    assert used
    assert used <= set(COMMANDS)
