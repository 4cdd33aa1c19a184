"""A real browser for the tests: Debian's Chromium, driven by Playwright; what it complains of, and what it asks for."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

CHROMIUM = os.environ.get("LRSEARCH_TEST_CHROMIUM") or shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-unsafe-swiftshader",
]
SERIOUS = ("serious", "critical")
SCREENSHOTS = Path(
    os.environ.get("LRSEARCH_TEST_SCREENSHOTS") or Path(__file__).parent.parent / "test-output/screenshots"
)
"""Where the tests leave pictures of what they saw."""

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or name one with LRSEARCH_TEST_CHROMIUM"
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Give a headless Chromium with nothing in its profile."""
    assert CHROMIUM is not None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Seen:
    """What a page said and asked for while a test looked at it."""

    page: Page
    errors: list[str] = field(default_factory=list)
    """Of the console, and exceptions that nobody caught."""
    requests: list[str] = field(default_factory=list)
    """Addresses."""

    def outside(self) -> list[str]:
        """Return the addresses that are not on this machine."""
        near = ("127.0.0.1", "localhost")
        return [
            u
            for u in self.requests
            if urlsplit(u).scheme not in ("data", "blob", "file", "about") and urlsplit(u).hostname not in near
        ]

    def violations(self, scope: str | None = None) -> list[str]:
        """Return what axe-core finds that is serious, a sentence each; ``scope`` is a selector."""
        found: Any = Axe().run(self.page, context=scope).response["violations"]
        return [
            f"{v['id']} ({v['impact']}): {v['help']}: {node['html'][:200]}"
            for v in found
            if v["impact"] in SERIOUS
            for node in v["nodes"]
        ]

    def picture(self, name: str, *, whole: bool = True) -> Path:
        """Keep a picture of the page; return where."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{re.sub(r'[^a-z0-9-]+', '-', name.lower())}.png"
        self.page.screenshot(path=path, full_page=whole)
        return path


@contextmanager
def looking(browser: Browser, **options: Any) -> Iterator[Seen]:
    """Give a new page in a context of its own; ``options`` are Playwright's for a context."""
    context: BrowserContext = browser.new_context(**options)
    try:
        seen = Seen(context.new_page())
        seen.page.on("console", lambda m: seen.errors.append(m.text) if m.type == "error" else None)
        seen.page.on("pageerror", lambda e: seen.errors.append(str(e)))
        seen.page.on("request", lambda r: seen.requests.append(r.url))
        yield seen
    finally:
        context.close()
