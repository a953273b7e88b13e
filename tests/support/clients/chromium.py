"""Chromium without a window, used as people use it. It reaches this machine alone, and reports what its pages did."""

import base64
import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import urljoin, urlsplit

import pytest
from axe_selenium_python import Axe
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from support.gateway.processes import wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="there is no Chromium, or no chromedriver beside it"
)

QUIET = (
    "--headless=new",
    "--no-sandbox",  # a container's root has none
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
"""Options with which it reaches this machine alone."""

type Theme = Literal["light", "dark"]
THEMES: Sequence[Theme] = ("light", "dark")
WIDTHS = (1280, 360)
"""Those of a desk and of a telephone, in pixels."""
_HEIGHT = 900


class Look(NamedTuple):
    """The look of a page: its theme, and its width in pixels."""

    theme: Theme
    width: int


LOOKS = [Look(theme, width) for theme in THEMES for width in WIDTHS]

_GRAVE = frozenset({"serious", "critical"})

_OVERFLOW = """
const { clientWidth: limit, scrollWidth: width } = document.documentElement
if (width <= limit) return []
const clips = (element) => getComputedStyle(element).overflowX !== "visible"
const scrolls = (element) => element && (clips(element) || scrolls(element.parentElement))
const found = [...document.querySelectorAll("body *")]
  .filter((element) => element.getBoundingClientRect().right > limit && !scrolls(element.parentElement))
return [`${width} pixels`, ...found.map((element) => element.outerHTML.slice(0, 100))]
"""


class Chromium:
    """A browser with a new profile. Without `scripts` it runs none, as where JavaScript is switched off."""

    def __init__(self, driver: webdriver.Chrome, *, scripts: bool) -> None:
        self.driver = driver
        self.scripts = scripts
        self._run_scripts(scripts)

    @classmethod
    @contextlib.contextmanager
    def start(cls, *, scripts: bool = True) -> Iterator[Self]:
        """Run a browser until the block ends."""
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for option in QUIET:
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        try:
            yield cls(driver, scripts=scripts)
        finally:
            driver.quit()

    def open(self, url: str) -> None:
        """Open an address, or a path of the site whose page was opened last."""
        self.driver.get(urljoin(self.driver.current_url, url))

    def log_in(self, url: str, token: str) -> None:
        """Log in to the pages at a URL."""
        self.open(f"{url}/login")
        self.fill(token=token)
        self.press("Log in")

    @property
    def path(self) -> str:
        """The path of the page, with its query."""
        parts = urlsplit(self.driver.current_url)
        return f"{parts.path}?{parts.query}" if parts.query else parts.path

    @property
    def text(self) -> str:
        """The text of the page, in one line."""
        return " ".join(self.find("body").text.split())

    def find(self, selector: str) -> WebElement:
        """Return the first element that a selector of CSS selects."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def find_all(self, selector: str) -> Sequence[WebElement]:
        """Return all elements that a selector of CSS selects."""
        found: Sequence[WebElement] = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return found

    def fill(self, **texts: str) -> None:
        """Write into fields of a form, by their names, or choose the option with a text."""
        for name, text in texts.items():
            field = self.driver.find_element(By.NAME, name)
            if field.tag_name == "select":
                field.find_element(By.XPATH, f"./option[normalize-space()={_quoted(text)}]").click()
            else:
                field.clear()
                field.send_keys(text)

    def press(self, words: str) -> None:
        """Press the first button with these words, which leads to another page."""
        with self._leaving():
            self.control("button", words).click()

    def follow(self, words: str) -> None:
        """Follow the first link with these words."""
        with self._leaving():
            self.control("a", words).click()

    def control(self, tag: str, words: str) -> WebElement:
        """Return the first element of a kind with these words."""
        return self.driver.find_element(By.XPATH, f"//{tag}[normalize-space()={_quoted(words)}]")

    @contextlib.contextmanager
    def _leaving(self) -> Iterator[None]:
        """Wait for the page that follows what a block does."""
        began = self.run("return performance.timeOrigin")
        yield
        loaded = "return document.readyState === 'complete' && performance.timeOrigin"
        wait_until(lambda: self.run(loaded) not in {False, began})

    def type(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def enter(self) -> None:
        """Press Enter, and wait for the page that follows."""
        with self._leaving():
            self.type(Keys.ENTER)

    def tab_to(self, words: str, most: int = 60) -> None:
        """Press Tab until the focus is on a control with these words, or with this name."""
        for _ in range(most):
            self.type(Keys.TAB)
            focused = self.driver.switch_to.active_element
            if words in {" ".join(focused.text.split()), focused.get_attribute("name")}:
                return
        raise AssertionError(f"no Tab comes to {words!r}")

    def wait_for(self, words: str) -> None:
        """Wait until words are on the page, without a reload."""
        wait_until(lambda: words in self.text)

    def run(self, script: str, *arguments: object) -> Any:
        """Run a script of the test's own, past the page's policy; return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def command(self, name: str, **parameters: object) -> dict[str, Any]:
        """Send a command of the Chrome DevTools Protocol."""
        answer: dict[str, Any] = self.driver.execute_cdp_cmd(name, parameters)
        return answer

    def show(self, look: Look) -> None:
        """Show pages in a theme and a width."""
        theme = {"name": "prefers-color-scheme", "value": look.theme}
        self.command("Emulation.setEmulatedMedia", features=[theme])
        size = {"width": look.width, "height": _HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **size)

    def picture(self, most: int) -> bytes:
        """Return the page as a PNG, down to so many pixels at most."""
        width, height = self.run("return [innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, most), "scale": 1}
        taken = self.command("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(taken["data"])

    def faults(self) -> list[str]:
        """Return what went wrong since the last call: errors and warnings of the console, and requests elsewhere."""
        console = [
            f"{entry['source']}: {entry['message']}"
            for entry in self.driver.get_log("browser")
            if entry["level"] in {"SEVERE", "WARNING"}
        ]
        events = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        asked = (each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent")
        own = urlsplit(self.driver.current_url).netloc
        return console + [f"asked elsewhere: {url}" for url in asked if urlsplit(url).netloc not in {own, ""}]

    def defects(self) -> list[str]:
        """Return what is wrong with the page in any look: with its width, and for people who need aids."""
        axe = Axe(self.driver)
        with self._scripts_allowed():
            self.run("window.stop()")  # a page may be about to open itself again
            axe.inject()
            found = []
            for look in LOOKS:
                self.show(look)
                wide = [f"too wide: {element}" for element in self.run(_OVERFLOW)]
                found += [f"{self.path} {look}: {each}" for each in [*wide, *_grave(axe.run())]]
        self.show(LOOKS[0])
        return found

    @contextlib.contextmanager
    def _scripts_allowed(self) -> Iterator[None]:
        """Let scripts of the test's own wait for something; the page's own have been left out by then."""
        self._run_scripts(True)
        try:
            yield
        finally:
            self._run_scripts(self.scripts)

    def _run_scripts(self, value: bool) -> None:
        self.command("Emulation.setScriptExecutionDisabled", value=not value)


def _quoted(words: str) -> str:
    """Return a text as XPath writes it."""
    return f'"{words}"' if "'" in words else f"'{words}'"


def _grave(results: Mapping[str, Any]) -> Iterator[str]:
    """Describe what axe has found, if that is serious: one line an element."""
    for violation in results["violations"]:
        if violation["impact"] in _GRAVE:
            for node in violation["nodes"]:
                yield f"{violation['id']} ({violation['impact']}): {node['html'][:200]} {node.get('failureSummary')}"
