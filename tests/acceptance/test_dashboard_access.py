"""Every page of the dashboard by keyboard, by name, and on a phone: whatever can be used is reached, seen and named."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page

from helpers.browser import PHONE, Chrome, Site, browser, ready, server
from perdure.web.dashboard.frame import PLACES

pytestmark = pytest.mark.acceptance

PATHS = [*(place.path for place in PLACES), "/runs/one", "/runs/one/travel"]
STEPS_MAX = 250  #: presses of Tab, before a page counts as one without an end

MODULE = """
import perdure

@perdure.step
async def fetch(text: str) -> dict[str, str]:
    return {"text": text}

@perdure.workflow(name="reach.all")
async def reach(text: str) -> str:
    perdure.set_attributes(region="eu")
    await fetch(text)
    return await perdure.ask("Publish it?", str)
"""

#: What can be used, and is there to be seen. Of a group of tabs or choices, arrow keys lead to the others.
_USABLE = """() => {
  const own = 'a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex="0"], [role=button]';
  const seen = (node) =>
    node.checkVisibility({visibilityProperty: true}) && !node.closest('[aria-hidden=true], .pd-hidden, [inert]');
  const usable = (node) =>
    !node.disabled && node.getAttribute('tabindex') !== '-1' && node.getAttribute('aria-disabled') !== 'true';
  return [...document.querySelectorAll(own)].filter((node) => seen(node) && usable(node)).map((node, place) => {
    // What is drawn anew while somebody walks is the same to them.
    node.dataset.reached ??= node.dataset.row === undefined ? `place ${place}` : `row ${node.dataset.row}`;
    return [node.dataset.reached, node.outerHTML.slice(0, 160)];
  });
}"""

#: Where the focus is now; whether anybody can see it there.
_FOCUS = """() => {
  const node = document.activeElement;
  if (!node || node === document.body) return null;
  const around = node.closest('.q-btn, .q-tab, .q-toggle, .q-checkbox, .q-slider');
  const styles = [node, around].filter(Boolean).map((each) => getComputedStyle(each));
  const outlined = styles.some((style) => style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0)
    || (node.matches('.q-btn') && getComputedStyle(node).boxShadow.includes('4px'));
  const seen = outlined || !!node.closest('.q-field--focused') || !!node.closest('.q-slider--focus');
  const mark = node.dataset.reached ?? (node.dataset.row === undefined ? '' : `row ${node.dataset.row}`);
  return [mark, seen, node.outerHTML.slice(0, 160)];
}"""

_NAMELESS = re.compile(
    r"^\s*- (button|link|textbox|checkbox|combobox|slider|tab|spinbutton|radio|switch)( \[[^\]]*\])*:?$"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("reached")
    (folder / "reaching.py").write_text(MODULE)
    with server(folder, "dev", "reaching") as found:
        body = {"workflow": "reach.all", "args": ["a word"], "id": "one"}
        assert httpx.post(f"{found.url}/api/v1/runs", json=body, timeout=60).status_code == 201
        asyncio.run(_asked(found))
        yield found


async def _asked(site: Site) -> None:
    """Wait until the run asks its question."""
    async with asyncio.timeout(60), httpx.AsyncClient() as client:
        while not (await client.get(f"{site.url}/api/v1/questions")).json():
            await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def chrome(site: Site) -> Iterator[Chrome]:
    with browser() as found:
        yield found


def opened(chrome: Chrome, url: str, *, phone: bool = False) -> Page:
    """A page that shows all that it will show at first."""
    page = chrome.page(url, phone=phone)
    answer = page.goto(url)
    assert answer is not None
    if answer.status == 404:
        page.close()
        pytest.skip("this page isn't there yet")
    ready(page)
    page.wait_for_function("document.querySelector('main h1')")
    page.wait_for_load_state("networkidle")
    return page


def walked(page: Page) -> tuple[set[str], list[str]]:
    """What Tab leads to, from the page's beginning; and what of it can't be seen to have the focus."""
    reached: set[str] = set()
    unseen: list[str] = []
    page.evaluate("document.activeElement?.blur()")
    for _ in range(STEPS_MAX):
        page.keyboard.press("Tab")
        found: Any = page.evaluate(_FOCUS)
        if found is None:
            if reached:
                return reached, unseen  # out of the page, into the browser
            continue
        mark, seen, told = found
        if mark and mark in reached:
            return reached, unseen
        reached.add(mark)
        if not seen:
            unseen.append(told)
    pytest.fail(f"Tab doesn't come to an end within {STEPS_MAX} places")


@pytest.mark.parametrize("path", PATHS)
def test_everything_is_reached_seen_and_named(site: Site, chrome: Chrome, path: str) -> None:
    page = opened(chrome, site.url + path)
    usable: Any = page.evaluate(_USABLE)
    reached, unseen = walked(page)
    assert not unseen, "the focus is on these, and nobody sees it"
    there = {mark for mark, _ in page.evaluate(_USABLE)}
    missed = [told for mark, told in usable if mark in there and mark not in reached]
    assert not missed, "the keyboard doesn't lead to these"
    names = page.locator("body").aria_snapshot()
    assert not [line for line in names.splitlines() if _NAMELESS.match(line)], names
    assert page.locator("h1").count() == 1
    assert page.locator("main").count() == 1
    page.close()


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_wider_than_a_phone(site: Site, chrome: Chrome, path: str) -> None:
    page = opened(chrome, site.url + path, phone=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.close()
