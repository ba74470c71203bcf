"""Every program of the guide, and of the folder beside this file, survives a death at each of its commits.

A program is started, dies just before or just after one of its commits, and is started again as its user would
do it: so it must be one that may be started twice (ids that it gives itself, no waiting for a moment that is
over). It then has to end as a program without deaths does, and no recorded step's body may begin again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dying import Zygote, check, deaths

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))

_RUN = re.compile(r"^```python run\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def guide() -> Iterator[tuple[str, str]]:
    """(name, code) of the guide's programs that keep something on disk."""
    for page in sorted((ROOT / "docs" / "guide").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for match in _RUN.finditer(text):
            if "sqlite:///" in match[1]:
                yield f"{page.stem}:{text.count(chr(10), 0, match.start()) + 1}", match[1]


GUIDE = dict(guide())


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    process = Zygote()
    yield process
    process.close()


def survives(zygote: Zygote, script: Path, folder: Path) -> int:
    """How many deaths it survived."""
    calm = folder / "calm"
    calm.mkdir()
    undisturbed = zygote.run(script, calm)
    assert undisturbed["code"] == 0, undisturbed["stderr"]
    whole = zygote.look(calm)
    number = 0
    for death in deaths(zygote, script, folder):
        number += 1
        check(death, undisturbed, whole)
    return number


@pytest.mark.parametrize("name", sorted(GUIDE))
def test_a_program_of_the_guide_survives_every_death(
    name: str, zygote: Zygote, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    script = tmp_path / "snippet.py"
    script.write_text(GUIDE[name], encoding="utf-8")
    survived = survives(zygote, script, tmp_path)
    assert survived > 5
    record_property("figure", f"survived {survived} deaths")


@pytest.mark.parametrize("script", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_survives_every_death(
    script: Path, zygote: Zygote, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    survived = survives(zygote, script, tmp_path)
    assert survived > 5
    record_property("figure", f"survived {survived} deaths")
