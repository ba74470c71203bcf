"""Goes through files and folders, and leaves out what a `# noqa` comment lets pass."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from perdure.cli.linting.checks import Finding, check

_NOQA = re.compile(r"#\s*noqa(?P<codes>:\s*[A-Z]+[0-9]+(?:[,\s]+[A-Z]+[0-9]+)*)?", re.IGNORECASE)
_SKIPPED = frozenset({"__pycache__", "node_modules", "build", "dist", "site-packages", "venv"})


@dataclass(frozen=True)
class Report:
    """What was found in one file.

    Attributes:
        problem: why it can't be looked at, None if it could.
    """

    path: Path
    findings: list[Finding]
    problem: str | None = None
    line: int = 1
    column: int = 1


def python_files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files, and those in the folders, each once; without hidden folders and those of environments."""
    seen: set[Path] = set()
    for path in paths:
        for found in sorted(_below(path)) if path.is_dir() else [path]:
            if found not in seen:
                seen.add(found)
                yield found


def _below(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.is_dir():
            hidden = entry.name.startswith(".") or entry.name in _SKIPPED or (entry / "pyvenv.cfg").exists()
            if not hidden:
                yield from _below(entry)
        elif entry.suffix == ".py":
            yield entry


def lint_file(path: Path) -> Report:
    """What is wrong in a file."""
    try:
        source = path.read_bytes()
    except OSError as error:
        return Report(path, [], f"can't be read: {error.strerror}")
    return lint(source, path)


def lint(source: bytes | str, path: Path = Path("<string>")) -> Report:
    """What is wrong in a module."""
    try:
        tree = ast.parse(source, filename=str(path))
    except (SyntaxError, ValueError) as error:
        line, column = getattr(error, "lineno", 1) or 1, getattr(error, "offset", 1) or 1
        return Report(path, [], f"can't be parsed: {getattr(error, 'msg', error)}", line, column)
    findings = check(tree)
    if findings:
        passes = _noqa(source)
        findings = [
            found
            for found in findings
            if not any(found.code in passes.get(line, ()) for line in _lines(found))
        ]
    return Report(path, findings)


def _lines(found: Finding) -> tuple[int, int]:
    return found.line, found.end


class _Every:
    def __contains__(self, code: object) -> bool:
        return True


def _noqa(source: bytes | str) -> dict[int, frozenset[str] | _Every]:
    """By line, the codes that pass there."""
    data = source.encode() if isinstance(source, str) else source
    passes: dict[int, frozenset[str] | _Every] = {}
    for token in tokenize.tokenize(io.BytesIO(data).readline):
        if token.type == tokenize.COMMENT and (match := _NOQA.search(token.string)) is not None:
            codes = match["codes"]
            passes[token.start[0]] = (
                _Every() if codes is None else frozenset(re.findall(r"[A-Z]+[0-9]+", codes.upper()))
            )
    return passes
