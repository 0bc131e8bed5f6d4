"""The page in a headless Chromium: written, chatted, moved in by keyboard, narrow and wide, light and dark."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tinygpt.server.guard import Policy

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


class Page:
    """An open page, with what went wrong in it and what it asked for."""

    def __init__(self, browser: Any, port: int, width: int = 1200, **options: Any) -> None:
        self.problems: list[str] = []
        self.asked: list[str] = []
        self.tab = browser.new_page(viewport={"width": width, "height": 800}, **options)
        self.tab.on("console", lambda line: self.problems.append(line.text) if line.type == "error" else None)
        self.tab.on("pageerror", lambda error: self.problems.append(str(error)))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(f"http://127.0.0.1:{port}/")

    def text(self, selector: str) -> str:
        return str(self.tab.locator(selector).inner_text())

    def wait(self, selector: str, **options: Any) -> None:
        self.tab.locator(selector, **options).first.wait_for(timeout=30_000, state="attached")

    def write(self, prompt: str) -> None:
        self.tab.fill("#prompt", prompt)
        self.tab.click("#go")
        self.wait("#status", has_text="a second")


@pytest.fixture
def page(browser: Any, serving: Any) -> Iterator[Page]:
    opened = Page(browser, serving.port)
    yield opened
    opened.tab.close()
    assert opened.problems == []
    assert all(url.startswith((f"http://127.0.0.1:{serving.port}/", "data:")) for url in opened.asked)  # no CDN


def test_it_writes_coloured_tokens_with_alternatives(page: Page) -> None:
    page.write("Hello")
    assert page.text("#status").startswith("80 tokens")
    tokens = page.tab.locator("#output .token")
    assert tokens.count() == 80
    surprises = [float(tokens.nth(i).evaluate("it => it.style.getPropertyValue('--surprise')")) for i in range(10)]
    assert len(set(surprises)) > 3
    assert all(0 <= surprise <= 1 for surprise in surprises)
    tokens.nth(7).hover()
    assert "bits of surprise" in page.text("#token-said")
    assert page.tab.locator("#alternatives li").count() >= 8
    assert page.tab.locator("#alternatives .drawn").count() == 1


def test_the_keyboard_is_enough(page: Page) -> None:
    keys = page.tab.keyboard
    page.tab.focus("#prompt")
    page.tab.fill("#prompt", "Hi")
    keys.press("Control+Enter")
    page.wait("#status", has_text="a second")
    page.tab.focus("#output")
    keys.press("End")
    last = page.tab.locator("#output .chosen").get_attribute("id")
    keys.press("ArrowLeft")
    assert page.tab.locator("#output .chosen").get_attribute("id") != last
    assert page.tab.locator("#output").get_attribute("aria-activedescendant") == page.tab.locator(
        "#output .chosen"
    ).get_attribute("id")
    page.tab.focus("#slider-temperature")
    keys.press("Home")
    assert page.text("output[for=slider-temperature]") == "0"
    page.tab.focus("#tab-write")
    keys.press("ArrowRight")
    assert page.tab.locator("#chat").is_visible()
    keys.press("ArrowLeft")
    assert page.tab.locator("#write").is_visible()


def test_another_token_goes_on_from_there(page: Page) -> None:
    page.write("Hello")
    other = page.tab.locator("#alternatives button", has_text=re.compile(r"^[A-Za-z]"))
    for i in range(80):  # a token with an alternative that is a letter
        page.tab.locator("#output .token").nth(i).dispatch_event("click")
        if other.count():
            break
    kept = page.tab.evaluate("i => textOf([...document.querySelectorAll('#output .token')].slice(0, i))", i)
    letter = other.first.locator(".name").inner_text()
    other.first.click()
    assert page.tab.input_value("#prompt") == f"Hello{kept}{letter}"
    page.wait("#output .token >> nth=79")


def test_the_prompt_is_coloured_and_nothing_is_read_as_html(page: Page) -> None:
    page.tab.check("#echo")
    page.write("<img src=x onerror=alert(1)><b>é😀")
    written = page.tab.evaluate("textOf(document.querySelector('#output').children)")
    assert written.startswith("<img src=x onerror=alert(1)><b>é😀")
    assert page.tab.locator("#output img, #output b").count() == 0
    assert page.tab.locator("#output .of-prompt").count() > 20
    assert page.tab.locator("#output .given").count() == 1  # the first token, about which nothing is known


def test_an_answer_can_be_stopped(page: Page, serving: Any) -> None:
    page.tab.locator("#slider-max_tokens").evaluate("it => { it.max = 4000; it.value = 4000; }")
    page.tab.click("#go")
    page.wait("#output .token >> nth=20")
    page.tab.click("#stop")
    serving.settled()
    assert page.tab.locator("#output .token").count() < 4000
    assert page.tab.locator("#stop").is_disabled()


def test_the_chat(page: Page) -> None:
    page.tab.click("#tab-chat")
    for message in ("Hi", "And?"):
        page.tab.locator("#slider-max_tokens").evaluate("it => { it.value = 12; }")
        page.tab.fill("#message", message)
        page.tab.keyboard.press("Enter")
        page.wait("#status", has_text="a second")
        page.tab.evaluate("say('')")
    assert [turn.strip() for turn in page.tab.locator("#log .user").all_inner_texts()] == ["Hi", "And?"]
    assert page.tab.locator("#log .assistant .token").count() >= 4
    page.tab.locator("#log .assistant .token").first.dispatch_event("click")
    assert page.tab.locator("#alternatives li").count() >= 8
    assert page.tab.evaluate("conversation.map(turn => turn.role)") == ["user", "assistant"] * 2
    page.tab.click("#forget")
    assert page.tab.locator("#log .turn").count() == 0


def test_the_attention_map(page: Page) -> None:
    page.tab.fill("#prompt", "Hello")
    page.tab.click("#attention summary")
    page.tab.select_option("#head", "1")
    page.tab.click("#look")
    page.wait("#map[aria-label^='Attention of 5 tokens. Row 5']")
    page.tab.focus("#map")
    page.tab.keyboard.press("Home")
    page.wait("#map[aria-label*='Row 1, H, reads H 100 %']")
    page.tab.select_option("#layer", "1")
    page.wait("#map[aria-label*='Row 5']")


def test_errors_are_said(page: Page) -> None:
    page.tab.fill("#prompt", "x" * 500)
    page.tab.click("#go")
    page.wait("#status.error", has_text="500 tokens, the model's context is 128")
    page.problems.clear()  # the browser notes the status 400


def test_a_key_is_asked_for(browser: Any, served: Any) -> None:
    with served(policy=Policy(key="sesame")) as serving:
        page = Page(browser, serving.port)
        page.wait("#status.error", has_text="API key")
        page.tab.fill("#key", "sesame")
        page.tab.keyboard.press("Tab")
        page.wait("#model", has_text="tiny")
        page.write("Hi")
        page.tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_it_fits_and_can_be_read(browser: Any, serving: Any, width: int, scheme: str) -> None:
    page = Page(browser, serving.port, width, color_scheme=scheme)
    page.wait("#layer option")
    page.write("Hello there, this is a longer prompt")
    page.tab.locator("#output .token").nth(5).dispatch_event("click")
    page.tab.click("#attention summary")
    page.tab.click("#look")
    page.wait("#map[aria-label^=Attention]")
    assert page.tab.evaluate("document.documentElement.scrollWidth") <= width
    small = page.tab.evaluate(
        "[...document.querySelectorAll('button, input, select, textarea')].filter(it => it.offsetWidth && "
        "!(it.labels?.length || it.textContent.trim() || it.getAttribute('aria-label'))).map(it => it.outerHTML)"
    )
    assert small == []  # each has a name
    if "TINYGPT_SCREENSHOTS" in os.environ:
        folder = Path(os.environ["TINYGPT_SCREENSHOTS"])
        page.tab.screenshot(path=folder / f"{width}-{scheme}.png", full_page=True)
    colours = page.tab.evaluate(CONTRAST)
    assert min(colours.values()) >= 4.5, colours
    page.tab.close()
    assert page.problems == []


CONTRAST = """() => {
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const over = ([r, g, b, a = 1], under) => [r, g, b].map((c, i) => c * a + under[i] * (1 - a));
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => c / 255).map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (it) => {
    const layers = [];
    for (let at = it; at; at = at.parentElement) layers.push(numbers(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
  };
  const full = document.querySelector("#output .token");
  full.style.setProperty("--surprise", 1);
  const found = {};
  for (const name of ["body", ".hint", "label", "#go", "#status", "#output .token", "[role=tab][aria-selected=true]",
                      "#alternatives .number", "h1 small"]) {
    const it = document.querySelector(name);
    const ink = over(numbers(getComputedStyle(it).color), behind(it));
    const [a, b] = [light(ink), light(behind(it))].sort((x, y) => y - x);
    found[name] = (a + 0.05) / (b + 0.05);
  }
  return found;
}"""
