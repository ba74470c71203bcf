"""The page for time travel in a real browser: slide, see lines move and variables change; hostile texts stay texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from helpers.browser import SOAK, Chrome, Site, browser, server, shot

pytestmark = pytest.mark.acceptance

MODULE = """
import asyncio
import perdure
from perdure import step, workflow


@step
async def look(number: int) -> int:
    return number * 10


async def branch(name: str, count: int) -> int:
    total = 0
    for number in range(count):
        total += await look(number)
    return total


@workflow
async def collects(text: str) -> list[int]:
    found: list[int] = []
    for number in range(3):
        found.append(await look(number))
    both = await asyncio.gather(branch("a", 2), branch("b", 2))
    found += both
    return found


@workflow
async def waits() -> str:
    word = await perdure.receive("word", str)
    again = await perdure.receive("word", str)
    return word + again
"""
HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>{{1+1}} **b**'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("travel")
    (folder / "travel_app.py").write_text(MODULE)
    with server(folder, "dev", "travel_app") as running:
        start(running, "collects", "r-1", HOSTILE)
        start(running, "waits", "live")
        ended = httpx.get(f"{running.url}/api/v1/runs/r-1/result", params={"wait": 60}, timeout=90)
        assert ended.json()["status"] == "completed"
        _folders[running.url] = folder
        yield running


_folders: dict[str, Path] = {}


def start(site: Site, workflow: str, id: str, *args: Any) -> None:
    body = {"workflow": f"travel_app.{workflow}", "args": args, "id": id}
    httpx.post(f"{site.url}/api/v1/runs", json=body, timeout=60).raise_for_status()


@pytest.fixture(scope="module")
def chrome(site: Site) -> Iterator[Chrome]:
    with browser() as opened:
        yield opened


def travel(chrome: Chrome, site: Site, id: str = "r-1", query: str = "?seq=1", **screen: bool) -> Page:
    page = chrome.open(site.url, path=f"/runs/{id}/travel{query}", **screen)
    expect(page.locator("[data-task]").first).to_be_visible()
    return page


def at(page: Page, seq: int) -> None:
    expect(page.locator(".pd-tt-count")).to_have_text(re.compile(rf"^{seq} of \d+$"))


def value(page: Page, name: str) -> Any:
    """What is shown of a variable."""
    holder = page.locator(".pd-tt-variable", has=page.locator(f".pd-mono:text-is('{name}')"))
    return holder.locator(".pd-tt-value").first


def current(page: Page) -> Any:
    return page.locator(".pd-tt-line[aria-current]")


def test_sliding_moves_the_line_and_changes_the_variables(chrome: Chrome, site: Site) -> None:
    page = travel(chrome, site)
    at(page, 1)
    expect(current(page)).to_contain_text("found.append(await look(number))")
    expect(value(page, "found")).to_have_text("[]")

    page.keyboard.press("ArrowRight")
    at(page, 2)
    expect(value(page, "found")).to_have_text("[0]")
    expect(page.locator(".pd-tt-changed")).to_have_count(2)
    expect(page.locator(".pd-tt-was").first).to_have_text("was []")
    expect(page).to_have_url(re.compile(r"/runs/r-1/travel\?seq=2$"))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    at(page, 4)
    expect(page.locator("[data-task]")).to_have_count(3)
    expect(page.locator(".pd-tt-line", has_text="total += await look").locator(".pd-tt-dot")).to_have_count(2)

    page.keyboard.press("End")
    expect(page.locator("[data-task='1']")).to_contain_text("returned [0, 10, 20, 10, 10]")
    page.keyboard.press("Home")
    at(page, 1)
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    at(page, 2)
    expect(value(page, "found")).to_have_text("[0]")
    track = page.locator(".pd-tt-slider").bounding_box()
    assert track is not None
    page.mouse.move(track["x"] + 4, track["y"] + track["height"] / 2)
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"] / 2, track["y"] + track["height"] / 2, steps=12)
    page.mouse.up()
    expect(page.locator(".pd-tt-count")).to_have_text(re.compile("^[456] of 9$"))
    page.close()


def test_events_tasks_and_changes_are_jumped_to(chrome: Chrome, site: Site) -> None:
    page = travel(chrome, site)
    page.locator(".pd-tt-event[data-seq='5']").click()
    at(page, 5)
    expect(page.locator(".pd-tt-event[aria-current]")).to_have_attribute("data-seq", "5")

    page.keyboard.press("e")
    page.keyboard.type("1/travel_app.look#2")
    expect(page.locator(".pd-tt-event")).to_have_count(1)
    page.keyboard.press("Enter")
    found = int(page.locator(".pd-tt-event").get_attribute("data-seq") or 0)
    at(page, found)
    page.locator("input[aria-label='Find an event']").fill("")

    page.keyboard.press("Tab")
    page.locator(".pd-tt-list h2").click()  # out of the field, where keys are letters
    page.keyboard.press("Home")
    at(page, 1)
    page.get_by_role("button", name="Next change of found").click()
    at(page, 2)
    page.get_by_role("button", name="Next change of found").click()
    at(page, 3)
    page.get_by_role("button", name="Previous change of found").click()
    at(page, 2)

    page.locator(".pd-tt-event[data-seq='5']").click()
    at(page, 5)
    expect(page.locator("[data-task][aria-pressed='true']")).to_contain_text(
        "stays"
    )  # since a variable was followed
    page.locator("[data-task='2']").click()
    expect(page.locator("[data-task][aria-pressed='true']")).to_contain_text("Task-1")
    page.locator("[data-task='1']").click()
    expect(page.locator("[data-task][aria-pressed='true']")).to_contain_text("main")
    expect(value(page, "found")).to_have_text("[0, 10, 20]")
    page.keyboard.press("ArrowRight")
    at(page, 6)
    expect(page.locator("[data-task][aria-pressed='true']")).to_contain_text("main")
    page.close()


def test_the_history_is_played_to_its_end(chrome: Chrome, site: Site) -> None:
    page = travel(chrome, site)
    page.get_by_role("button", name="Play", exact=True).click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    at(page, 9)
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    page.close()


def test_hostile_texts_stay_texts(chrome: Chrome, site: Site) -> None:
    page = travel(chrome, site)
    expect(value(page, "text")).to_have_text(repr(HOSTILE))
    expect(page.locator(".pd-tt-event", has_text="window.hacked")).to_have_count(1)
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img, main script").count() == 0
    page.close()


def test_a_run_that_goes_on_is_followed(chrome: Chrome, site: Site) -> None:
    page = travel(chrome, site, "live", "")
    expect(current(page)).to_contain_text("word = await")
    body = {"value": "hello"}
    httpx.post(f"{site.url}/api/v1/runs/live/messages/word", json=body, timeout=60).raise_for_status()
    expect(value(page, "word")).to_have_text("'hello'")
    expect(page.get_by_role("slider")).to_have_attribute("aria-valuemax", re.compile("^[2-9]$"))
    page.close()


@pytest.mark.parametrize(
    ("dark", "phone"), [(True, False), (False, True), *([(False, False)] if SOAK else [])]
)
def test_it_is_readable_in_dark_and_light_and_on_a_phone(
    chrome: Chrome, site: Site, dark: bool, phone: bool
) -> None:
    page = travel(chrome, site, query="?seq=6", dark=dark, phone=phone)
    expect(current(page)).to_be_visible()
    expect(page.locator("body.body--dark")).to_have_count(1 if dark else 0)
    wide = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide[0] <= wide[1], "it scrolls sideways"
    name = "travel-phone" if phone else "travel-dark" if dark else "travel"
    shot(page, name)
    page.close()


def test_code_that_the_server_lacks_is_named(chrome: Chrome, site: Site, tmp_path: Path) -> None:
    with server(tmp_path, "serve", database=f"sqlite:///{_folders[site.url] / 'site.db'}") as bare:
        page = chrome.open(bare.url, path="/runs/r-1/travel?seq=3")
        expect(page.locator(".pd-tt-trouble")).to_contain_text("perdure serve --module MODULE")
        at(page, 3)
        expect(page.locator(".pd-tt-event").first).to_be_visible()
