"""Our pages beside optuna-dashboard's: the list of studies, the report of each, and whether all is well."""

import json
from typing import Any

import jinja2
from bottle import Bottle, HTTPResponse, request

from lrsearch.dashboard.current import Current, Snapshot, dashboard_url_of, report_url_of
from lrsearch.errors import UnknownNameError
from lrsearch.report import study_words, words
from lrsearch.store import study as studies
from lrsearch.store.storage import Database
from lrsearch.store.study import Summary
from lrsearch.trial import State

SHOWN = (State.RUNNING, State.COMPLETE, State.PRUNED, State.DIVERGED, State.FAILED)

INDEX = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Studies - lrsearch</title>
<style>
:root { color-scheme: light dark; --ink: #1f2328; --pale: #59636e; --line: #d0d7de; --ground: #fff; --link: #0550ae; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --pale: #9da7b1; --line: #3d444d; --ground: #0d1117; --link: #79b8ff; }
}
body { background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 0 auto;
  max-width: 68rem; padding: 1.5rem; }
h1 { font-size: 1.5rem; }
a { color: var(--link); }
a:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.scrolls { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .4rem .8rem .4rem 0; text-align: left; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
tbody th { font-weight: 600; }
.pale { color: var(--pale); }
</style>
</head>
<body>
<main>
<h1>Studies</h1>
<p class="pale">{{ place }}; <a href="/dashboard">all of them in optuna-dashboard</a></p>
{% if rows %}
<div class="scrolls" tabindex="0" role="region" aria-label="Studies">
<table>
<thead><tr>
<th scope="col">study</th><th scope="col">data</th><th scope="col">model</th>
<th scope="col" class="number">finished</th>
{% for state in shown %}<th scope="col" class="number">{{ state }}</th>{% endfor %}
<th scope="col">created</th><th scope="col">look at it</th>
</tr></thead>
<tbody>
{% for row in rows %}
<tr>
<th scope="row"><a href="{{ row.report }}">{{ row.name }}</a></th><td>{{ row.dataset }}</td><td>{{ row.model }}</td>
<td class="number">{{ row.finished }}</td>
{% for n in row.counts %}<td class="number">{{ n }}</td>{% endfor %}
<td>{{ row.created }}</td>
<td><a href="{{ row.dashboard }}" aria-label="{{ row.name }} in optuna-dashboard">optuna-dashboard</a></td>
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% else %}
<p>There is no study yet; <code>lrsearch run</code> makes one.</p>
{% endif %}
</main>
</body>
</html>
"""


def add(app: Bottle, database: Database, current: Current) -> None:
    """Add our routes to an application."""
    template = jinja2.Environment(autoescape=True).from_string(INDEX)

    def index() -> HTTPResponse:
        if "study" in request.query:
            return report(request.query.getunicode("study", ""))
        rows = [_row(summary) for summary in studies.summaries(database)]
        page = template.render(place=str(database.place), rows=rows, shown=[state.value for state in SHOWN])
        return _page(page, {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"})

    def report(name: str) -> HTTPResponse:
        try:
            snapshot = current.of(studies.get(database, name))
        except UnknownNameError as error:
            return HTTPResponse(f"{error}\n", 404, {"Content-Type": "text/plain; charset=utf-8"})
        if "update" in request.query:
            return _update(snapshot)
        # Its own policy stands in its head.
        return _page(snapshot.page(), {})

    def health() -> HTTPResponse:
        well = database.answers()
        body = json.dumps({"status": "ok" if well else "unavailable"})
        return HTTPResponse(body, 200 if well else 503, {"Content-Type": "application/json"})

    app.get("/lr", callback=index)
    app.get("/lr/<name:path>", callback=report)
    app.get("/healthz", callback=health)


def _update(snapshot: Snapshot) -> HTTPResponse:
    etag = f'"{snapshot.etag}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    known = [word.strip().removeprefix("W/") for word in request.headers.get("If-None-Match", "").split(",")]
    if etag in known:
        return HTTPResponse("", 304, headers)
    return HTTPResponse(snapshot.update(), 200, {**headers, "Content-Type": "application/json"})


def _page(page: str, headers: dict[str, str]) -> HTTPResponse:
    return HTTPResponse(page, 200, {"Content-Type": "text/html; charset=utf-8"} | headers)


def _row(summary: Summary) -> dict[str, Any]:
    done = sum(n for state, n in summary.counts.items() if state.counts)
    budget = summary.budget
    return {
        "name": summary.name,
        "dataset": study_words.name(summary.dataset),
        "model": study_words.name(summary.model),
        "finished": f"{done}/{budget.trials}" if budget.trials is not None else f"{done}, {budget.hours:g} h",
        "counts": [summary.counts.get(state, 0) for state in SHOWN],
        "created": words.moment(summary.created_at),
        "report": report_url_of(summary.name),
        "dashboard": dashboard_url_of(summary.optuna_id),
    }
