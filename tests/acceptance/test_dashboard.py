"""The frame of all pages in a real browser: getting in, getting around, and what a run's text can't do there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from helpers.browser import Chrome, Site, browser, program, ready, server
from perdure.web import Role, Tokens

pytestmark = pytest.mark.acceptance

EVIL = "<img src=x onerror='window.hurt=1'>"
MODULE = f'''
import perdure

@perdure.workflow(name="{EVIL}")
async def hostile(text: str) -> str:
    return text
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("framed")
    (found / "framed.py").write_text(MODULE)
    return found


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    with server(folder, "dev", "framed") as found:
        for id in (
            EVIL,
            "</script><script>window.hurt=1</script>",
            "{{ constructor.constructor('window.hurt=1')() }}",
        ):
            started = httpx.post(
                f"{found.url}/api/v1/runs", json={"workflow": EVIL, "args": [EVIL], "id": id}, timeout=60
            )
            assert started.status_code == 201, started.text
        yield found


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    with browser() as found:
        yield found


def test_texts_of_runs_stay_texts(site: Site, chrome: Chrome) -> None:
    with chrome.other() as own:
        page = own.open(site.url, path="/runs")
        expect(page.get_by_role("link", name=EVIL)).to_be_visible()
        assert page.locator("main img").count() == 0
        assert page.evaluate("window.hurt") is None
        # What gets in by a mistake of ours isn't run either.
        page.evaluate("document.body.insertAdjacentHTML('beforeend', `<img src=x onerror='window.hurt=1'>`)")
        page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hurt=1'}))"
        )
        page.wait_for_timeout(200)
        assert page.evaluate("window.hurt") is None
        assert any("Content Security Policy" in each for each in own.complaints)
        own.complaints.clear()


def test_the_list_is_there_before_the_scripts_are(site: Site, chrome: Chrome) -> None:
    with chrome.other(allowed="ERR_FAILED|is not defined") as own:
        page = own.context.new_page()
        page.route("**/quasar.umd*.js", lambda route: route.abort())
        page.goto(f"{site.url}/runs")
        expect(page.locator("#pd-early").get_by_role("link", name=EVIL)).to_be_visible()
        assert page.locator("#pd-early img").count() == 0
        assert page.evaluate("window.hurt") is None
        page.locator("#pd-early nav").get_by_role("link", name="Queues").click()
        page.wait_for_url("**/queues")


def test_the_keyboard_leads_everywhere(site: Site, chrome: Chrome) -> None:
    with chrome.other() as own:
        page = own.open(site.url, path="/runs")
        page.keyboard.press("/")
        expect(page.get_by_label("Find a run by its id")).to_be_focused()
        page.keyboard.type("no such run")
        page.keyboard.press("Enter")
        page.wait_for_url("**/runs?text=no%20such%20run")
        ready(page)
        page.keyboard.press("?")
        expect(page.get_by_role("heading", name="Keys")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("heading", name="Keys")).to_be_hidden()
        page.keyboard.press("g")
        page.keyboard.press("r")
        page.wait_for_url("**/runs")
        ready(page)
        page.keyboard.press("j")
        page.keyboard.press("j")
        assert page.evaluate("document.activeElement.closest('tr').rowIndex") == 2


def test_dark_and_light_are_kept(site: Site, chrome: Chrome) -> None:
    with chrome.other() as own:
        page = own.open(site.url, path="/runs")
        assert "body--dark" not in str(page.locator("body").get_attribute("class"))
        page.keyboard.press("t")
        page.wait_for_function("document.body.classList.contains('body--dark')")
        page.wait_for_function("document.cookie.includes('perdure_theme=dark')")
        page.reload()
        ready(page)
        page.wait_for_function("document.body.classList.contains('body--dark')")


def test_nothing_is_cut_off_on_a_phone(site: Site, chrome: Chrome) -> None:
    with chrome.other(phone=True) as own:
        page = own.open(site.url, path="/runs")
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        expect(page.locator("nav")).not_to_be_in_viewport()
        page.get_by_role("button", name="Navigation").click()
        expect(page.locator("nav")).to_be_in_viewport()


def test_a_token_opens_it_and_its_end_closes_it(folder: Path, chrome: Chrome) -> None:
    made = Tokens()
    token = made.issue("vera", Role.VIEWER)
    made.save(folder / "tokens.json")
    with server(folder, "dev", "framed", "--tokens", "tokens.json", database="sqlite:///other.db") as site:
        with chrome.other(allowed="401") as own:
            page = own.context.new_page()
            page.goto(f"{site.url}/runs?text=a")
            page.wait_for_url("**/login?to=*")
            page.get_by_label("Token").fill("pdt_wrong")
            page.get_by_role("button", name="Log in").click()
            expect(page.get_by_role("alert")).to_contain_text("Nobody")
            page.get_by_label("Token").fill(token)
            page.get_by_role("button", name="Log in").click()
            page.wait_for_url(f"{site.url}/runs?text=a")
            ready(page)
            page.get_by_role("button", name="You").click()
            expect(page.get_by_text("viewer")).to_be_visible()
            page.get_by_role("button", name="Log out").click()
            page.wait_for_url("**/login")
            page.goto(f"{site.url}/runs")
            page.wait_for_url("**/login?to=*")
            page.get_by_label("Token").fill(token)
            page.get_by_role("button", name="Log in").click()
            page.wait_for_url(f"{site.url}/runs")
            ready(page)
            del made.by_name["vera"]
            made.save(folder / "tokens.json")
            page.wait_for_url("**/login")  # by itself


MOUNTED = """
import contextlib

import fastapi
import uvicorn

import perdure
from perdure.web import create_app

engine = perdure.Engine("sqlite:///mounted.db")


@contextlib.asynccontextmanager
async def life(app):
    async with engine:
        yield


app = fastapi.FastAPI(lifespan=life)
app.mount("/ops/perdure", create_app(engine))
server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="info"))
server.run()
"""


def test_it_lives_within_another_application(folder: Path, chrome: Chrome) -> None:
    (folder / "host.py").write_text(MOUNTED)
    with program(folder, "host.py", r"running on (http://[^\s]+)") as url, chrome.other() as own:
        page = own.open(url, path="/ops/perdure/runs")
        page.get_by_role("link", name="Runs").click()
        page.wait_for_url("**/ops/perdure/runs")
        ready(page)
        page.get_by_label("Find a run by its id").fill("x")
        page.keyboard.press("Enter")
        page.wait_for_url("**/ops/perdure/runs?text=x")
