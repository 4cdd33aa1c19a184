"""The report as one HTML page that needs nothing outside itself."""

from dataclasses import dataclass
from html import escape
from typing import Any

from lrsearch.report.material import Material


@dataclass(frozen=True, slots=True)
class Live:
    """Where a page that is served finds what is new, and what lies beside it."""

    update_url: str
    """Answers GET with ``update(material)`` as JSON, with an ETag; asked again and again with If-None-Match."""
    dashboard_url: str
    """The same study in optuna-dashboard."""
    seconds: float = 5.0
    """Between two questions."""


def html(material: Material, live: Live | None = None) -> str:
    """Return the page; with ``live`` it keeps itself up to date."""
    del live
    return f"<!doctype html><title>{escape(material.spec.name)}</title>"


def update(material: Material) -> dict[str, Any]:
    """Return what the page shows of the study as JSON: what ``html`` embeds and a live page asks for."""
    return {"study": material.spec.name}
