"""A run's past as markup: the film of its events, the list around the current one, its tasks and their variables.

What can be pressed says by data- attributes what it stands for. `data-focus` names an element across drawings, so that
who has it under the keyboard keeps it when the next moment is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from perdure.api.lines import Line
from perdure.core.standing import Frame, Standing, StandingTask, Variable
from perdure.web.views.markup import markup, text_of

#: Columns of the film at most; more events share one.
COLUMNS: Final = 320
BEFORE: Final = 8  #: events listed before the current one
AFTER: Final = 14  #: and after it
COLOURS: Final = 6  #: of tasks
_WIDEST: Final = 0.01  # of the film's width
_DETAIL: Final = 160  # characters
_FRAMES: Final = 12

_TONES: Final = {
    "green": "good",
    "red": "bad",
    "bold red": "bad",
    "yellow": "hold",
    "bold yellow": "hold",
    "cyan": "busy",
    "blue": "busy",
    "bold": "main",
}
#: Of several events in one column the first of these is seen.
_WEIGHT: Final = ("bad", "hold", "main", "good", "busy", "idle")

#: A variable: its task's id, the place and name of its function in that, its name.
Key = tuple[int, int, str, str]


def tone(line: Line) -> str:
    """The colour of an event's kind."""
    return _TONES.get(line.style, "idle")


