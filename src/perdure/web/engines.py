"""The engine that an application serves, as its handlers get it."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Path, Request

from perdure.api.engine import Engine
from perdure.errors import NamespaceError
from perdure.web.access import Who


async def engine_here(request: Request) -> Engine:
    """The engine of this application, as whoever asks may see it. Nothing that a request says can widen that."""
    engine: Engine = request.app.state.engine
    who: Who | None = getattr(request.state, "who", None)
    return engine_within(engine, None if who is None else who.namespace)


async def engine_of_all(request: Request) -> Engine:
    """The engine of this application, for what concerns the whole database.

    Raises:
        NamespaceError: whoever asks sees a namespace of it.
    """
    who: Who | None = getattr(request.state, "who", None)
    if who is not None and who.namespace is not None:
        msg = f"this concerns the whole database, and {who.name} sees one namespace of it"
        raise NamespaceError(msg)
    engine: Engine = request.app.state.engine
    return engine


async def engine_served(request: Request) -> Engine:
    """The engine of this application, to be asked how it is."""
    engine: Engine = request.app.state.engine
    return engine


def engine_within(engine: Engine, namespace: str | None) -> Engine:
    """An engine, or one of its namespaces, which has the same verbs."""
    return engine if namespace is None else cast("Engine", engine.namespace(namespace))


def who_here(request: Request) -> str:
    """The name of whoever asks, as histories keep it; "somebody" where nobody had to say."""
    who: Who | None = getattr(request.state, "who", None)
    return "somebody" if who is None else who.name


EngineOfAll = Annotated[Engine, Depends(engine_of_all)]
EngineServed = Annotated[Engine, Depends(engine_served)]
EngineHere = Annotated[Engine, Depends(engine_here)]
WhoHere = Annotated[str, Depends(who_here)]
RunIdHere = Annotated[str, Path(min_length=1, max_length=1000, description="The run's id.")]
