"""Trials as runs of MLflow, through its own client: a study is an experiment, a trial a run."""

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from lrsearch.errors import LrsearchError, UsageError
from lrsearch.report.run_record import RunRecord
from lrsearch.trial import State

DEFAULT: Final = "mlflow.db"
AT_ONCE: Final = 1000
"""Metrics that the client takes in a call."""
LONGEST: Final = 5000
"""Of a tag [characters]."""
TRIAL: Final = "lrsearch.trial"
CONTENT: Final = "lrsearch.content"
"""Tags: the trial's number, and the hash of what was written of it."""
STATUS: Final = {State.RUNNING: "RUNNING", State.FAILED: "FAILED"}
"""Of runs; all others are finished, however they ended: the tag ``state`` says it."""


def tracking_uri(where: str) -> str:
    """Return the address of the runs: that which is given, or of a SQLite file.

    Raises:
        UsageError: it holds a password, or names a folder.
    """
    if "://" in where:
        if urlsplit(where).password is not None:
            raise UsageError(
                "a password on the command line can be read by everybody on this machine: leave it out of -o, and set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        return where
    path = Path(where)
    if path.is_dir():
        raise UsageError(f"{where} is a folder, in which MLflow keeps runs no longer: name a file, such as {DEFAULT}")
    if not path.parent.is_dir():
        raise UsageError(f"{where} cannot be written: there is no folder {path.parent}")
    return f"sqlite:///{path.absolute()}"


def write_mlflow(where: str, study: str, records: Sequence[RunRecord]) -> int:
    """Write the runs into the experiment of the study's name; return how many: those that are there as they are stay.

    Raises:
        UsageError: MLflow is not installed, or cannot write there.
        LrsearchError: MLflow did not take them.
    """
    client, refused = _client(tracking_uri(where))
    try:
        return sum(_written(client, _experiment(client, study), records))
    except refused as error:
        said = (str(error).strip().splitlines() or ["no message"])[0]
        raise LrsearchError(f"MLflow did not take the runs: {said}") from error


def _client(uri: str) -> tuple[Any, type[Exception]]:
    # MLflow sends what it is used for to its makers, unless it is told not to before it is imported.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise UsageError(
            "--to mlflow writes with MLflow's own client, and MLflow is not installed: pip install 'lrsearch[mlflow]'"
        ) from error
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri), MlflowException


def _experiment(client: Any, study: str) -> str:
    found = client.get_experiment_by_name(study)
    return str(client.create_experiment(study) if found is None else found.experiment_id)


def _written(client: Any, experiment: str, records: Sequence[RunRecord]) -> Iterator[bool]:
    """Write the runs that are not there, or have changed; yield of each whether it was written."""
    there = {run.data.tags.get(TRIAL): run for run in _runs(client, experiment)}
    for record in records:
        content = hashlib.sha256(repr(record).encode()).hexdigest()
        before = there.get(str(record.number))
        if before is not None and before.data.tags.get(CONTENT) == content:
            yield False
            continue
        _write(client, experiment, record, content)
        if before is not None:
            client.delete_run(before.info.run_id)
        yield True


def _runs(client: Any, experiment: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs([experiment], max_results=AT_ONCE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _write(client: Any, experiment: str, record: RunRecord, content: str) -> None:
    from mlflow.entities import Metric, Param, RunTag

    tags = {**record.about, TRIAL: str(record.number)}
    run = client.create_run(experiment, start_time=_milliseconds(record.started), run_name=record.name)
    metrics = [
        Metric(name, value, _milliseconds(row.at), row.epoch)
        for row in record.epochs
        for name, value in row.values.items()
    ]
    last = record.epochs[-1].at if record.epochs else record.started
    ended = last if record.ended is None else record.ended
    metrics += [Metric(name, value, _milliseconds(ended), len(record.epochs)) for name, value in record.results.items()]
    for begin in range(0, len(metrics), AT_ONCE):
        client.log_batch(run.info.run_id, metrics=metrics[begin : begin + AT_ONCE])
    client.log_batch(
        run.info.run_id,
        params=[Param(name, str(value)) for name, value in record.parameters.items()],
        tags=[RunTag(name, text[:LONGEST]) for name, text in tags.items()],
    )
    if record.state == State.RUNNING:
        client.update_run(run.info.run_id, status=STATUS[record.state])
    else:
        status = STATUS.get(record.state, "FINISHED")
        client.set_terminated(run.info.run_id, status, end_time=_milliseconds(ended))
    # Last: a run that was interrupted has none, and is written anew.
    client.set_tag(run.info.run_id, CONTENT, content)


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)
