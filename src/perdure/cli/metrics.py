"""How workers and servers tell their metrics: at a port of its own, for Prometheus, or by OpenTelemetry."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Annotated, Final

import typer

from perdure.api.engine import Engine
from perdure.api.metrics import Metrics
from perdure.cli.trouble import Trouble
from perdure.errors import EngineClosedError
from perdure.runtime.sideport import Answer, Port

PATH: Final = "/metrics"

MetricsPortOption = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        metavar="PORT",
        min=0,
        max=65535,
        envvar="PERDURE_METRICS_PORT",
        help=f"Answer {PATH} there, for Prometheus; 9464 is usual.",
        show_default=False,
    ),
]
MetricsHostOption = Annotated[
    str,
    typer.Option(
        "--metrics-host",
        metavar="HOST",
        envvar="PERDURE_METRICS_HOST",
        help="Where that is; 0.0.0.0 to be asked from outside a container.",
    ),
]
MetricsDatabaseOption = Annotated[
    bool,
    typer.Option(
        "--metrics-database",
        help="Tell the numbers of the whole database there, too; `perdure serve` does so anyway.",
    ),
]

OtelOption = Annotated[
    bool,
    typer.Option(
        "--otel", envvar="PERDURE_OTEL", help="Tell traces and metrics, by the OTEL_* environment variables."
    ),
]


def telemetry(engine: Engine, at: int | None, on: str, *, database: bool, otel: bool) -> list[Port]:
    """Trace and count what an engine does that isn't entered yet, as far as somebody wants to know.

    Args:
        at, on: port and host where Prometheus asks; None = it doesn't.
        database: tell the numbers of the whole database, too.
        otel: tell by OpenTelemetry, too.

    Returns:
        What is answered to Prometheus.

    Raises:
        Trouble: a package that this takes isn't installed.
    """
    if at is None and not otel:
        return []
    metrics = Metrics(database=database)
    if otel:
        tell_by_otel(metrics)
    metrics.install()
    return [] if at is None else [metrics_port(on, at, metrics, engine)]


def tell_by_otel(metrics: Metrics) -> None:
    """Trace the engines that are entered from now on, and tell these metrics by OpenTelemetry, too.

    Raises:
        Trouble: a package that this takes isn't installed.
    """
    try:
        importlib.import_module("perdure.integrations.opentelemetry").instrument()
        importlib.import_module("perdure.integrations.opentelemetry.metrics").export_metrics(metrics)
    except ImportError as error:
        raise Trouble(f"--otel: {error}") from error


def metrics_port(host: str, port: int, metrics: Metrics, engine: Engine) -> Port:
    """What is answered to Prometheus.

    Raises:
        Trouble: the package that writes its formats isn't installed.
    """
    if importlib.util.find_spec("prometheus_client") is None:
        raise Trouble("Metrics need a package that isn't installed: pip install 'perdure[metrics]'")

    async def told(accept: str) -> Answer:
        try:
            content_type, text = await metrics.text(engine, accept)
        except EngineClosedError:  # it is starting or stopping
            content_type, text = await metrics.text(None, accept)
        return Answer(text, content_type=content_type)

    return Port(host, port, {}, {PATH: told})
