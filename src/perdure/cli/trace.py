"""`perdure trace`: tells a run to OpenTelemetry once more, from its history."""

from __future__ import annotations

import asyncio
import importlib
from typing import Annotated

import typer

from perdure.cli.control import IdArgument
from perdure.cli.database import UrlOption, reader, unknown
from perdure.cli.output import tell
from perdure.cli.trouble import Trouble
from perdure.errors import UnknownRunError


def trace(
    id: IdArgument,
    generation: Annotated[
        int | None,
        typer.Option("--generation", min=1, help="Which run of this id; the newest.", show_default=False),
    ] = None,
    url: UrlOption = None,
) -> None:
    """Tell a run's trace once more, by the OTEL_* environment variables, under the ids that it has always had."""
    tell(asyncio.run(_trace(url, id, generation)))


async def _trace(url: str | None, id: str, generation: int | None) -> str:
    try:
        traces = importlib.import_module("perdure.integrations.opentelemetry")
    except ImportError as error:
        raise Trouble(str(error)) from error
    async with reader(url) as engine:
        try:
            told = await traces.tell(engine, id, generation=generation)
        except UnknownRunError as error:
            if generation is not None:
                raise Trouble(str(error)) from None
            raise await unknown(engine, error) from None
    if told is None:
        return f"Run {id} isn't told: the sampler leaves its trace out, or it is a step that another run has sent."
    return f"Told {told.spans} spans of run {id}, in trace {told.trace}."
