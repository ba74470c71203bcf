"""What a command can't do, as one readable message and an exit code.

Whatever a user can get wrong ends here, and never in a traceback: 1 means that the run has no result, 2 that
the command couldn't be carried out, 130 that it was interrupted. An error that isn't known here is a defect
of Perdure's, and keeps its traceback.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Generator, Iterable

import typer

from perdure.cli.output import complain
from perdure.errors import PerdureError

RUN_FAILED = 1
USAGE = 2


class Trouble(Exception):
    """A command that can't go on.

    Args:
        message: what happened, why, and what to do next.
        code: the exit code.
    """

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code


@contextlib.contextmanager
def reported() -> Generator[None, None, None]:
    """Turn trouble in the block into a message and an exit."""
    try:
        yield
    except Trouble as trouble:
        complain(str(trouble))
        raise typer.Exit(trouble.code) from None
    except PerdureError as error:
        complain(str(error))
        raise typer.Exit(USAGE) from None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence with the nearest of the known words, empty if none is near."""
    every = list(dict.fromkeys(known))
    near = difflib.get_close_matches(word, every, n=3, cutoff=0.5)
    near += [other for other in every if other not in near and word and other.startswith(word)][
        : 3 - len(near)
    ]
    return f" Did you mean {' or '.join(near)}?" if near else ""
