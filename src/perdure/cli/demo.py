"""`perdure demo`: examples/research_agent.py, which is shipped with the package, run as it stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import typer

from perdure.cli.trouble import Trouble

_HERE = Path(__file__).parent
#: In an installed package, and in a checkout of the repository.
_PLACES = (_HERE / "research_agent.py", _HERE.parents[2] / "examples" / "research_agent.py")


def demo() -> None:
    """Watch an agent being killed half way, and go on. Writes into ./.demo only."""
    script = next((place for place in _PLACES if place.exists()), None)
    if script is None:
        raise Trouble(f"The demo isn't where it should be, at {_PLACES[0]}: reinstall perdure[cli].")
    raise typer.Exit(subprocess.call([sys.executable, str(script)]))  # noqa: S603 - our own script
