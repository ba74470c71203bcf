"""What all pages have: a title, navigation, a search for runs, dark and light, shortcuts.

A page is a coroutine function that draws its content:

    @page("/queues", "Queues")
    async def queues(desk: Desk) -> None: ...

Its other parameters come from the path and the query, as in FastAPI.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Awaitable, Callable
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, Final, NamedTuple, get_type_hints

from nicegui import context, ui

from perdure.errors import PerdureError, UnknownRunError
from perdure.web.dashboard import parts
from perdure.web.dashboard.desk import Desk, run_path
from perdure.web.dashboard.early import early_list
from perdure.web.dashboard.tables import Table

ASSETS: Final = Path(__file__).parent / "assets"
THEME: Final = "perdure_theme"  #: the cookie that keeps whether somebody likes it dark


class Place(NamedTuple):
    """An entry of the navigation, and the key that leads there after "g"."""

    path: str
    title: str
    icon: str
    key: str


PLACES: Final = (
    Place("/", "Overview", "space_dashboard", "o"),
    Place("/runs", "Runs", "format_list_bulleted", "r"),
    Place("/why", "Why", "help_center", "w"),
    Place("/questions", "Questions", "forum", "u"),
    Place("/entities", "Entities", "category", "e"),
    Place("/schedules", "Schedules", "event_repeat", "s"),
    Place("/queues", "Queues", "low_priority", "q"),
    Place("/workers", "Workers", "dns", "k"),
    Place("/budgets", "Budgets", "account_balance_wallet", "b"),
)

#: Seconds that drawing a page may take: a run of many thousand steps on a busy machine takes some. NiceGUI's own 3 made
#: an error of it.
_PATIENCE: Final = 60.0

Draw = Callable[..., Awaitable[None]]

_registered: list[tuple[str, Callable[..., Any]]] = []


def page(path: str, title: str) -> Callable[[Draw], Draw]:
    """Make a coroutine function a page.

    Args:
        path: as FastAPI writes it.
        title: of the page; `Frame.title` of its desk's frame may say more.
    """

    def register(draw: Draw) -> Draw:
        hints = get_type_hints(draw)
        signature = inspect.signature(draw)
        parameters = [
            parameter.replace(annotation=hints.get(name, inspect.Parameter.empty))
            for name, parameter in signature.parameters.items()
            if name != "desk"
        ]

        @functools.wraps(draw)
        async def drawn(**given: Any) -> None:
            desk = Desk.here()
            with frame(desk, title, path):
                try:
                    await draw(desk, **given)
                except PerdureError as error:
                    context.client.status_code = 404 if isinstance(error, UnknownRunError) else 400
                    parts.trouble(str(error))

        drawn.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        del drawn.__wrapped__  # FastAPI would look behind it
        _registered.append((path, drawn))
        return draw

    return register


def register_pages() -> None:
    """Hand the pages to NiceGUI, those with longer paths first: a run's id takes any path that is left."""
    for path, drawn in sorted(_registered, key=lambda each: (-each[0].count("/"), each[0])):
        ui.page(path, response_timeout=_PATIENCE)(drawn)
    _registered.clear()


def frame(desk: Desk, title: str, path: str) -> ui.element:
    """Draw what is around a page; its content goes into what this returns."""
    ui.page_title(f"{title} · Perdure")
    _head(desk)
    drawer = _navigation(desk, path)
    with ui.header(elevated=False).classes("pd-header"):
        menu = ui.button(icon="menu", on_click=drawer.toggle, color=None).props(
            'flat round dense aria-label="Navigation"'
        )
        menu.classes("pd-menu")
        with parts.link(desk.url("/")).classes("pd-brand"):
            ui.element("img").props(f'src="{desk.url("/assets/favicon.svg")}" alt="" width=24 height=24')
            ui.label("Perdure")
        _search(desk)
        ui.space()
        _theme()
        _person(desk)
    _keys()
    desk.watch()
    # Quasar's page around it is the element `main`.
    return ui.element("div").classes("pd-main").props('id="content" tabindex="-1"')


def show_early(desk: Desk, title: str, table: Table) -> None:
    """Put a table into the page's own HTML, to be seen before the scripts are there; while the page is being built."""
    here = next((place for place in PLACES if place.title == title), None)
    places = [(desk.url(place.path), place.title, place is here) for place in PLACES]
    ui.add_body_html(early_list(title, places, table.columns, table.rows))


