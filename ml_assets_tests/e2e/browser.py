"""A browser without a screen that looks at Dagster's pages, always ended."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ml_assets_tests.e2e.served import CHECKOUT, wait_for

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1600,1000",
]
WIDTH = 1600


@contextlib.contextmanager
def opened(profile: Path) -> Iterator[Any]:
    """It opens Debian's Chromium with a profile in a folder of its own."""
    missing = [p for p in (CHROMIUM, DRIVER) if not Path(p).exists()]
    if missing:
        pytest.fail(
            f"{' and '.join(missing)} not found: these tests look at the pages with Debian's "
            "Chromium. apt-get update && apt-get install chromium chromium-driver",
            pytrace=False,
        )
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.set_page_load_timeout(60)
        yield driver
    finally:
        driver.quit()


def picture(browser: Any, name: str) -> None:
    """It keeps what the browser shows, for a person to look at."""
    folder = Path(os.environ.get("ML_ASSETS_ARTIFACTS") or CHECKOUT / "artifacts" / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    assert browser.save_screenshot(str(folder / f"{name}.png"))


def see(browser: Any, *words: str, seconds: float = 40) -> None:
    """It waits until all these words stand on the page."""

    def missing() -> list[str]:
        text = browser.execute_script("return document.body.innerText")
        return [w for w in words if w not in text]

    with contextlib.suppress(AssertionError):
        wait_for("", lambda: not missing(), seconds)
    assert not missing(), f"{browser.current_url} does not show {missing()}"


def click(browser: Any, path: str) -> None:
    """It clicks on the first element at an XPath, once there is one."""
    found = wait_for(path, lambda: browser.find_elements("xpath", path), 30)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", found[0])
    browser.execute_script("arguments[0].click()", found[0])


def drawn(browser: Any) -> tuple[int, int]:
    """It opens the plot in an asset's metadata; it returns its own width and the one on the page."""
    click(browser, "//tr[.//td[normalize-space()='plot']]//a[.='[Show Markdown]']")

    def rendered() -> Any:
        for image in browser.find_elements("css selector", "img[src^='data:image/png']"):
            browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", image)
            own = browser.execute_script("return arguments[0].naturalWidth", image)
            if own and image.is_displayed():
                return own, image.size["width"]
        return None

    return wait_for("a plot that is really drawn", rendered, 30)


def settled(browser: Any) -> None:
    """It waits until the page stays as it is, for the sake of the picture."""
    before, since = "", time.monotonic()
    end = since + 15
    while time.monotonic() < min(end, since + 2):
        now = browser.execute_script("return document.body.innerHTML")
        if now != before:
            before, since = now, time.monotonic()
        time.sleep(0.4)