def film(tones: Sequence[str]) -> str:
    """All events as a strip, a small column each; many share columns."""
    count = len(tones)
    columns = min(COLUMNS, count)
    svg = Element(
        "svg",
        {
            "class": "pd-tt-film",
            "viewBox": f"0 0 {max(1, columns - 1)} 10",
            "preserveAspectRatio": "none",
            "aria-hidden": "true",
        },
    )
    wide = min(0.8, max(1, columns - 1) * _WIDEST)  # its middle is where the slider has the event
    for column in range(columns):
        start = column * count // columns
        end = max(start + 1, (column + 1) * count // columns)
        shown = min(tones[start:end], key=_WEIGHT.index)
        place = start + list(tones[start:end]).index(shown) + 1
        high = 4 if shown == "idle" else 10
        shape = {
            "x": f"{column - wide / 2:g}",
            "width": f"{wide:g}",
            "y": str(10 - high),
            "height": str(high),
        }
        SubElement(svg, "rect", {**shape, "class": f"pd-tt-{shown}", "data-seq": str(place)})
    return markup(svg)


def matching(lines: Sequence[Line], text: str) -> list[int]:
    """The numbers of the events in which a text is found."""
    wanted = text.strip().lower()
    return [
        number
        for number, line in enumerate(lines, 1)
        if not wanted or wanted in line.what.lower() or wanted in line.detail.lower() or wanted == str(number)
    ]


def events_list(lines: Sequence[Line], seq: int, found: Sequence[int]) -> str:
    """The events around the current one, of those that are looked for."""
    root = Element("div", {"class": "pd-tt-events"})
    before = [number for number in found if number < seq]
    after = [number for number in found if number >= seq]
    if (hidden := len(before) - BEFORE) > 0:
        _more(root, before[-BEFORE - 1], f"{hidden:,} earlier")
    for number in [*before[-BEFORE:], *after[: AFTER + 1]]:
        _event(root, number, lines[number - 1], current=number == seq)
    if len(after) > AFTER + 1:
        _more(root, after[AFTER + 1], f"{len(after) - AFTER - 1:,} later")
    if not found:
        SubElement(root, "div", {"class": "pd-dim"}).text = "No event has this text."
    return markup(root)


def _more(root: Element, seq: int, text: str) -> None:
    made = SubElement(
        root,
        "button",
        {"type": "button", "class": "pd-tt-more", "data-seq": str(seq), "data-focus": f"more-{text[-3:]}"},
    )
    made.text = f"… {text}"


def _event(root: Element, number: int, line: Line, *, current: bool) -> None:
    made = SubElement(
        root,
        "button",
        {"type": "button", "class": "pd-tt-event", "data-seq": str(number), "data-focus": f"event-{number}"},
    )
    if current:
        made.set("aria-current", "step")
    SubElement(made, "span", {"class": "pd-tt-number"}).text = str(number)
    SubElement(
        made, "span", {"class": f"pd-tt-sign pd-tt-ink-{tone(line)}", "aria-hidden": "true"}
    ).text = line.sign
    words = SubElement(made, "span", {"class": "pd-tt-words"})
    SubElement(words, "span", {"class": "pd-tt-what"}).text = text_of(line.what)
    if line.detail:
        SubElement(words, "span", {"class": "pd-dim"}).text = text_of(_short(line.detail))


def current_event(line: Line, number: int, count: int) -> str:
    """The current event in full, beside the slider."""
    root = Element("div", {"class": "pd-tt-now"})
    SubElement(root, "span", {"class": "pd-tt-count"}).text = f"{number:,} of {count:,}"
    SubElement(
        root, "span", {"class": f"pd-tt-sign pd-tt-ink-{tone(line)}", "aria-hidden": "true"}
    ).text = line.sign
    SubElement(root, "span", {"class": "pd-tt-what"}).text = text_of(line.what)
    if line.took:
        SubElement(root, "span", {"class": "pd-tt-ink-busy"}).text = line.took
    SubElement(root, "span", {"class": "pd-dim pd-tt-rest"}).text = text_of(_short(line.detail))
    SubElement(root, "span", {"class": "pd-dim pd-tt-time"}).text = f"+{line.offset:.3f} s"
    return markup(root)


def _short(text: str) -> str:
    return text if len(text) <= _DETAIL else text[: _DETAIL - 1] + "…"


# -- tasks ------------------------------------------------------------------------------------------------


def colour(task: StandingTask) -> str:
    """The class of a task's colour: the same at every event."""
    return f"pd-tt-c{(task.id - 1) % COLOURS + 1}"


def chosen_task(
    standing: Standing, before: Standing | None, pinned: int | None, last: int | None
) -> int | None:
    """Which task is shown: the one that somebody has chosen, or else the one that the event has moved."""
    ids = [task.id for task in standing.tasks]
    if pinned in ids:
        return pinned
    known = {} if before is None else {task.id: _stands(task) for task in before.tasks}
    moved = [task.id for task in standing.tasks if before is not None and known.get(task.id) != _stands(task)]
    if last in moved or (not moved and last in ids):
        return last
    return moved[-1] if moved else ids[0] if ids else None


def _stands(task: StandingTask) -> object:
    return task.operation, task.ended, [(frame.function, frame.line) for frame in task.frames]


def tasks_list(standing: Standing, chosen: int | None, pinned: int | None) -> str:
    """The live tasks, to choose one."""
    root = Element("div", {"class": "pd-tt-tasks", "role": "group", "aria-label": "Tasks"})
    for task in standing.tasks:
        shown = task.id == chosen
        made = SubElement(
            root,
            "button",
            {
                "type": "button",
                "class": f"pd-tt-task {colour(task)}",
                "data-task": str(task.id),
                "data-focus": f"task-{task.id}",
                "aria-pressed": "true" if shown else "false",
                "title": "Press again to follow whichever task moves"
                if task.id == pinned
                else "Stay with this task",
            },
        )
        SubElement(made, "span", {"class": "pd-tt-dot", "aria-hidden": "true"})
        SubElement(made, "span", {"class": "pd-strong"}).text = text_of(_name(task))
        if task.id == pinned:
            SubElement(made, "span", {"class": "pd-tt-tag"}).text = "stays"
        waits = task.awaits if task.ended else f"waits for {task.awaits}"
        SubElement(made, "span", {"class": "pd-tt-awaits"}).text = text_of(_short(waits))
    if standing.more:
        SubElement(root, "span", {"class": "pd-dim"}).text = f"and {standing.more:,} more tasks"
    return markup(root)


def _name(task: StandingTask) -> str:
    own = next((frame.function for frame in task.frames if not frame.library), "")
    function = own.rpartition(".")[2]
    return f"{task.name} · {function}" if function and task.name.startswith("Task-") else task.name


# -- variables --------------------------------------------------------------------------------------------


def values_of(standing: Standing | None) -> dict[Key, str]:
    """The texts of all variables."""
    found: dict[Key, str] = {}
    for task in () if standing is None else standing.tasks:
        for depth, frame in enumerate(_own(task)):
            for variable in frame.variables:
                found[task.id, depth, frame.function, variable.name] = variable.text
    return found


def _own(task: StandingTask) -> list[Frame]:
    return [frame for frame in task.frames if not frame.library]


def variables_list(standing: Standing, before: Standing | None, chosen: int | None) -> str:
    """The variables of a task, the innermost function first; what the event has changed is marked."""
    root = Element("div", {"class": "pd-tt-variables"})
    task = next((task for task in standing.tasks if task.id == chosen), None)
    frames = [] if task is None else list(enumerate(_own(task)))
    known = values_of(before)
    for depth, frame in reversed(frames[-_FRAMES:]):
        part = SubElement(root, "section", {"class": "pd-tt-frame"})
        SubElement(part, "h3", {"class": "pd-h3 pd-mono"}).text = text_of(frame.function)
        if frame.handling is not None:
            SubElement(part, "div", {"class": "pd-tt-handling"}).text = f"handling {text_of(frame.handling)}"
        if not frame.variables:
            SubElement(part, "div", {"class": "pd-dim"}).text = "no local variables"
        assert task is not None
        for variable in frame.variables:
            key = (task.id, depth, frame.function, variable.name)
            _variable(part, variable, key, known if before is not None else None)
        if frame.more:
            SubElement(part, "div", {"class": "pd-dim"}).text = f"and {frame.more:,} more"
    if not frames:
        text = "The code had ended." if standing.tasks else "The code hadn't begun."
        if task is not None and not task.ended:
            text = "No function of yours: a step that was handed to a task."
        SubElement(root, "div", {"class": "pd-dim"}).text = text
    return markup(root)


def _variable(part: Element, variable: Variable, key: Key, known: Mapping[Key, str] | None) -> None:
    changed = known is not None and known.get(key) != variable.text
    made = SubElement(part, "div", {"class": "pd-tt-variable" + (" pd-tt-changed" if changed else "")})
    head = SubElement(made, "div", {"class": "pd-tt-head"})
    SubElement(head, "span", {"class": "pd-mono pd-strong"}).text = text_of(variable.name)
    SubElement(head, "span", {"class": "pd-dim pd-tt-type"}).text = text_of(variable.type)
    if changed:
        new = known is not None and key not in known
        SubElement(head, "span", {"class": "pd-tt-tag"}).text = "new" if new else "changed"
    for sign, way, label in (("◂", "previous", "Previous change of"), ("▸", "next", "Next change of")):
        jump = SubElement(
            head,
            "button",
            {
                "type": "button",
                "class": "pd-tt-jump",
                "data-change": way,
                "data-frame": str(key[1]),
                "data-name": variable.name,
                "data-focus": f"{way}-{key[1]}-{variable.name}",
                "aria-label": f"{label} {variable.name}",
                "title": f"{label} {variable.name}",
            },
        )
        jump.text = sign
    SubElement(made, "pre", {"class": "pd-tt-value"}).text = text_of(variable.text)
    if changed and known is not None and key in known:
        was = SubElement(made, "pre", {"class": "pd-tt-value pd-tt-was"})
        was.text = f"was {text_of(_short(known[key]))}"


# -- what can't be shown ----------------------------------------------------------------------------------

_REASONS: Final = {
    "diverged": "the code isn't what it was.",
    "unreadable": "a recorded value doesn't fit the code.",
    "endless": "the code runs without awaiting anything.",
    "damaged": "the history isn't what was recorded.",
    "failed": "it can't be replayed.",
}


def waiting() -> str:
    """What is seen before the first event is there."""
    root = Element("div", {"class": "pd-dim"})
    root.text = "Replaying the history …"
    return markup(root)


def stopped(standing: Standing) -> str:
    """Why what came later can't be shown; nothing if it can."""
    stop = standing.stop
    if stop is None:
        return ""
    root = Element("div", {"class": "pd-tt-stop", "role": "status"})
    shown = f"From event {stop.seq:,} on {_REASONS[stop.kind]} Shown is event {standing.seq:,}, the last one before."
    SubElement(root, "div", {"class": "pd-strong"}).text = shown
    details = SubElement(root, "details")
    SubElement(details, "summary").text = "What differs"
    SubElement(details, "pre", {"class": "pd-block"}).text = text_of(stop.text)
    return markup(root)