def _head(desk: Desk) -> None:
    # Before anything is drawn, so that nobody who likes it dark is dazzled.
    liked = context.client.request.cookies.get(THEME)
    dark = {"dark": "true", "light": "false"}.get(
        liked or "", "matchMedia('(prefers-color-scheme: dark)').matches"
    )
    ui.add_body_html(f"<script>if ({dark}) document.body.classList.add('body--dark')</script>")
    base = escape(desk.url("/assets"))
    ui.add_head_html(f'<link rel="stylesheet" href="{base}/perdure.css?v={_digest("perdure.css")}">')
    ui.add_head_html(f'<script defer src="{base}/perdure.js?v={_digest("perdure.js")}"></script>')
    ui.colors(primary="#0f766e", negative="#b91c1c", positive="#15803d", warning="#b45309", info="#1d4ed8")
    with parts.link("#content").classes("pd-skip"):
        ui.label("Skip to the content")


def stylesheet(desk: Desk, name: str) -> None:
    """Let the page that is being built have a stylesheet of its own, from the assets."""
    ui.add_head_html(f'<link rel="stylesheet" href="{escape(desk.url("/assets"))}/{name}?v={_digest(name)}">')


@cache
def _digest(name: str) -> str:
    return hashlib.sha256((ASSETS / name).read_bytes()).hexdigest()[:12]


def _navigation(desk: Desk, path: str) -> ui.left_drawer:
    with (
        ui.left_drawer(bordered=True)
        .props("width=208 breakpoint=1000 show-if-above")
        .classes("pd-drawer") as drawer,
        ui.element("nav").props('aria-label="Pages"'),
    ):
        for place in PLACES:
            here = path == place.path or (place.path != "/" and path.startswith(place.path + "/"))
            with parts.link(desk.url(place.path)).classes("pd-nav") as entry:
                entry.props(f'data-go="{place.key}"' + (' aria-current="page"' if here else ""))
                ui.icon(place.icon).props('aria-hidden="true"')
                ui.label(place.title)
    return drawer


def _search(desk: Desk) -> None:
    box = ui.input(placeholder="Find a run").props(
        'dense outlined clearable aria-label="Find a run by its id" data-key="/" spellcheck=false'
    )
    box.classes("pd-search")

    async def find() -> None:
        text = str(box.value or "").strip()
        if not text:
            return
        try:
            await desk.engine.get(text).status()
        except PerdureError:
            ui.navigate.to(f"/runs?text={parts.quoted(text)}")
        else:
            ui.navigate.to(run_path(text))

    box.on("keydown.enter", find)


def _theme() -> None:
    chosen = context.client.request.cookies.get(THEME)
    dark = ui.dark_mode({"dark": True, "light": False}.get(chosen or ""))

    async def turn() -> None:
        now = await ui.run_javascript("document.body.classList.contains('body--dark')")
        dark.value = not now
        ui.run_javascript(
            f"document.cookie = '{THEME}={'light' if now else 'dark'}; path=/; max-age=31536000; samesite=lax'"
        )

    button = ui.button(icon="contrast", on_click=turn, color=None)
    button.props('flat round dense aria-label="Dark or light" data-key="t"')


def _person(desk: Desk) -> None:
    if not desk.who.browser:
        return
    with ui.button(icon="account_circle", color=None).props('flat round dense aria-label="You"'), ui.menu():
        with ui.element("div").classes("pd-person"):
            ui.label(desk.who.name).classes("pd-strong")
            ui.label(desk.who.role.name.lower()).classes("pd-dim")
            with ui.element("form").props(f'method="post" action="{escape(desk.url("/logout"))}"'):
                with ui.element("button").props('type="submit"').classes("pd-plain-button"):
                    ui.label("Log out")


def _keys() -> None:
    with ui.dialog() as dialog, parts.card("Keys").classes("pd-keys"):
        rows = [
            ("/", "find a run"),
            ("t", "dark or light"),
            ("?", "this list"),
            ("j  k", "next and previous row"),
            ("x", "select the row"),
            ("n  p", "next and previous page"),
        ]
        rows += [(f"g {place.key}", place.title.lower()) for place in PLACES]
        parts.facts([(parts.Keys(keys), what) for keys, what in rows])
    opener = ui.button(on_click=dialog.open, color=None).props('data-key="?" aria-label="Keys" tabindex="-1"')
    opener.classes("pd-hidden")
