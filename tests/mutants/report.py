"""The table of who catches what, for docs/mutants.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mutations import LISTS, Mutant, Net
from trying import Outcome

_HEAD = """# Mutants

Tests that pass prove little until one has seen them fail. So here are {count} deliberate bugs of Perdure, each of which
breaks one of its [guarantees](guarantees.md), and the tests that notice. `make mutants` makes each of them in a copy of
the source, runs the tests that are expected to catch it, and writes this page; `make test` checks that every one of
them can still be made. The lists are in [tests/mutants](../tests/mutants).

**{caught} of {count} caught, {left} survived.**

*Caught first by* is the first test that failed, of those that are named in the list. (A test that hangs counts, as the
suite has a limit for that; it is told then.) *Also by* are tests that were written for no mutant in particular
(? where not all of these were tried):
"""

_TITLES = {
    "sqlite": "The SQLite store",
    "postgres": "The PostgreSQL store",
    "storage": "What all stores share",
    "runtime": "The runtime",
    "core": "The core",
}

_FOOT = """
A bug that nothing catches is a missing test: it is written where it belongs, and the mutant stays.
"""


def document(
    every: Sequence[Mutant],
    nets: Sequence[Net],
    judged: Mapping[str, Outcome | None],
    by_nets: Mapping[tuple[str, str], Outcome | None],
) -> str:
    """The page."""
    caught = sum(outcome is not None and outcome.caught for outcome in judged.values())
    lines = [_HEAD.format(count=len(every), caught=caught, left=len(every) - caught)]
    lines += [f"- *{net.name}*: {_files(net)}" for net in nets]
    for name in LISTS:
        chosen = [mutant for mutant in every if mutant.list == name]
        lines += [
            "",
            f"## {_TITLES[name]}",
            "",
            "| bug | breaks | caught first by | also by |",
            "|---|---|---|---|",
        ]
        lines += (
            _row(mutant, judged[mutant.name], list(_catchers(mutant, nets, by_nets))) for mutant in chosen
        )
    return "\n".join(lines) + "\n" + _FOOT


def _files(net: Net) -> str:
    return " ".join(f"`{argument}`" if " " not in argument else f"`'{argument}'`" for argument in net.tests)


def _catchers(
    mutant: Mutant, nets: Sequence[Net], by_nets: Mapping[tuple[str, str], Outcome | None]
) -> Iterator[str]:
    for net in nets:
        outcome = by_nets.get((mutant.name, net.name))
        if outcome is not None and outcome.caught:
            yield net.name
    if any(outcome is None for (name, _), outcome in by_nets.items() if name == mutant.name):
        yield "?"


def _row(mutant: Mutant, outcome: Outcome | None, others: list[str]) -> str:
    if outcome is None or not outcome.caught:
        by = "**nobody**"
    else:
        path, _, test = outcome.test.partition("::")
        by = f"[`{test}`](../{path})" + (" (it hangs)" if outcome.verdict == "hung" else "")
    return f"| {mutant.bug} (`{mutant.name}`) | {mutant.breaks} | {by} | {', '.join(others) or '-'} |"
