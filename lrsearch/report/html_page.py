"""The report as one HTML page that needs nothing outside itself."""

import hashlib
import json
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from lrsearch.analysis.diagnosis import sentences
from lrsearch.analysis.material import Material
from lrsearch.report import study_words, words
from lrsearch.report.contents import Contents, contents
from lrsearch.report.figure import N_COLOURS, families
from lrsearch.report.status import counts_words
from lrsearch.report.trial_rows import trial_rows
from lrsearch.report.zones import plain_axis
from lrsearch.trial import State
from lrsearch.version import __version__

SCHEMA = "lrsearch/report-page/1"
GENERATOR = "lrsearch report"
"""By this word in its head a file is known as one that may be overwritten."""

SCRIPTS = ("theme.js", "charts.js", "filters.js", "table.js", "live.js", "page.js")
"""One script, in this order."""


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
    said = contents(material)
    spec = material.spec
    script = "".join(part(name) for name in SCRIPTS)
    plotly = plotly_script()
    page = {"live": None if live is None else {"url": live.update_url, "seconds": live.seconds}, **_update(said)}
    return (
        templates()
        .get_template("report.html")
        .render(
            said=said,
            spec=spec,
            trained=study_words.trained(spec),
            live=live,
            generator=f"{GENERATOR} {__version__}",
            policy=policy((plotly, script), live),
            style=Markup(part("report.css")),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - our own files
            plotly=Markup(plotly),  # noqa: S704 - Plotly's own file
            data=embedded(page),
            fragments={key: Markup(text) for key, text in page["fragments"].items()},  # noqa: S704 - escaped by jinja2
            read_at=words.moment(material.read_at),
            states=list(State),
            families=list(enumerate(families(spec, material.trials))),
            n_colours=N_COLOURS,
            version=__version__,
        )
    )


def update(material: Material) -> dict[str, Any]:
    """Return what the page shows of the study as JSON: what ``html`` embeds and a live page asks for.

    The same study gives the same, whenever it is asked.
    """
    return _update(contents(material))


def _update(said: Contents) -> dict[str, Any]:
    spec, trials = said.material.spec, said.material.trials
    written = templates()
    figures = (*said.of_optimizers, *said.others)
    fragments = {
        "answer": written.get_template("answer.html").render(
            answer=said.answer,
            levels_header=study_words.HEADER,
            diagnosis=[
                (d.optimizer, counts_words(Counter(d.counts)), sentences(d), plain_axis(d))
                for d in said.answer.diagnosis
            ],
        ),
        "run": written.get_template("run.html").render(run=said.run, study_file=said.study_file),
    }
    for figure in figures:
        fragments[f"finding-{figure.key}"] = written.get_template("finding.html").render(figure=figure)
        fragments[f"behind-{figure.key}"] = written.get_template("behind.html").render(figure=figure)
    return {
        "schema": SCHEMA,
        "study": spec.name,
        "fragments": fragments,
        "figures": {figure.key: figure.to_plain() for figure in figures},
        "states": {state.value: sum(t.state == state for t in trials) for state in State},
        "trials": trial_rows(trials, spec, said.answer.winner),
    }


def embedded(page: Mapping[str, Any]) -> Markup:
    """Return JSON that nothing in it can end: within a script only ``<`` could."""
    text = json.dumps(page, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - no character is left that HTML would read


def policy(scripts: tuple[str, ...], live: Live | None = None) -> str:
    """Return what the page may do: run its own scripts, and with ``live`` ask the server that sent it."""
    hashes = " ".join(f"'sha256-{b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    connect = "'none'" if live is None else "'self'"
    # Plotly writes style attributes; a style cannot ask for anything outside, because there is no source for it.
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    )


@cache
def templates() -> Environment:
    """Return the templates of pages, which escape what is put into them."""
    return Environment(
        loader=PackageLoader("lrsearch.report", "page"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )


@cache
def part(name: str) -> str:
    """Return a style sheet or a script of pages."""
    return resources.files("lrsearch.report").joinpath("page", name).read_text("utf-8")


@cache
def plotly_script() -> str:
    """Return plotly.js out of the Python package; that is not imported, which would take longer than all the rest."""
    found = find_spec("plotly")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).with_name("package_data").joinpath("plotly.min.js").read_text("utf-8")
