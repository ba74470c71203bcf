"""Kills a program at every commit it makes, starts it again, and compares the world with one without deaths."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from helpers.zygote import Zygote
from perdure.testing.boundaries import Boundary

DEATH = 137
#: What a second process may say that an undisturbed one doesn't.
_BURIED = re.compile(
    r"worker \S+ is dead; \d+ runs go on elsewhere|run \S+ is blocked: outcome unknown: .*"
    r"|runs whose workers died \d+ times in a row or less are tried with .*"
)
_ERRAND = re.compile(r"@[0-9a-f]{8}$")
_BY_EVENT = re.compile(r":\d{16}$")
LIVE = {"queued", "running", "waiting"}


class Death(NamedTuple):
    """One death, or one and another in the process that went on, and what came after."""

    where: str
    recorded: set[str]  #: run and step of all outcomes on disk when the last one died
    repeated: list[str]  #: bodies that the second process began although they were recorded, if it died, too
    again: dict[str, Any]  #: the process that nobody killed
    runs: dict[str, Any]  #: the database after it


def deaths(zygote: Zygote, script: Path, folder: Path, boundaries: Iterable[Boundary]) -> Iterator[Death]:
    """Run a program again and again: each time it dies somewhere else. Ends with the first that doesn't take place."""
    for number, boundary in enumerate(boundaries):
        place = folder / str(number)
        place.mkdir()
        recorded = _die(zygote, script, place, boundary)
        if recorded is None:
            return
        again = zygote.run(script, place)
        yield Death(str(boundary), recorded, [], again, zygote.look(place))
        shutil.rmtree(place)


def double_deaths(
    zygote: Zygote, script: Path, folder: Path, pairs: Iterable[tuple[Boundary, Iterable[Boundary]]]
) -> Iterator[Death]:
    """Let a program die, and again when it goes on, at these boundaries.

    Args:
        pairs: for each first death the second ones; those after the first one that didn't take place are left out.
            The first first death that doesn't take place ends it all.
    """
    for first, seconds in pairs:
        died = folder / "died-once"
        died.mkdir()
        recorded = _die(zygote, script, died, first)
        if recorded is None:
            return
        for second in seconds:
            place = folder / "died-twice"
            shutil.copytree(died, place)
            then = _die(zygote, script, place, second)
            if then is not None:
                begun = (place / "ledger.before").read_text().splitlines()
                repeated = [line for line in begun if line in recorded]
                again = zygote.run(script, place)
                where = f"{first}, and then {second}"
                yield Death(where, recorded | then, repeated, again, zygote.look(place))
            shutil.rmtree(place)
            if then is None:
                break
        shutil.rmtree(died)


def _die(zygote: Zygote, script: Path, place: Path, boundary: Boundary) -> set[str] | None:
    """What is recorded after a death there; None if the program ended before it came to that."""
    died = zygote.run(script, place, boundary.die_at, before=boundary.before)
    if died["code"] == 0:
        return None
    assert died["code"] == DEATH, f"died {boundary}: {died}"
    ledger = place / "ledger"
    if ledger.exists():
        ledger.rename(place / "ledger.before")
    else:
        (place / "ledger.before").touch()
    return {
        f"{run['id']}\t{run['generation']}\t{step}"
        for run in zygote.look(place).values()
        for step in run["steps"]
    }


def check(death: Death, undisturbed: dict[str, Any], whole: dict[str, Any]) -> None:
    """Nothing was lost, nothing was done again that is recorded, and everything ended as without a death.

    Args:
        undisturbed: the process that nobody killed.
        whole: the runs it left.
    """
    where = f"died {death.where}"
    again = death.again
    assert not death.repeated, f"{where}: the second process ran recorded steps again: {death.repeated}"
    assert not again["hung"], f"{where}: the second process hangs; {again['stdout']}{again['stderr']}"
    assert again["code"] == undisturbed["code"] == 0, f"{where}: {again['stderr']}"
    usual = {_times_aside(line) for line in undisturbed["stderr"].splitlines()}
    told = [line for line in again["stderr"].splitlines() if _times_aside(line) not in usual]
    told = [line for line in told if not _BURIED.fullmatch(line)]
    assert not told, f"{where}: {told}"
    repeated = [line for line in again["ledger"] if line in death.recorded]
    assert not repeated, f"{where}: recorded steps ran again: {repeated}"
    for run in death.runs.values():
        assert len(run["steps"]) == len(set(run["steps"])), f"{where}: recorded twice: {run}"
    expected = by_name(whole)
    found = by_name(death.runs)
    for name, run in expected.items():
        if is_random(name):
            continue
        assert name in found, f"{where}: run {name} is missing; there are {sorted(found)}"
        assert found[name] == run, f"{where}: {found[name]} instead of {run}"
    statuses = {run["status"] for run in whole.values()}
    odd = [run for run in death.runs.values() if run["status"] not in statuses | LIVE]
    assert not odd, f"{where}: {odd}"


def _times_aside(line: str) -> str:
    return re.sub(r"\d", "0", line)


def by_name(runs: dict[str, Any]) -> dict[str, Any]:
    """Runs by id and their place in the chain of that id, without what may differ: keys, and the steps' order."""
    chains: dict[str, int] = {}
    named: dict[str, Any] = {}
    for run in runs.values():
        chains[run["id"]] = chains.get(run["id"], 0) + 1
        name = f"{run['id']} ({chains[run['id']]})"
        named[name] = {**run, "steps": sorted(run["steps"])}
    return named


def is_random(name: str) -> bool:
    """Whether a run's id was made up by the engine, so that a second start makes another run.

    Errands have such ids, too; which of them there are depends on when their runs were interrupted. Those of runs that
    events have started tell the time.
    """
    if _ERRAND.search(name.split()[0]) or _BY_EVENT.search(name.split()[0]):
        return True
    word = name.split()[0].split("/")[0]
    return len(word) == 32 and all(digit in "0123456789abcdef" for digit in word)
