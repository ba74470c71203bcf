"""A little language of durable programs: users write JSON, one workflow interprets it, and every action is a step.

    python examples/dsl.py

    {"do": [...]}                  one after the other
    {"all": [...]}                 at the same time
    {"if": NAME, "then": ..., "else": ...}
    {"repeat": N, "body": ...}
    {"call": ACTION, "with": [...], "as": NAME}     an argument "$NAME" is a variable
    {"sleep": SECONDS}

Programs are data: they are checked before a run begins, and can't do anything but what ACTIONS has.
"""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any, cast

from perdure import Engine, step, workflow


@step
async def act(action: str, arguments: list[Any]) -> Any:
    """Every action of every program is this step, by the action's name."""
    if action == "add":
        return sum(arguments)
    if action == "greater":
        return arguments[0] > arguments[1]
    return " ".join(map(str, arguments))


ACTIONS = {"add", "greater", "say"}


def check(program: Any, depth: int = 0) -> None:
    """Refuse what isn't a program, before anything is done.

    Raises:
        ValueError: it isn't one.
    """
    if not isinstance(program, dict) or depth > 20:
        raise ValueError(f"{program!r} is no program")
    program = cast("dict[str, Any]", program)
    for nested in [*program.get("do", []), *program.get("all", [])]:
        check(nested, depth + 1)
    for key in ("then", "else", "body"):
        if key in program:
            check(program[key], depth + 1)
    if "call" in program and program["call"] not in ACTIONS:
        raise ValueError(f"there is no action {program['call']!r}; there are {', '.join(sorted(ACTIONS))}")


async def execute(program: dict[str, Any], names: dict[str, Any]) -> None:
    if "do" in program:
        for each in program["do"]:
            await execute(each, names)
    elif "all" in program:
        await asyncio.gather(*(execute(each, names) for each in program["all"]))
    elif "if" in program:
        branch = program.get("then" if names.get(program["if"]) else "else")
        if branch is not None:
            await execute(branch, names)
    elif "repeat" in program:
        for _ in range(int(program["repeat"])):
            await execute(program["body"], names)
    elif "sleep" in program:
        await asyncio.sleep(float(program["sleep"]))
    else:
        given = [
            names[a[1:]] if isinstance(a, str) and a.startswith("$") else a for a in program.get("with", [])
        ]
        names[program.get("as", "_")] = await act(program["call"], given)


@workflow
async def interpret(program: dict[str, Any]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    await execute(program, names)
    return names


PROGRAM: dict[str, Any] = {
    "do": [
        {"all": [{"call": "add", "with": [1, 2], "as": "a"}, {"call": "add", "with": [3, 4], "as": "b"}]},
        {"call": "greater", "with": ["$b", "$a"], "as": "grown"},
        {"sleep": 0.1},
        {"repeat": 3, "body": {"call": "add", "with": ["$a", 10], "as": "a"}},
        {
            "if": "grown",
            "then": {"call": "say", "with": ["b was larger, a is", "$a"], "as": "said"},
            "else": {"call": "say", "with": ["a was larger"], "as": "said"},
        },
    ]
}


async def main(url: str) -> None:
    check(PROGRAM)
    try:
        check({"do": [{"call": "format_disk"}]})
    except ValueError as error:
        print("refused:", error)
    async with Engine(url) as engine:
        names = await engine.run(interpret(PROGRAM), id="program-1")
        print(names["said"])
        print(
            f"{(await engine.get('program-1').info()).events} events; the same program again is the same run:"
        )
        print((await engine.run(interpret(PROGRAM), id="program-1"))["said"])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(main(f"sqlite:///{place}/programs.db"))
