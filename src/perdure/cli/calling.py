"""`perdure query` and `perdure update`: the handlers of a run, called from a shell.

This process has no code of the workflow's: a worker answers. So the values are the plain JSON of theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
import typer

from perdure.api.engine import Engine
from perdure.cli.database import UrlOption, reader, unknown
from perdure.cli.inputs import Raws, parse
from perdure.cli.output import one_line, print_json
from perdure.cli.trouble import RUN_FAILED, Trouble
from perdure.codec.foreign import encode_json
from perdure.errors import HandlerFailed, PerdureError, UnknownRunError, UpdateRejected

RunArgument = Annotated[str, typer.Argument(help="The run's id.")]
NameArgument = Annotated[str, typer.Argument(help="The handler's name.")]
ArgsArgument = Annotated[
    str | None,
    typer.Argument(
        help="JSON: an array of the arguments, an object of them by name, or the one argument.",
        show_default=False,
    ),
]


def query(run: RunArgument, name: NameArgument, args: ArgsArgument = None, url: UrlOption = None) -> None:
    """Ask a run something. It changes nothing; a worker that has the code answers."""
    given, named = _given(args)
    asyncio.run(_print(url, lambda engine: engine.get(run).query(name, *given, **named)))


def update(
    run: RunArgument,
    name: NameArgument,
    args: ArgsArgument = None,
    key: Annotated[
        str | None,
        typer.Option("--key", help="Makes a repeat recognisable: it happens once.", show_default=False),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", help="Seconds to wait for the answer.", show_default=False)
    ] = None,
    url: UrlOption = None,
) -> None:
    """Change a run by one of its update handlers, and print its answer."""
    given, named = _given(args)
    if taken := sorted({"key", "timeout"} & named.keys()):
        raise Trouble(f"Arguments named {' and '.join(taken)} can't be given by name here: use a JSON array.")
    asyncio.run(
        _print(url, lambda engine: engine.get(run).update(name, *given, key=key, timeout=timeout, **named))
    )


def _given(text: str | None) -> Raws:
    return ([], {}) if text is None else parse(text, "The arguments")


async def _print(url: str | None, call: Callable[[Engine], Awaitable[Any]]) -> None:
    async with reader(url) as engine:
        print_json(msgspec.json.decode(encode_json(await _answer(engine, call(engine)))))


async def _answer(engine: Engine, call: Awaitable[Any]) -> Any:
    try:
        return await call
    except UnknownRunError as error:
        raise await unknown(engine, error) from None
    except UpdateRejected as error:
        raise Trouble(f"Rejected: {error}", RUN_FAILED) from None
    except HandlerFailed as error:
        raise Trouble(str(error), RUN_FAILED) from None
    except (PerdureError, TimeoutError) as error:
        raise Trouble(str(error)) from None
    except Exception as error:  # noqa: BLE001 - what a handler raises can be anything
        raise Trouble(
            f"The handler raised {type(error).__name__}: {one_line(str(error), None)}", RUN_FAILED
        ) from None
