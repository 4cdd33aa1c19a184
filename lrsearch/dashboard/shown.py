"""What optuna-dashboard shows of ours: curves of every trial, the answer as the study's note, the spec as attributes.

It is added to what optuna-dashboard tells its own page of a study, and is drawn when it is asked for; none of it is
written. So nothing of it can grow stale, a database that is only read shows it too, a trial that is being trained shows
how far it is, and a note that a person has saved is never touched. What optuna-dashboard copies or deletes (it copies a
study to rename it) is what lies in the database.
"""

import json
import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from bottle import Bottle, HTTPResponse, Route
from pydantic import ValidationError

from lrsearch.dashboard import picture
from lrsearch.dashboard.current import Current
from lrsearch.domain import describe
from lrsearch.errors import LrsearchError
from lrsearch.spec import parameters
from lrsearch.spec.study import NOT_IDENTITY, StudySpec
from lrsearch.store import study as studies
from lrsearch.store.homes import ID_ATTR, SPEC_ATTR
from lrsearch.store.storage import Database
from lrsearch.store.tables import SLOT_ATTR

log = logging.getLogger(__name__)

LIST, DETAIL = "/api/studies", "/api/studies/<study_id:int>"
"""optuna-dashboard's routes of the studies, and of one with its trials: all that its pages know."""
PLOT = "accuracy-against-lr"

Document = dict[str, Any]


class WithOurs:
    """A plugin of Bottle that adds what is ours to a study's document."""

    name = "with-ours"
    api = 2

    def __init__(self, database: Database, current: Current) -> None:
        self._database, self._current = database, current

    def apply(self, callback: Callable[..., Any], route: Route) -> Callable[..., Any]:
        """Return the callback of a route as it is to be called."""

        def detail(study_id: int) -> Any:
            found = callback(study_id=study_id)
            # An error is a text.
            if isinstance(found, dict) and ID_ATTR in _keys(found.get("user_attrs", [])):
                self._add(found, study_id)
            return found

        def listed() -> Any:
            found = callback()
            if isinstance(found, dict):
                for summary in found["study_summaries"]:
                    summary["user_attrs"] = _in_words(summary["user_attrs"])
            return found

        ours: dict[tuple[str, str], Callable[..., Any]] = {("GET", DETAIL): detail, ("GET", LIST): listed}
        return ours.get((route.method, route.rule), callback)

    def _add(self, found: Document, study_id: int) -> None:
        try:
            snapshot = self._current.of(studies.get(self._database, found["name"]))
            found["plotly_graph_objects"].append({"id": PLOT, "graph_object": snapshot.plot()})
            if not found["note"]["body"]:
                found["note"]["body"] = snapshot.note()
        except LrsearchError as error:
            # Filed by another version, or deleted meanwhile: Optuna's own is shown all the same.
            log.warning("%s", error)
        found["user_attrs"] = _in_words(found["user_attrs"])
        for trial in (*found["trials"], *found["best_trials"]):
            if SLOT_ATTR in _keys(trial["user_attrs"]):
                _add_curves(trial, study_id)


def add_pictures(app: Bottle, database: Database) -> None:
    """Add the routes of what ``WithOurs`` names; no id of Optuna's artifacts has these letters."""

    def curves(study_id: int, trial_id: int, epochs: int, ended: int) -> HTTPResponse:
        del epochs, ended
        found = studies.find_trial(database, study_id, trial_id)
        return _file(found and picture.svg(found[1], found[0].spec), "image/svg+xml")

    def epochs_csv(study_id: int, trial_id: int, epochs: int, ended: int) -> HTTPResponse:
        del epochs, ended
        found = studies.find_trial(database, study_id, trial_id)
        return _file(found and picture.epochs_csv(found[1]), "text/csv; charset=utf-8")

    app.get("/artifacts/<study_id:int>/<trial_id:int>/curves-<epochs:int>-<ended:int>", callback=curves)
    app.get("/artifacts/<study_id:int>/<trial_id:int>/epochs-<epochs:int>-<ended:int>", callback=epochs_csv)


def _add_curves(trial: Document, study_id: int) -> None:
    """Add the picture of a trial, under another name after every epoch, so that a page which shows it asks anew."""
    number, epochs = trial["number"], max((row["step"] for row in trial["intermediate_values"]), default=0)
    now = f"{epochs}-{int(trial['state'] not in ('Running', 'Waiting'))}"
    about = f"trial {number} loss and learning rate"
    trial["artifacts"].append(
        {"artifact_id": f"curves-{now}", "filename": f"{about}.svg", "mimetype": "image/svg+xml", "encoding": None}
    )
    if epochs:
        name = f"trial {number} epochs.csv"
        trial["artifacts"].append(
            {"artifact_id": f"epochs-{now}", "filename": name, "mimetype": "text/csv", "encoding": None}
        )
    if not trial["note"]["body"]:
        trial["note"]["body"] = f"![{about}](/artifacts/{study_id}/{trial['trial_id']}/curves-{now})"


def _in_words(attrs: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the attributes of a study with the spec one key each, in place of its JSON."""
    text = next((attr["value"] for attr in attrs if attr["key"] == SPEC_ATTR), None)
    spec = () if text is None else _spec_attrs(text)
    return [{"key": key, "value": value} for key, value in spec] + [
        a for a in attrs if not spec or a["key"] != SPEC_ATTR
    ]


@lru_cache(maxsize=256)
def _spec_attrs(text: str) -> tuple[tuple[str, str], ...]:
    try:
        spec = StudySpec.from_json(text)
    except ValidationError:
        # Of another version.
        return ()
    # Of a person's own pictures an identity needs what was found in them, and the study file says only where they lie.
    is_known = spec.dataset.own is None and spec.loop is None
    stated = spec.identity() if is_known else _flat(spec.to_plain())
    out = {f"spec {key}": _word(value) for key, value in stated.items() if not key.startswith("space.")}
    for name, domain, applies in parameters.rows(spec.space):
        out[f"space {name}"] = describe(domain) + ("" if applies == "always" else f" ({applies})")
    return tuple(out.items())


def _flat(table: Document, before: str = "") -> Document:
    """Return tables within tables as one, its keys dotted; what may change in a study is left out."""
    out: Document = {}
    for key, value in table.items():
        if before or key not in NOT_IDENTITY:
            out |= _flat(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return out


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _keys(attrs: list[dict[str, str]]) -> set[str]:
    return {attr["key"] for attr in attrs}


def _file(content: str | None, kind: str) -> HTTPResponse:
    if content is None:
        return HTTPResponse("there is no such trial\n", 404, {"Content-Type": "text/plain; charset=utf-8"})
    return HTTPResponse(content, 200, {"Content-Type": kind})
