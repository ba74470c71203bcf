"""The `perdure` command: run workflows, serve them, and look at what they are doing.

Needs the extra `perdure[cli]`. Each command is a file of its own; `app.py` puts them together.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

__all__ = ["main"]


def main() -> None:
    """The console script."""
    missing = [name for name in ("typer", "rich") if find_spec(name) is None]
    if missing:
        sys.stderr.write(f"The perdure command needs {' and '.join(missing)}: pip install 'perdure[cli]'\n")
        sys.exit(2)
    try:
        from perdure.cli.app import app

        app()
    except KeyboardInterrupt:  # before a command has begun to listen for it
        sys.exit(130)
