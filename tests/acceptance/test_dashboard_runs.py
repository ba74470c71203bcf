"""The list of runs in a real browser: filters and addresses, pages, what is done with many, what changes meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from helpers.browser import SOAK, Chrome, Site, browser, ready, server, shot
from helpers.many_runs import insert_runs
from perdure.web import Role, Tokens

pytestmark = pytest.mark.acceptance

#: As many as the issue names take a while to be written; a test needs no more than tells pages apart.
MANY = 100_000 if SOAK else 10_000
MODULE = """
import asyncio, perdure

@perdure.workflow(name="many.order")
async def order(number: int, *, note: str = "") -> int:
    perdure.set_attributes(total=number, region="eu" if number % 2 else "us")
    if number % 4 == 0:
        raise ValueError(f"no order {number}")
    await perdure.receive("paid", bool)
    return number

@perdure.workflow(name="many.refund")
async def refund(order: str) -> str:
    return order
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("runlist")
    (found / "shopping.py").write_text(MODULE)
    return found


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    with server(folder, "dev", "shopping") as found:
        yield found


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    with browser() as found:
        yield found


def post(site: Site, path: str, body: Any = None) -> None:
    answer = httpx.post(f"{site.url}/api/v1{path}", json=body, timeout=60)
    assert answer.status_code < 300, answer.text


def start(site: Site, id: str, number: int) -> None:
    post(site, "/runs", {"workflow": "many.order", "args": [number], "id": id})


def ids(page: Page) -> list[str]:
    return page.locator("main tbody a").all_inner_texts()


def row(page: Page, id: str) -> Any:
    return page.locator("main tbody tr", has=page.get_by_role("link", name=id, exact=True))


def test_the_first_run_is_started_from_an_empty_list(site: Site, chrome: Chrome) -> None:
    page = chrome.open(site.url, path="/runs")
    expect(page.get_by_text("No runs yet")).to_be_visible()
    page.keyboard.press("c")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Workflow").click()
    page.get_by_role("option", name="many.order").click()
    dialog.get_by_label("Run id").fill("first")
    dialog.get_by_role("button", name="Start the run").click()
    expect(dialog.get_by_role("alert")).to_be_visible()  # it has to be given
    dialog.get_by_label("number").fill("1")
    dialog.get_by_role("button", name="Start the run").click()
    page.wait_for_url("**/runs/first")
    page.close()


def test_filters_are_in_the_address_and_the_back_button_works(site: Site, chrome: Chrome) -> None:
    for number in range(1, 9):
        start(site, f"a-{number}", number)
    page = chrome.open(site.url, path="/runs?text=a-")
    expect(row(page, "a-8")).to_contain_text("failed")
    expect(row(page, "a-8")).to_contain_text("ValueError: no order 8")
    expect(row(page, "a-7")).to_contain_text("message paid")
    page.get_by_role("button", name="failed").click()
    page.wait_for_url("**/runs?status=failed&text=a-")
    expect(page.locator("main tbody tr")).to_have_count(2)
    assert ids(page) == ["a-8", "a-4"]
    page.get_by_role("button", name="failed").click()
    page.get_by_label("Attribute, as in total>=100").fill("total>5")
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs?attribute=total%3E5&text=a-")
    expect(page.locator("main tbody tr")).to_have_count(3)
    page.go_back()
    expect(page.locator("main tbody tr")).to_have_count(8)
    page.go_back()
    expect(page.locator("main tbody tr")).to_have_count(2)
    expect(page.get_by_role("button", name="failed")).to_have_attribute("aria-pressed", "true")
    # Somebody else follows the link.
    other = chrome.open(page.url)
    expect(other.locator("main tbody tr")).to_have_count(2)
    assert ids(other) == ["a-8", "a-4"]
    other.goto(f"{site.url}/runs?text=a-&attribute=total%3E5&attribute=region%3Deu")
    ready(other)
    expect(other.locator("main tbody tr")).to_have_count(1)
    other.get_by_role("button", name="Remove the condition total>5").click()
    expect(other.locator("main tbody tr")).to_have_count(4)
    other.get_by_label("Workflow").click()
    other.get_by_role("option", name="many.refund").click()
    other.wait_for_url("**workflow=many.refund**")
    expect(other.get_by_text("No run matches.")).to_be_visible()
    other.get_by_role("button", name="Clear all filters").click()
    other.wait_for_url(f"{site.url}/runs")
    expect(row(other, "a-8")).to_be_visible()
    other.close()
    page.close()


