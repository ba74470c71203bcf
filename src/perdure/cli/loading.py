"""From `module:workflow` on a command line to the workflow, or to a message that helps to find it."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import traceback
from types import ModuleType
from typing import Any, cast

from perdure.api.durable import Step, Workflow
from perdure.cli.output import one_line
from perdure.cli.trouble import Trouble, did_you_mean


def load_workflow(target: str) -> Workflow[..., Any]:
    """The workflow that `module:name` means.

    Raises:
        Trouble: the module or the workflow isn't there, or isn't what it should be.
    """
    module_name, colon, name = target.partition(":")
    if not module_name or (colon and not name):
        raise Trouble(
            f"{target!r} doesn't name a workflow: write it as module:workflow, such as app:research."
        )
    module = load_module(module_name)
    if not colon:
        raise Trouble(f"{target!r} names a module; name a workflow in it, too. {_workflows_in(module)}")
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Workflow):
        return cast("Workflow[..., Any]", found)
    if found is None:
        near = did_you_mean(name, workflows_of(module))
        raise Trouble(f"The module {module.__name__!r} has no {name!r}.{near} {_workflows_in(module)}")
    kind = "a step" if isinstance(found, Step) else f"of type {type(found).__name__}"
    raise Trouble(
        f"{target!r} is {kind}, and no workflow: decorate an `async def` function with @perdure.workflow. "
        f"{_workflows_in(module)}"
    )


def load_module(name: str) -> ModuleType:
    """Import a module as `python -m` would: the current folder first.

    Raises:
        Trouble: it isn't there, or fails when it is imported.
    """
    if name.endswith(".py") or os.sep in name:
        dotted = name.removesuffix(".py").replace(os.sep, ".").strip(".")
        raise Trouble(f"{name!r} is a file's path: name the module instead, as in {dotted}")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise Trouble(_missing(name)) from None
        raise Trouble(_failed(name, error)) from error
    # A module's top level is the user's code, and raises what it likes.
    except Exception as error:
        raise Trouble(_failed(name, error)) from error


def workflows_of(module: ModuleType) -> list[str]:
    """The names of the workflows in a module, imported ones included."""
    return sorted(name for name, value in vars(module).items() if isinstance(value, Workflow))


def _workflows_in(module: ModuleType) -> str:
    names = [f"{module.__name__}:{name}" for name in workflows_of(module)]
    where = getattr(module, "__file__", None) or "no file"
    return f"Workflows in {module.__name__} ({where}): {', '.join(names) if names else 'none'}."


def _missing(name: str) -> str:
    parent = name.rpartition(".")[0].replace(".", os.sep)
    folder = os.path.join(os.getcwd(), parent)
    prefix = name.rpartition(".")[0] + "." if parent else ""
    near = did_you_mean(name, [prefix + found.name for found in pkgutil.iter_modules([folder])])
    places = "".join(f"\n  {place}" for place in dict.fromkeys(place or os.getcwd() for place in sys.path))
    return (
        f"There is no module {name!r}.{near} Run the command in the folder that holds it, or install it. "
        f"It was looked for in:{places}"
    )


def _failed(name: str, error: Exception) -> str:
    """What happened on import, with the place in the user's code."""
    told = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return f"The module {name!r} can't be imported. {told}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and frame.filename != __file__
    ]
    place = (
        f"\n  {frames[-1].filename}, line {frames[-1].lineno}: {one_line(frames[-1].line or '')}"
        if frames
        else ""
    )
    return f"The module {name!r} can't be imported. {told}{place}"
