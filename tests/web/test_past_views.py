"""What the page for time travel draws, without a page: films, lists, tasks, variables, sources; and their contrasts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import msgspec

import perdure
from perdure.api.lines import Line
from perdure.core.standing import Frame, SourceText, Standing, StandingTask, Stop, Variable
from perdure.web.views import past
from perdure.web.views.past_source import Sources

HOSTILE = "<script>alert('x')</script>\u202e\x00"


def line(what: str = "app.look#1", style: str = "green", detail: str = "") -> Line:
    return Line(1.5, "✓", style, what, "12 ms", detail)


def frame(line: int = 12, **given: Any) -> Frame:
    return Frame(function="app.works", file="/code/app.py", line=line, source="/code/app.py:10", **given)


def task(id: int = 1, *frames: Frame, name: str = "main", **given: Any) -> StandingTask:
    return StandingTask(id=id, name=name, awaits="step app.look#1", frames=frames or (frame(),), **given)


def variable(name: str, text: str) -> Variable:
    return Variable(name=name, text=text, type="int")


SOURCE = SourceText(
    file="/code/app.py",
    function="app.works",
    first=10,
    lines=(
        "@workflow",
        "async def works(n: int) -> str:",
        '    text = """one',
        '    two"""  # more',
        "    await look(n)",
    ),
)


def standing(*tasks: StandingTask, **given: Any) -> Standing:
    made = Standing(run="r", generation=1, workflow="app.works", seq=2, events=9, at=1.0)
    return msgspec.structs.replace(made, tasks=tasks, sources={"/code/app.py:10": SOURCE}, **given)


def parsed(text: str) -> Element:
    return fromstring(text)


def texts(root: Element, name: str) -> list[str]:
    return ["".join(node.itertext()) for node in root.iter() if name in node.get("class", "").split()]


# -- the history --------------------------------------------------------------------------------------------


def test_a_film_has_a_column_for_each_event_or_for_many() -> None:
    few = parsed(past.film(["main", "good", "idle", "bad"]))
    assert [node.get("data-seq") for node in few] == ["1", "2", "3", "4"]
    assert [node.get("class") for node in few] == ["pd-tt-main", "pd-tt-good", "pd-tt-idle", "pd-tt-bad"]
    many = parsed(past.film(["good"] * 4000 + ["bad"] + ["good"] * 4000))
    assert len(many) == past.COLUMNS
    (failed,) = [node for node in many if node.get("class") == "pd-tt-bad"]
    assert failed.get("data-seq") == "4001", "what is worst in a column is what it leads to"
    assert len(parsed(past.film(["good"]))) == 1
    assert len(parsed(past.film([]))) == 0


def test_the_events_around_the_current_one_are_listed() -> None:
    lines = [line(f"app.look#{number}") for number in range(1, 101)]
    every = past.matching(lines, "")
    root = parsed(past.events_list(lines, 50, every))
    shown = [node.get("data-seq") for node in root if node.get("class") == "pd-tt-event"]
    assert shown == [str(number) for number in range(50 - past.BEFORE, 50 + past.AFTER + 1)]
    assert [node.get("data-seq") for node in root if node.get("aria-current")] == ["50"]
    assert texts(root, "pd-tt-more") == ["… 41 earlier", f"… {100 - 50 - past.AFTER} later"]
    assert texts(parsed(past.events_list(lines, 1, every)), "pd-tt-more") == ["… 85 later"]
    assert past.matching(lines, " LOOK#77 ") == [77]
    assert past.matching(lines, "look#10") == [10, 100]
    assert "No event" in past.events_list(lines, 1, [])


def test_foreign_texts_are_escaped_everywhere() -> None:
    hostile = line(HOSTILE, detail=HOSTILE)
    root = standing(
        task(1, frame(variables=(variable("n", HOSTILE),), handling=HOSTILE), name=HOSTILE),
        stop=Stop(kind="diverged", seq=3, text=HOSTILE),
    )
    drawn = [
        past.events_list([hostile], 1, [1]),
        past.current_event(hostile, 1, 1),
        past.tasks_list(root, 1, None),
        past.variables_list(root, None, 1),
        past.stopped(root),
        Sources().drawn(
            msgspec.structs.replace(
                root,
                sources={
                    "/code/app.py:10": msgspec.structs.replace(
                        SOURCE, lines=(HOSTILE,), function=HOSTILE, file=HOSTILE
                    )
                },
            ),
            1,
        ),
    ]
    for text in drawn:
        assert "<script" not in text
        assert "\u202e" not in text
        assert "\x00" not in text
        assert "alert" in "".join(parsed(text).itertext())


# -- tasks --------------------------------------------------------------------------------------------------


def test_the_task_that_moved_is_shown_unless_one_is_chosen() -> None:
    before = standing(task(1), task(2, frame(11), name="Task-1"))
    after = standing(task(1), task(2, frame(14), name="Task-1"))
    assert past.chosen_task(after, before, None, 1) == 2
    assert past.chosen_task(after, before, 1, 2) == 1
    assert past.chosen_task(after, before, 9, None) == 2, "what was chosen has ended"
    assert past.chosen_task(after, after, None, 1) == 1, "nothing moved"
    assert past.chosen_task(after, None, None, None) == 1
    assert past.chosen_task(standing(), None, None, None) is None


