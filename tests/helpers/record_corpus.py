"""Runs the corpus and prints what each shape asked for, as JSON: a program of its own, for other processes.

With `--golden`, writes the op ids to tests/golden/op-ids-v1.json. An id that changes there breaks every history
that holds it, so that file only ever grows.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from helpers.anyio_shapes import ANYIO_SHAPES
from helpers.shapes import SHAPES
from helpers.simulation import simulate
from perdure.codec.events import encode_event

GOLDEN = Path(__file__).parent.parent / "golden" / "op-ids-v1.json"


def corpus(*, anyio: bool = True) -> dict[str, dict[str, Any]]:
    """By shape: its op ids in the order asked, its events, and what could be seen."""
    found = {}
    for name, shape in (SHAPES | (ANYIO_SHAPES if anyio else {})).items():
        live = simulate(shape)
        found[name] = {
            "asked": live.asked,
            "events": [encode_event(event).hex() for event in live.history],
            "sights": repr(live.sights),
            "outcome": repr(live.outcome),
        }
    return found


if __name__ == "__main__":
    logging.disable()
    padding = [object() for _ in range(hash("move the addresses") % 1000)]
    if "--golden" in sys.argv:
        ids = {name: entry["asked"] for name, entry in corpus().items()}
        GOLDEN.write_text(json.dumps(ids, indent=1) + "\n")
    else:
        print(json.dumps(corpus(anyio="--no-anyio" not in sys.argv)))
