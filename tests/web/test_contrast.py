"""Texts of the dashboard can be read: each text has the contrast to its ground that WCAG 2 asks for at level AA.

Pairs come from the style sheets themselves: a rule that sets both, texts on all grounds that they may stand on, and
what isn't text but has to be seen (edges of fields, the focus) against what is beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from perdure.web.dashboard.frame import ASSETS

TEXT = 4.5
GRAPHIC = 3.0
THEMES = {"light": "body", "dark": "body.body--dark"}
SHEETS = sorted(path for path in ASSETS.glob("*.css"))

#: What texts stand on besides what their own rule says: pages, cards, rows that are pointed at, code.
GROUNDS = ("ground", "card", "hover", "code")
TEXTS = ("text", "dim", "link")
MARKED = ("mark", "change")  # lines that are told apart; plain texts only
TONES = ("good", "bad", "busy", "wait", "hold", "idle")

_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")


def rules(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Selector and declarations of each rule; media queries count as their rules."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    for selector, body in _RULE.findall(text):
        pairs = (part.split(":", 1) for part in body.split(";") if ":" in part)
        yield " ".join(selector.split()), {name.strip(): value.strip() for name, value in pairs}


def variables(theme: str) -> dict[str, str]:
    """The colours of a theme; the dark one keeps what it doesn't change."""
    found: dict[str, str] = {}
    for name, selector in THEMES.items():
        for path in SHEETS:
            for given, body in rules(path):
                if given == selector:
                    found |= {key: value for key, value in body.items() if key.startswith("--pd-")}
        if name == theme:
            break
    return found


def luminance(colour: str) -> float:
    def linear(part: float) -> float:
        return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4

    digits = colour.removeprefix("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    red, green, blue = (linear(int(digits[at : at + 2], 16) / 255) for at in (0, 2, 4))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def resolved(value: str, known: dict[str, str]) -> str | None:
    """A declaration's colour, None if it has none that can be computed."""
    value = value.replace("!important", "").strip()
    if match := re.fullmatch(r"var\((--pd-[\w-]+)\)", value):
        return known.get(match[1])
    return value if re.fullmatch(r"#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})", value) else None


def test_contrast_is_computed_as_the_standard_says() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert contrast("#123456", "#123456") == 1


@pytest.mark.parametrize("theme", THEMES)
def test_texts_stand_out_from_all_their_grounds(theme: str) -> None:
    known = variables(theme)
    pairs = [
        *product(TEXTS, GROUNDS),
        *product(("text", "dim"), MARKED),
        *((tone, f"{tone}-bg") for tone in TONES),
    ]
    pairs += product(TONES, GROUNDS)  # figures, charts' labels
    poor = {
        f"{text} on {ground}": round(found, 2)
        for text, ground in pairs
        if (found := contrast(known[f"--pd-{text}"], known[f"--pd-{ground}"])) < TEXT
    }
    assert not poor


@pytest.mark.parametrize("theme", THEMES)
def test_edges_and_the_focus_are_seen(theme: str) -> None:
    known = variables(theme)
    poor = {
        f"{mark} beside {ground}": round(found, 2)
        for mark, ground in product(("edge", "focus"), GROUNDS)
        if (found := contrast(known[f"--pd-{mark}"], known[f"--pd-{ground}"])) < GRAPHIC
    }
    assert not poor


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("path", SHEETS, ids=lambda path: path.name)
def test_rules_that_set_text_and_ground_set_a_readable_pair(path: Path, theme: str) -> None:
    known = variables(theme)
    poor = {}
    for selector, body in rules(path):
        text = resolved(body.get("color", ""), known)
        ground = resolved(body.get("background", body.get("background-color", "")), known)
        if text is not None and ground is not None and contrast(text, ground) < TEXT:
            poor[selector] = round(contrast(text, ground), 2)
    assert not poor


@pytest.mark.parametrize("path", SHEETS, ids=lambda path: path.name)
def test_colours_are_variables_of_both_themes(path: Path) -> None:
    """A colour that is written elsewhere is one that somebody forgets in the dark."""
    light, both = variables("light"), variables("dark")
    assert both.keys() == light.keys()
    unknown = set(re.findall(r"var\((--pd-[\w-]+)\)", path.read_text())) - {
        name for name in both if name.startswith("--pd-")
    }
    own = {name for _, body in rules(path) for name in body if name.startswith("--pd-")}
    assert not unknown - own
