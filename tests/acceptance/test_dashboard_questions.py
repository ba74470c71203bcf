"""The inbox in a real browser: what runs ask is read, answered, refused and approved; hostile texts stay texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from helpers.browser import Chrome, Site, browser, ready, server, shot

pytestmark = pytest.mark.acceptance

EVIL = "<img src=x onerror='window.hurt=1'>"
MODULE = f'''
from dataclasses import dataclass, field
from datetime import date
from enum import Enum

import perdure

EVIL = "{EVIL}"

class Kind(Enum):
    NEWS = "news"
    ESSAY = "essay"

@dataclass
class Review:
    """What the editor says."""
    publish: bool
    kind: Kind
    stars: int
    text: str = ""
    tags: list[str] = field(default_factory=list)
    on: date | None = None

@perdure.workflow(name="inbox.article")
async def article(topic: str) -> str:
    details = {{"title": topic, "draft": EVIL + "\\n" + "a line\\n" * 30}}
    said = await perdure.ask(f"Publish {{topic}}? " + EVIL, Review, details=details, to="editors")
    return f"{{said.publish}} {{said.kind.name}} {{said.stars}} {{said.text}} {{said.tags}} {{said.on}}"

@perdure.step(approval=perdure.NeedsApproval("Buy this picture?", to="treasurers"))
async def buy(name: str, cents: int) -> str:
    return name

@perdure.workflow(name="inbox.buys")
async def buys(name: str) -> str:
    try:
        return await buy(name, 4900)
    except perdure.ApprovalRejected as error:
        return f"rejected: {{error.comment}}"
'''


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("inbox")
    (folder / "inbox.py").write_text(MODULE)
    with server(folder, "dev", "inbox") as found:
        for workflow, id, given in (
            ("inbox.article", "moss", "moss"),
            ("inbox.article", "fern", "fern"),
            ("inbox.buys", "yes", "a small one"),
            ("inbox.buys", "no", "a large one"),
        ):
            body = {"workflow": workflow, "args": [given], "id": id}
            assert httpx.post(f"{found.url}/api/v1/runs", json=body, timeout=60).status_code == 201
        yield found


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    with browser() as found:
        yield found


def result(site: Site, run: str) -> Any:
    while True:
        url = f"{site.url}/api/v1/runs/{run}/result"
        told = httpx.get(url, params={"wait": 30}, timeout=60).json()
        if told["status"] == "completed":
            return told["result"]


def choose(page: Page, label: str, choice: str) -> None:
    page.get_by_label(label).click()
    page.get_by_role("option", name=choice).click()


def open_question(site: Site, chrome: Chrome, run: str) -> Any:
    """From the inbox to the question that a run asks."""
    page = chrome.open(site.url, path="/questions")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=run, exact=True))
    row.get_by_role("link").first.click()
    page.wait_for_url("**/questions/q_*")
    ready(page)
    return page


def test_a_question_is_answered_by_its_form(site: Site, chrome: Chrome) -> None:
    page = chrome.open(site.url, path="/questions")
    expect(page.get_by_label("Open questions").locator("tbody tr")).to_have_count(4)
    shot(page, "questions")
    page.close()
    page = open_question(site, chrome, "moss")
    expect(page.locator(".pd-question")).to_have_text(f"Publish moss? {EVIL}")
    assert page.locator("#content img").count() == 0
    assert page.evaluate("window.hurt") is None
    shot(page, "question")
    page.get_by_role("button", name="Answer", exact=True).click()
    expect(page.get_by_text("it is missing").first).to_be_visible()
    choose(page, "Publish", "Yes")
    choose(page, "Kind", "essay")
    page.get_by_label("Stars").fill("4")
    page.get_by_label("Text").fill(f"good {EVIL}")
    page.get_by_label("Tags").fill("green, small")
    page.get_by_label("On", exact=True).fill("2026-02-01")
    page.get_by_role("button", name="Answer", exact=True).click()
    expect(page.locator("#content .pd-badge").first).to_have_text("answered")
    expect(page.get_by_text("local, via http")).to_be_visible()
    assert result(site, "moss") == f"True ESSAY 4 good {EVIL} ['green', 'small'] 2026-02-01"
    assert page.evaluate("window.hurt") is None
    page.close()


def test_a_step_is_approved_or_rejected(site: Site, chrome: Chrome) -> None:
    page = open_question(site, chrome, "yes")
    expect(page.get_by_role("heading", name="Approval")).to_be_visible()
    expect(page.locator("#content")).to_contain_text("a small one")
    shot(page, "approval")
    page.get_by_role("button", name="Approve").click()
    expect(page.locator("#content .pd-badge").first).to_have_text("answered")
    page.close()
    page = open_question(site, chrome, "no")
    page.get_by_label("Comment").fill("too expensive")
    page.get_by_role("button", name="Reject").click()
    expect(page.locator("#content .pd-badge").first).to_have_text("answered")
    page.close()
    assert result(site, "yes") == "a small one"
    assert result(site, "no") == "rejected: too expensive"


def test_what_others_answer_is_seen_at_once(site: Site, chrome: Chrome) -> None:
    inbox = chrome.open(site.url, path="/questions?to=editors")
    page = open_question(site, chrome, "fern")
    id = page.url.rpartition("/")[2]
    answer = {"value": {"publish": False, "kind": "news", "stars": 1}}
    answered = httpx.post(f"{site.url}/api/v1/questions/{id}/answer", json=answer, timeout=60)
    assert answered.status_code == 200
    expect(page.locator("#content .pd-badge").first).to_have_text("answered")
    expect(page.get_by_role("button", name="Answer", exact=True)).to_be_hidden()
    closed = inbox.get_by_label("Closed questions")
    expect(
        closed.get_by_role("row").filter(has=inbox.get_by_role("link", name="fern", exact=True))
    ).to_be_visible()
    expect(inbox.get_by_text("Nobody asks editors anything.")).to_be_visible()
    page.close()
    inbox.close()


def test_it_fits_on_a_phone(site: Site, chrome: Chrome) -> None:
    started = {"workflow": "inbox.article", "args": ["lichen"], "id": "lichen"}
    httpx.post(f"{site.url}/api/v1/runs", json=started, timeout=60)
    page = chrome.open(site.url, path="/questions", dark=True, phone=True)
    expect(page.get_by_label("Open questions")).to_contain_text("lichen")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    shot(page, "questions-phone-dark")
    page.get_by_role("link", name="Publish lichen").click()
    page.wait_for_url("**/questions/q_*")
    ready(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    shot(page, "question-phone-dark")
    page.close()
