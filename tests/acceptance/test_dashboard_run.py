"""The page of a run in a real browser: looking, talking, deciding, forking, and seeing a run come back to life."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from helpers.browser import DESK, PERDURE, PHONE, SOAK, Chrome, Site, browser, ready, server, shot

pytestmark = pytest.mark.acceptance

STEPS = 10_000 if SOAK else 2_000  #: of a large run
TABS = ("timeline", "events", "values", "messages", "logs", "cost", "forks")

EVIL = "<img src=x onerror='window.hurt=1'>"
MODULE = f'''
import asyncio, base64, logging, struct, zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import perdure

EVIL = "{EVIL}"

def picture():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    body = zlib.compress((b"\\0" + b"\\x10\\x80\\x60" * 4) * 4)
    return b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")

@dataclass
class Decision:
    publish: bool
    score: int = 3
    tone: Literal["friendly", "formal"] = "friendly"
    words: list[str] = field(default_factory=list)

@perdure.step(name="draws")
async def draws(topic: str) -> bytes:
    logging.getLogger("app").warning("drawing %s", topic)
    return picture()

@perdure.step(name=EVIL)
async def hostile(text: str) -> str:
    perdure.emit("tokens", text)
    return f"</pre><script>window.hurt=1</script>{{text}}"

@perdure.workflow(name="evil." + EVIL)
async def hostile_run(text: str) -> str:
    perdure.set_attributes(note=text)
    await hostile(text)
    raise ValueError(text)

@perdure.workflow(name="talks")
async def talks(topic: str) -> dict:
    notes = []
    def note(text: str, urgent: bool = False) -> int:
        notes.append(text)
        return len(notes)
    def so_far() -> list[str]:
        return notes
    perdure.on_update(note)
    perdure.on_query(so_far)
    await draws(topic)
    decision = await perdure.ask("Publish " + topic + "?", Decision, details={{"draft": topic}}, to="editors")
    again = await perdure.receive("again", Decision)
    return {{"decision": asdict(decision), "again": asdict(again), "notes": notes}}

@perdure.step(name="prices")
async def prices(item: str) -> int:
    return len(item)

@perdure.step(name="doubles")
async def doubles(x: int) -> int:
    return 2 * x

@perdure.workflow(name="sells")
async def sells(item: str) -> int:
    return await doubles(await prices(item))

@perdure.step(name="needs_a_person", retry=perdure.Retry(max_attempts=1, on_exhausted="block"))
async def needs_a_person() -> int:
    raise RuntimeError("the press is closed")

@perdure.workflow(name="decides")
async def decides() -> int:
    return await needs_a_person()

@perdure.step(name="tiny")
async def tiny(i: int) -> int:
    return i

@perdure.workflow(name="big")
async def big(n: int) -> int:
    for _ in range(n // 100):
        await asyncio.gather(*(tiny(i) for i in range(100)))
    return n

@perdure.step(name="slow")
async def slow(gate: str) -> str:
    while not Path(gate).exists():
        await asyncio.sleep(0.05)
    return "opened"

@perdure.workflow(name="survives")
async def survives(gate: str) -> str:
    await prices("first")
    return await slow(gate)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("runpage")
    (found / "runpage_flows.py").write_text(MODULE)
    return found


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    with server(folder, "dev", "runpage_flows") as found:
        yield found


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    with browser() as found:
        yield found


def start(site: Site, workflow: str, *args: Any, id: str) -> None:
    body = {"workflow": workflow, "args": list(args), "id": id}
    answer = httpx.post(f"{site.url}/api/v1/runs", json=body, timeout=60)
    assert answer.status_code == 201, answer.text


def ended(site: Site, id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        told: dict[str, Any] = httpx.get(
            f"{site.url}/api/v1/runs/{id}/result", params={"wait": 20}, timeout=60
        ).json()
        if told["status"] in ("completed", "failed", "cancelled", "terminated"):
            return told
    pytest.fail(f"run {id} hasn't ended")


def badge(page: Page) -> Any:
    return page.locator("main .pd-badge").first


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_label(label).click()
    page.get_by_role("option", name=option, exact=True).click()


def test_texts_of_the_run_stay_texts(site: Site, chrome: Chrome) -> None:
    start(site, f"evil.{EVIL}", EVIL, id=f"evil-{EVIL}")
    ended(site, "evil-" + EVIL.replace(" ", "%20"))
    page = chrome.open(site.url, path="/runs/evil-" + EVIL.replace(" ", "%20"))
    expect(badge(page)).to_have_text("failed")
    page.get_by_role("button", name=f"{EVIL}#1 (step)").click()
    dialog = page.locator(".pd-detail:visible")
    expect(dialog.get_by_text("</pre><script>window.hurt=1</script>")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    for key, text in (("2", EVIL), ("3", "ValueError"), ("6", EVIL)):
        page.keyboard.press(key)
        expect(page.locator(".pd-stack:visible", has_text=text).first).to_be_visible()
    assert page.evaluate("window.hurt") is None
    assert page.locator("main img").count() == 0
    page.close()


def test_a_question_is_answered_and_a_message_sent_by_forms(site: Site, chrome: Chrome) -> None:
    start(site, "talks", "bees", id="t-1")
    page = chrome.open(site.url, path="/runs/t-1")
    expect(badge(page)).to_have_text("waiting")
    shot(page, "run")
    page.get_by_role("button", name="Answer it").click()
    page.wait_for_url("**/runs/t-1?tab=messages")
    card = page.locator(".pd-card", has_text="It asks editors")
    card.get_by_label("Score").fill("")
    card.get_by_role("button", name="Answer").click()
    expect(card.get_by_text("it is missing")).to_be_visible()  # what was required
    choose(page, "Publish *", "Yes")
    card.get_by_label("Score").fill("5")
    card.get_by_label("Words").fill("fine, short")
    card.get_by_role("button", name="Answer").click()
    expect(page.get_by_text("It waits for again.")).to_be_visible()
    shot(page, "run-messages")
    update = page.locator(".pd-card", has_text="Update note")
    update.get_by_label("Text *").fill("a note")
    update.get_by_role("button", name="Call").click()
    expect(update.locator(".pd-json-plain", has_text="1")).to_be_visible()
    query = page.locator(".pd-card", has_text="Query so_far")
    query.get_by_role("button", name="Ask").click()
    expect(query.get_by_text("a note")).to_be_visible()
    send = page.locator(".pd-card", has_text="Send a message")
    send.get_by_label("Publish *").click()
    page.get_by_role("option", name="No", exact=True).click()
    send.get_by_role("button", name="Send").click()
    expect(badge(page)).to_have_text("completed")
    told = ended(site, "t-1")["result"]
    assert told["decision"] == {"publish": True, "score": 5, "tone": "friendly", "words": ["fine", "short"]}
    assert told["again"]["publish"] is False
    assert told["notes"] == ["a note"]
    page.close()


def test_values_show_pictures_and_logs(site: Site, chrome: Chrome) -> None:
    start(site, "talks", "ants", id="t-2")
    page = chrome.open(site.url, path="/runs/t-2?tab=logs")
    expect(page.get_by_text("drawing ants")).to_be_visible()
    page.keyboard.press("1")
    step = page.get_by_role("button", name="draws#1 (step)")
    step.focus()
    page.wait_for_timeout(2500)  # the run goes on: what is drawn anew keeps the focus
    page.keyboard.press("Enter")
    image = page.locator(".pd-detail:visible").locator("img")
    expect(image).to_be_visible()
    page.wait_for_function("() => document.querySelector('.pd-detail img').naturalWidth === 4")
    assert str(image.get_attribute("src")).startswith("data:image/png;base64,")
    shot(page, "run-detail")
    page.keyboard.press("Escape")
    expect(image).to_be_hidden()
    expect(step).to_be_focused()
    page.close()


def test_a_step_is_decided_about(site: Site, chrome: Chrome) -> None:
    start(site, "decides", id="d-1")
    page = chrome.open(site.url, path="/runs/d-1")
    expect(badge(page)).to_have_text("blocked")
    page.locator("main").get_by_role("button", name="Decide", exact=True).click()
    page.locator(".pd-detail:visible").get_by_role("button", name="Decide", exact=True).click()
    dialog = page.locator(".pd-dialog:visible")
    dialog.get_by_label("It is done, with this result").fill("{7")
    dialog.get_by_role("button", name="Give the result").click()
    expect(dialog.get_by_text("It isn't JSON")).to_be_visible()
    dialog.get_by_label("It is done, with this result").fill("7")
    dialog.get_by_label("Why").fill("by hand")
    dialog.get_by_role("button", name="Give the result").click()
    expect(badge(page)).to_have_text("completed")
    assert ended(site, "d-1")["result"] == 7
    page.close()


def test_a_fork_with_an_edited_result(site: Site, chrome: Chrome) -> None:
    start(site, "sells", "bees", id="s-1")
    assert ended(site, "s-1")["result"] == 8
    page = chrome.open(site.url, path="/runs/s-1")
    page.get_by_role("button", name="prices#1 (step)").click()
    page.get_by_role("button", name="Fork from here").click()
    dialog = page.locator(".pd-dialog:visible")
    field = dialog.get_by_label("Result of prices#1")
    expect(field).to_have_value("4")
    field.fill("50")
    dialog.get_by_role("button", name="What would it do?").click()
    expect(dialog.get_by_text("Taken over", exact=True)).to_be_visible()
    shot(page, "run-fork")
    dialog.get_by_label("Id of the new run").fill("s-1-fork-a")
    dialog.get_by_role("button", name="Fork", exact=True).click()
    page.wait_for_url("**/runs/s-1-fork-a")
    ready(page)
    expect(badge(page)).to_have_text("completed")
    assert ended(site, "s-1-fork-a")["result"] == 100
    page.goto(f"{site.url}/runs/s-1?tab=forks")
    ready(page)
    expect(page.get_by_role("link", name="s-1-fork-a")).to_be_visible()
    page.close()


def test_a_fork_from_an_event_with_other_input(site: Site, chrome: Chrome) -> None:
    start(site, "sells", "bees", id="s-2")
    ended(site, "s-2")
    page = chrome.open(site.url, path="/runs/s-2?tab=events")
    page.locator('[data-seq="2"]').click()
    page.locator(".pd-detail:visible").get_by_role("button", name="Fork from here").click()
    dialog = page.locator(".pd-dialog:visible")
    choose(page, "Changed", "other arguments for the run")
    dialog.get_by_label("Arguments of the run").fill('[["elephants"], {}]')
    dialog.get_by_label("Id of the new run").fill("s-2-fork-b")
    dialog.get_by_role("button", name="Fork", exact=True).click()
    page.wait_for_url("**/runs/s-2-fork-b")
    assert ended(site, "s-2-fork-b")["result"] == 18
    page.close()


def test_it_is_paused_resumed_and_cancelled_by_keys_and_buttons(site: Site, chrome: Chrome) -> None:
    start(site, "talks", "wasps", id="p-1")
    page = chrome.open(site.url, path="/runs/p-1")
    expect(badge(page)).to_have_text("waiting")
    page.keyboard.press("p")
    dialog = page.locator(".pd-dialog:visible")
    dialog.get_by_label("Why").fill("lunch")
    dialog.get_by_role("button", name="Pause", exact=True).click()
    expect(badge(page)).to_have_text("paused")
    expect(page.get_by_text("lunch").first).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    page.locator(".pd-dialog:visible").get_by_role("button", name="Resume", exact=True).click()
    expect(badge(page)).to_have_text("waiting")
    expect(page.locator(".q-dialog")).to_have_count(0)  # while one closes, keys are its own
    page.keyboard.press("c")
    page.locator(".pd-dialog:visible").get_by_role("button", name="Leave it").click()
    expect(page.locator(".q-dialog")).to_have_count(0)
    expect(badge(page)).to_have_text("waiting")
    page.keyboard.press("c")
    page.locator(".pd-dialog:visible").get_by_role("button", name="Cancel", exact=True).click()
    expect(badge(page)).to_have_text("cancelled")
    page.close()


def test_thousands_of_steps_are_a_lane_that_opens(site: Site, chrome: Chrome) -> None:
    start(site, "big", STEPS, id="big")
    ended(site, "big")
    began = time.perf_counter()
    page = chrome.open(site.url, path="/runs/big")
    expect(page.get_by_role("button", name=f"{STEPS:,} steps tiny")).to_be_visible()
    print(f"{STEPS:,} steps: {time.perf_counter() - began:.2f} s until the timeline is there")
    shot(page, f"run-{STEPS}-steps")
    assert page.locator(".pd-gantt-lane").count() < 10
    page.get_by_role("button", name=f"{STEPS:,} steps tiny").click()
    expect(page.get_by_role("button", name="tiny#1 (step)")).to_be_visible()
    assert page.locator(".pd-gantt-lane").count() < 200
    page.keyboard.press("2")
    expect(page.get_by_text(f"{STEPS + 2:,} events")).to_be_visible()
    page.get_by_label("Find events").fill(f"tiny#{STEPS - 1}")
    expect(page.get_by_text(f"1 of {STEPS + 2:,} events")).to_be_visible()
    page.close()


def worker(folder: Path, database: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*PERDURE, "worker", "runpage_flows"],
        cwd=folder,
        env={
            **os.environ,
            "PERDURE_URL": database,
            "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_a_killed_worker_is_seen_and_the_run_resumes_on_the_page(folder: Path, chrome: Chrome) -> None:
    gate = folder / "gate"
    first = worker(folder, "sqlite:///killed.db")
    second: subprocess.Popen[bytes] | None = None
    deadline = time.monotonic() + 60
    while not (folder / "killed.db-wal").exists() and time.monotonic() < deadline:  # the worker makes it
        time.sleep(0.05)
    with server(folder, "serve", database="sqlite:///killed.db") as site:
        try:
            start(site, "survives", str(gate), id="k-1")
            page = chrome.open(site.url, path="/runs/k-1")
            page.evaluate("window.same = true")  # gone if the page were loaded again
            expect(page.get_by_role("button", name="slow#1 (step): going on")).to_be_visible()
            expect(badge(page)).to_have_text("running")
            first.send_signal(signal.SIGKILL)
            first.wait()
            second = worker(folder, site.database)
            expect(page.get_by_text("1 in a row")).to_be_visible()  # workers lost
            gate.touch()
            expect(badge(page)).to_have_text("completed")
            expect(page.locator(".pd-gantt-axis circle").first).to_be_attached()
            shot(page, "run-recovered")
            page.keyboard.press("2")
            expect(page.get_by_text("taken over", exact=True)).to_be_visible()
            page.keyboard.press("3")
            expect(page.get_by_text("opened", exact=True)).to_be_visible()
            assert page.evaluate("window.same") is True
            page.close()
        finally:
            for each in (first, second):
                if each is not None and each.poll() is None:
                    each.kill()
                    each.wait()


def test_it_is_readable_on_a_phone_and_in_the_dark(site: Site, chrome: Chrome) -> None:
    start(site, "talks", "moths", id="m-1")
    for dark, size in ((True, DESK), (False, PHONE)):
        page = chrome.page(site.url, dark=dark, phone=size is PHONE)
        for tab in TABS[:1] if dark and not SOAK else TABS:  # colours make nothing wider
            page.goto(f"{site.url}/runs/m-1?tab={tab}")
            ready(page)
            expect(badge(page)).to_have_text("waiting")
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], tab
            if tab == "timeline":
                shot(page, "run-dark" if dark else "run-phone")
        page.close()
