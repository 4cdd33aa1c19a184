"""The dashboard: optuna-dashboard's application over our storage, with our pages in it and a guard around it."""

from typing import Any

from bottle import Bottle, HTTPError, response

from lrsearch.dashboard import metrics, no_buttons, pages
from lrsearch.dashboard.current import Current
from lrsearch.dashboard.guard import Access, Guard
from lrsearch.dashboard.read_through import ReadThrough
from lrsearch.dashboard.shown import WithOurs, add_pictures
from lrsearch.store.storage import Database


def routes(database: Database, store: Any, *, read_only: bool = False) -> Bottle:
    """Return the application without its guard: every route there is."""
    # Not above: it sets environment variables and draws random numbers when it is imported.
    from optuna_dashboard import wsgi

    current = Current()
    app: Bottle = wsgi(ReadThrough(database), artifact_store=store)
    pages.add(app, database, current)
    metrics.add(app, database)
    add_pictures(app, database)
    app.install(WithOurs(database, current))
    if read_only:
        no_buttons.add(app)
    # The guard says in one sentence that something went wrong; Bottle's own page would tell more.
    app.config["catchall"] = False
    app.default_error_handler = _sentence
    return app


def build(database: Database, store: Any, access: Access) -> Guard:
    """Return the application that is served.

    Args:
        database: holds the studies.
        store: where files that a person uploads lie, an artifact store of Optuna's.
        access: who may do what.
    """
    return Guard(routes(database, store, read_only=access.read_only), access)


def _sentence(error: HTTPError) -> str:
    response.content_type = "text/plain; charset=utf-8"
    return f"{error.status_line}\n"
