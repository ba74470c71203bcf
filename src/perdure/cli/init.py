"""`perdure init`: a new project that runs at once."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from perdure.cli.output import tell
from perdure.cli.trouble import Trouble

#: Where each template goes.
_FILES = {
    "app.py.txt": "app.py",
    "test_app.py.txt": "tests/test_app.py",
    "pyproject.toml.txt": "pyproject.toml",
    "README.md.txt": "README.md",
    "gitignore.txt": ".gitignore",
    "Dockerfile.txt": "Dockerfile",
    "docker-compose.yml.txt": "docker-compose.yml",
    "worker.service.txt": "{name}.service",
}


def init(
    folder: Annotated[
        Path, typer.Argument(help="Where the project goes; its name is the folder's.", show_default=False)
    ] = Path(),
) -> None:
    """Make a new project: a workflow, its tests, a container, a systemd unit. Nothing that is there is overwritten."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "app"
    targets = {template: folder / target.format(name=name) for template, target in _FILES.items()}
    there = [str(target) for target in targets.values() if target.exists()]
    if there:
        raise Trouble(
            f"{', '.join(there)}: there already, so nothing is made. Give a new folder: perdure init my-project"
        )
    templates = files("perdure.cli") / "project"
    for template, target in targets.items():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            text = (templates / template).read_text(encoding="utf-8")
            target.write_text(text.replace("__NAME__", name), encoding="utf-8")
        except OSError as error:
            raise Trouble(f"{target} can't be written: {error}") from error
    here = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    tell(f"{name} is there. Look around: {here}perdure dev app")
