"""The engine that an application serves, as its handlers get it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request

from perdure.api.engine import Engine
from perdure.web.access import Who


def engine_here(request: Request) -> Engine:
    """The engine of this application."""
    engine: Engine = request.app.state.engine
    return engine


def who_here(request: Request) -> str:
    """The name of whoever asks, as histories keep it; "somebody" where nobody had to say."""
    who: Who | None = getattr(request.state, "who", None)
    return "somebody" if who is None else who.name


EngineHere = Annotated[Engine, Depends(engine_here)]
WhoHere = Annotated[str, Depends(who_here)]
RunIdHere = Annotated[str, Path(min_length=1, max_length=1000, description="The run's id.")]