def test_tasks_are_told_with_their_functions_and_colours() -> None:
    root = parsed(past.tasks_list(standing(task(1), task(8, name="Task-1")), 8, 8))
    assert [node.get("data-task") for node in root] == ["1", "8"]
    assert [node.get("aria-pressed") for node in root] == ["false", "true"]
    assert "pd-tt-c1" in root[0].get("class", "")
    assert "pd-tt-c2" in root[1].get("class", "")
    assert "".join(root[1].itertext()) == "Task-1 · worksstayswaits for step app.look#1"


# -- variables ----------------------------------------------------------------------------------------------


def test_what_an_event_has_changed_is_marked() -> None:
    before = standing(task(1, frame(variables=(variable("a", "1"), variable("b", "2")))))
    after = standing(task(1, frame(variables=(variable("a", "1"), variable("b", "3"), variable("c", "4")))))
    root = parsed(past.variables_list(after, before, 1))
    changed = texts(root, "pd-tt-changed")
    assert len(changed) == 2
    assert "changed" in changed[0]
    assert "was 2" in changed[0]
    assert "new" in changed[1]
    assert texts(parsed(past.variables_list(after, None, 1)), "pd-tt-changed") == []
    jumps = [(node.get("data-change"), node.get("data-name")) for node in root.iter("button")]
    assert jumps[:2] == [("previous", "a"), ("next", "a")]


def test_the_innermost_function_comes_first() -> None:
    inner = msgspec.structs.replace(frame(), function="app.inner")
    library = Frame(function="lib.run", file="/lib.py", line=1, library=True)
    root = parsed(past.variables_list(standing(task(1, frame(), library, inner)), None, 1))
    assert [node.text for node in root.iter("h3")] == ["app.inner", "app.works"]
    places = [node.get("data-frame") for node in root.iter("button")]
    assert places == []
    assert "no local variables" in "".join(root.itertext())


# -- sources ------------------------------------------------------------------------------------------------


def test_every_task_marks_its_line_and_the_chosen_one_its_expression() -> None:
    one = task(1, frame(14, column=4, end_line=14, end_column=17))
    other = task(2, frame(12), name="Task-1")
    root = parsed(Sources().drawn(standing(one, other), 1))
    here = [node for node in root.iter() if node.get("aria-current")]
    assert ["".join(node.itertext()) for node in here] == ["main stands here: 14    await look(n)"]
    assert texts(root, "pd-tt-under") == ["await", " ", "look", "(", "n", ")"]
    dots = [node.get("title") for node in root.iter() if "pd-tt-dot" in node.get("class", "")]
    assert dots == ["Task-1", "main"]
    assert texts(root, "pd-py-d") == ["@workflow"]
    assert "await" in texts(root, "pd-py-k")
    numbers = texts(root, "pd-tt-number")
    assert numbers == ["10", "11", "12", "13", "14"]
    assert "app.py:12, 14" in "".join(root.itertext())


def test_texts_over_several_lines_keep_their_lines() -> None:
    root = parsed(Sources().drawn(standing(task(1)), 1))
    code = ["".join(node.itertext()) for node in root.iter("code")]
    assert code == list(SOURCE.lines)


def test_of_long_functions_what_is_far_away_is_left_out() -> None:
    long = msgspec.structs.replace(SOURCE, lines=tuple(f"    line({number})" for number in range(1000)))
    shown = standing(task(1, frame(510)))
    root = parsed(Sources().drawn(msgspec.structs.replace(shown, sources={"/code/app.py:10": long}), 1))
    assert len(texts(root, "pd-tt-line")) < 70
    assert texts(root, "pd-tt-gap") == ["⋯ 469 lines"]


def test_a_multi_line_expression_is_marked_as_a_whole() -> None:
    root = parsed(Sources().drawn(standing(task(1, frame(12, column=4, end_line=14, end_column=5))), 1))
    assert len(texts(root, "pd-tt-here")) == 1
    assert len(texts(root, "pd-tt-inside")) == 2


# -- contrasts ----------------------------------------------------------------------------------------------

_STYLE = (Path(perdure.__file__).parent / "web" / "dashboard" / "assets" / "perdure.css").read_text()
_INKS = ["text", "dim", "link", "busy", "wait", "hold", "good", "bad"]


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(a: str, b: str) -> float:
    light, dark = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_all_words_can_be_read_on_their_grounds() -> None:
    for start in ("body {", "body.body--dark {"):
        block = _STYLE[_STYLE.index(start) :].partition("}")[0]
        colours = dict(re.findall(r"--pd-([\w-]+): (#[0-9a-f]{6});", block))
        for ground in ("code", "mark", "card", "hover"):  # of sources, and their lines
            for ink in _INKS:
                found = _contrast(colours[ink], colours[ground])
                assert found >= 4.5, f"{ink} on {ground}: {found:.2f} in {start}"
        for ink in ("text", "link"):
            assert _contrast(colours[ink], colours["change"]) >= 4.5, f"{ink} on change in {start}"
        assert _contrast(colours["hold"], colours["hold-bg"]) >= 4.5