def test_many_are_cancelled_after_one_question(site: Site, chrome: Chrome) -> None:
    for number in (1, 2, 3, 4):
        start(site, f"b-{number}", number)
    page = chrome.open(site.url, path="/runs?text=b-")
    expect(row(page, "b-4")).to_contain_text("failed")
    expect(row(page, "b-3")).to_contain_text("waiting")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    bar = page.get_by_role("region", name="Selected runs")
    expect(bar).to_contain_text("2 runs selected")
    bar.get_by_role("button", name="Cancel").click()
    asked = page.get_by_role("alertdialog")
    expect(asked).to_contain_text("Cancel 1 run?")
    expect(asked).to_contain_text("Left out: 1 failed.")
    asked.get_by_role("button", name="Leave it").click()
    expect(asked).to_be_hidden()
    bar.get_by_role("button", name="Select all that match").click()
    bar.get_by_role("button", name="Cancel").click()
    asked.get_by_label("Reason").fill("no stock")
    asked.get_by_role("button", name="Cancel 3 runs").click()
    expect(page.get_by_text("Cancelled 3 runs.")).to_be_visible()
    for number in (1, 2, 3):
        expect(row(page, f"b-{number}")).to_contain_text("cancelled")
    expect(row(page, "b-2")).to_contain_text("no stock")
    expect(bar).to_be_hidden()
    page.close()


def test_a_run_that_ends_is_seen_to_end_and_new_ones_do_not_push(site: Site, chrome: Chrome) -> None:
    start(site, "c-1", 1)
    page = chrome.open(site.url, path="/runs?text=c-")
    expect(row(page, "c-1")).to_contain_text("waiting")
    post(site, "/runs/c-1/messages/paid", {"value": True})
    expect(row(page, "c-1")).to_contain_text("completed")
    row(page, "c-1").get_by_role("checkbox").click()  # somebody has it in hand
    start(site, "c-2", 2)
    news = page.get_by_role("button", name="1 new run")
    expect(news).to_be_visible()
    assert ids(page) == ["c-1"]
    news.click()
    expect(page.locator("main tbody tr")).to_have_count(2)
    assert ids(page) == ["c-2", "c-1"]
    page.close()


def test_a_viewer_sees_what_could_be_done(site: Site, chrome: Chrome, folder: Path) -> None:
    start(site, "d-1", 1)
    made = Tokens()
    token = made.issue("vera", Role.VIEWER)
    made.save(folder / "tokens.json")
    with server(folder, "serve", "--tokens", "tokens.json") as guarded, chrome.other() as hers:
        page = hers.context.new_page()
        page.goto(f"{guarded.url}/runs?text=d-")
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(f"{guarded.url}/runs?text=d-")
        ready(page)
        expect(page.get_by_role("button", name="Start a run")).to_be_disabled()
        row(page, "d-1").get_by_role("checkbox").click()
        for verb in ("Cancel", "Terminate", "Pause", "Resume", "Retry"):
            expect(page.get_by_role("button", name=verb, exact=True)).to_be_disabled()


@pytest.fixture(scope="module")
def full(folder: Path) -> Iterator[Site]:
    """A server over many runs."""
    insert_runs(folder / "full.db", MANY)
    with server(folder, "serve", database="sqlite:///full.db") as found:
        yield found


def test_there_are_many_pages(full: Site, chrome: Chrome) -> None:
    page = chrome.open(full.url, path="/runs")
    expect(page.get_by_text("1,000+ runs")).to_be_visible()
    expect(page.locator("main tbody tr")).to_have_count(50)
    first = ids(page)
    assert first == [f"run-{MANY - place:06}" for place in range(1, 51)]
    page.keyboard.press("n")
    page.wait_for_url("**/runs?cursor=*")
    expect(page.get_by_role("link", name=f"run-{MANY - 51:06}")).to_be_visible()
    assert ids(page) == [f"run-{MANY - place:06}" for place in range(51, 101)]
    page.get_by_role("button", name="Older").click()
    expect(page.get_by_role("link", name=f"run-{MANY - 101:06}")).to_be_visible()
    page.get_by_role("button", name="Newer").click()
    expect(page.get_by_role("link", name=f"run-{MANY - 51:06}")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("link", name=f"run-{MANY - 101:06}")).to_be_visible()
    page.get_by_role("button", name="Newest").click()
    expect(page.get_by_role("link", name=first[0])).to_be_visible()
    assert ids(page) == first
    # The rarest are found among all of them.
    page.get_by_label("Text in the id or reason").fill("run-000007")
    expect(page.locator("main tbody tr")).to_have_count(1)
    assert ids(page) == ["run-000007"]
    page.close()


@pytest.mark.parametrize(
    ("dark", "phone"), [(False, True), *([(False, False), (True, False)] if SOAK else [])]
)
def test_it_looks_right(full: Site, chrome: Chrome, dark: bool, phone: bool) -> None:
    page = chrome.open(full.url, path="/runs", dark=dark, phone=phone)
    expect(page.locator("main tbody tr")).to_have_count(50)
    assert page.evaluate("document.documentElement.scrollWidth") <= (375 if phone else 1280)
    shot(page, "runs" + ("-dark" if dark else "") + ("-phone" if phone else ""))
    page.close()
