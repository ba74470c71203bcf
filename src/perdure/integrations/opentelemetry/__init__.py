"""Traces of runs by OpenTelemetry: one trace a run, across workers, restarts and replays.

    from perdure.integrations import opentelemetry

    opentelemetry.instrument()                  # all engines of the process, by the OTEL_* environment variables

    async with perdure.Engine(url, telemetry=opentelemetry.Tracing(provider)) as engine: ...   # or one engine

Spans are told when what they tell is recorded, under ids that are made of the run's history. So a replay tells nothing,
and whoever tells a span, tells it under the same id.
"""

from __future__ import annotations

try:
    import opentelemetry.sdk.trace as _sdk
except ImportError as error:
    msg = "perdure.integrations.opentelemetry needs OpenTelemetry: pip install 'perdure[otel]'"
    raise ImportError(msg) from error

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec

from perdure.api.engine import Engine
from perdure.api.namespacing import Namespace
from perdure.integrations.opentelemetry.setup import provider_here
from perdure.integrations.opentelemetry.spans import Teller
from perdure.integrations.opentelemetry.tracing import Tracer
from perdure.runtime.liveness import worker_name
from perdure.runtime.observing import Observer, Watched, install, uninstall

__all__ = ["ToldTrace", "Tracing", "instrument", "tell", "uninstrument"]

#: Seconds before a run's last event from which on is told again what a dead process has recorded.
TELL_AGAIN = 10.0


class Tracing:
    """Tells the runs of engines as traces: `Engine(telemetry=Tracing())`.

    Args:
        provider: a tracer provider of OpenTelemetry's SDK. By default the process's; if it has none, one is
            made by the OTEL_* environment variables.
        tell_again: after a worker has died, nobody knows which spans it had exported. Whoever takes over tells those
            again, under the same ids, that ended so many seconds or less before the run's last event. Make it longer
            than your span processor keeps spans back; 0 tells those of the very last append alone.

    Raises:
        ConfigurationError: (when an engine is entered) the provider isn't the SDK's.

    Example:
        >>> engine = Engine("sqlite:///agents.db", telemetry=Tracing(provider))  # doctest: +SKIP
    """

    def __init__(
        self, provider: _sdk.TracerProvider | None = None, *, tell_again: float = TELL_AGAIN
    ) -> None:
        self.provider = provider
        self.tell_again = tell_again
        self._teller: Teller | None = None

    def teller(self) -> Teller:
        """What tells spans to the provider; made when it is first needed."""
        if self._teller is None:
            provider: Any = self.provider or provider_here()
            self._teller = Teller(provider)
        return self._teller

    def watch(self, engine: Watched) -> Observer | None:
        """For engines: what observes one."""
        teller = self.teller()
        return None if teller.disabled else Tracer(engine, teller, self.tell_again)


_everywhere: Tracing | None = None


def instrument(provider: _sdk.TracerProvider | None = None, *, tell_again: float = TELL_AGAIN) -> Tracing:
    """Tell the runs of all engines that are entered from now on in this process. Doing it twice changes nothing.

    Args:
        provider, tell_again: as for `Tracing`.

    Example:
        >>> instrument()  # doctest: +SKIP
    """
    global _everywhere
    if _everywhere is None:
        _everywhere = Tracing(provider, tell_again=tell_again)
        install(_everywhere)
    return _everywhere


def uninstrument() -> None:
    """Tell nothing of engines that are entered from now on."""
    global _everywhere
    if _everywhere is not None:
        uninstall(_everywhere)
        _everywhere = None


@dataclass(frozen=True, slots=True)
class ToldTrace:
    """What `tell` has told.

    Attributes:
        trace: the trace's id, as 32 hexadecimal digits.
        spans: how many.
    """

    trace: str
    spans: int


async def tell(
    engine: Engine | Namespace,
    id: str,
    *,
    generation: int | None = None,
    provider: _sdk.TracerProvider | None = None,
) -> ToldTrace | None:
    """Tell a run once more from its history: all of its spans so far, under the ids that they have always had.

    For what was lost on its way: the exporter was down, a worker died just after a run had ended. It tells runs that
    ended before there was telemetry, too.

    Args:
        generation: which of the runs of this id, counted from 1; by default the newest.
        provider: as for `Tracing`.

    Returns:
        None if the run isn't told: the sampler or OTEL_SDK_DISABLED says so, or it is a step that another run has sent.

    Raises:
        UnknownRunError: no run has this id, or this generation.

    Example:
        >>> await tell(engine, "r-1")  # doctest: +SKIP
        ToldTrace(trace='0af7651916cd43dd8448eb211c80319c', spans=4)
    """
    connection = engine._open()
    row = await connection.generation(id, generation)
    row = msgspec.structs.replace(row, id=connection.within + row.id)  # by which its worker knows it
    settings = engine._settings
    watched = Watched(
        store=connection.store,
        loop=asyncio.get_running_loop(),
        clock=settings.clock,
        name=worker_name(settings.name),
        version=settings.version,
        queues=settings.queues,
        drives=False,
        load=lambda: (0, 0),
    )
    teller = Teller(provider) if provider is not None else (_everywhere or Tracing()).teller()
    if teller.disabled:
        return None
    tracer = Tracer(watched, teller, 0.0)
    told = await tracer.tell_again(row)
    await tracer.close()
    return None if told is None else ToldTrace(f"{told[1]:032x}", told[0])
