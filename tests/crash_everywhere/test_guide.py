"""Every program of the guide, and of the folder beside this file, survives a death at any of its commits.

A program is started, dies just before or just after one of its commits, and is started again as its user would
do it: so it must be one that may be started twice (ids that it gives itself, no waiting for a moment that is
over). It then has to end as a program without deaths does, and no recorded step's body may begin again.

With PERDURE_SOAK=1 that are all of its commits, else some, evenly spread, where there are many: fewer of the guide's
programs, which are many and much alike, than of those beside this file, which are made to be hard. Some pairs of deaths
are tried, too: the process that goes on dies as well, and a third one finishes; in a soak all pairs of small programs,
and some of the guide's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from dying import check, deaths, double_deaths

from helpers.zygote import Zygote, uses_a_framework
from perdure.testing.boundaries import Boundary, every_boundary, some_boundaries, some_pairs

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))

SOAK = os.environ.get("PERDURE_SOAK") == "1"
#: Up to so many commits, all pairs of deaths take minutes, not hours.
SMALL = 12

_RUN = re.compile(r"^```python run\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def guide() -> Iterator[tuple[str, str]]:
    """(name, code) of the guide's programs that keep something on disk."""
    for page in sorted((ROOT / "docs" / "guide").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for match in _RUN.finditer(text):
            if "sqlite:///" in match[1]:
                yield f"{page.stem}:{text.count(chr(10), 0, match.start()) + 1}", match[1]


GUIDE = dict(guide())


class Zygotes:
    """One for programs that use a framework, one for all the others; each is started when it is first needed."""

    def __init__(self) -> None:
        self._started: dict[bool, Zygote] = {}

    def for_program(self, script: Path) -> Zygote:
        frameworks = uses_a_framework(script)
        if frameworks not in self._started:
            self._started[frameworks] = Zygote(frameworks=frameworks)
        return self._started[frameworks]

    def close(self) -> None:
        for zygote in self._started.values():
            zygote.close()


@pytest.fixture(scope="module")
def zygotes() -> Iterator[Zygotes]:
    processes = Zygotes()
    yield processes
    processes.close()


def survives(zygote: Zygote, script: Path, folder: Path, pairs: int, most: int) -> tuple[int, int]:
    """How many deaths it survived, and how many double ones; of these, so many are drawn.

    Args:
        most: commits before which it dies, at most; without limit in a soak.
    """
    calm = folder / "calm"
    calm.mkdir()
    undisturbed = zygote.run(script, calm)
    assert undisturbed["code"] == 0, undisturbed["stderr"]
    whole = zygote.look(calm)
    number = twice = 0
    commits = undisturbed["commits"]
    boundaries = every_boundary() if SOAK else some_boundaries(commits, most)
    for death in deaths(zygote, script, folder, boundaries):
        number += 1
        check(death, undisturbed, whole)
    if SOAK and commits <= SMALL:
        chosen: Iterable[tuple[Boundary, Iterable[Boundary]]] = every_pair()
    else:
        drawn = some_pairs(commits, 15 * pairs if SOAK else pairs, script.stem)
        chosen = ((first, [second]) for first, second in drawn)
    for death in double_deaths(zygote, script, folder, chosen):
        twice += 1
        check(death, undisturbed, whole)
    return number, twice


def every_pair() -> Iterator[tuple[Boundary, Iterable[Boundary]]]:
    return ((first, every_boundary()) for first in every_boundary())


@pytest.mark.parametrize("name", sorted(GUIDE))
def test_a_program_of_the_guide_survives_every_death(
    name: str, zygotes: Zygotes, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    script = tmp_path / "snippet.py"
    script.write_text(GUIDE[name], encoding="utf-8")
    survived, twice = survives(zygotes.for_program(script), script, tmp_path, pairs=1 if SOAK else 0, most=3)
    assert survived > 1  # a program that leaves all work to other processes commits little itself
    record_property("figure", f"survived {survived} deaths, {twice} double ones")


@pytest.mark.parametrize("script", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_survives_every_death(
    script: Path, zygotes: Zygotes, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    survived, twice = survives(zygotes.for_program(script), script, tmp_path, pairs=5 if SOAK else 2, most=8)
    assert survived > 5
    assert twice > 0
    record_property("figure", f"survived {survived} deaths, {twice} double ones")
