"""What other programs do to a study: copy, rename, delete, tell, as a plain Optuna script or a dashboard does it."""

from collections.abc import Iterator
from contextlib import contextmanager

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.pool import NullPool


@contextmanager
def plain(url: str) -> Iterator[RDBStorage]:
    """Open a database as Optuna does, which knows nothing of lrsearch."""
    storage = RDBStorage(url, engine_kwargs={"poolclass": NullPool})
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def copy(url: str, name: str, to: str) -> None:
    with plain(url) as storage:
        optuna.copy_study(from_study_name=name, from_storage=storage, to_storage=storage, to_study_name=to)


def delete(url: str, name: str) -> None:
    """Delete a study.

    On PostgreSQL Optuna keeps quiet about a deletion that failed because something was written meanwhile, and the study
    is still there: tried again with the tables locked, as a program does that deletes in one statement.
    """
    for locked in (False, True):
        with plain(url) as storage:
            if locked and storage.engine.dialect.name == "postgresql":
                sa.event.listen(storage.engine, "begin", _lock)
            optuna.delete_study(study_name=name, storage=storage)
        with plain(url) as storage:
            if name not in optuna.get_all_study_names(storage):
                return
    raise AssertionError(f"the study {name!r} is still there")


def _lock(connection: sa.Connection) -> None:
    connection.exec_driver_sql("LOCK TABLE studies, trials, trial_intermediate_values IN EXCLUSIVE MODE")


def rename(url: str, name: str, to: str) -> list[int]:
    """Copy and delete, as optuna-dashboard does; return the numbers of the trials that were copied."""
    copy(url, name, to)
    with plain(url) as storage:
        copied = [trial.number for trial in optuna.load_study(study_name=to, storage=storage).trials]
    delete(url, name)
    return copied


def tell(url: str, name: str, state: TrialState) -> int | None:
    """Tell how the trial ended that began last and runs; return its number, or None where none runs."""
    with plain(url) as storage:
        study = optuna.load_study(study_name=name, storage=storage)
        running = [trial.number for trial in study.trials if trial.state == TrialState.RUNNING]
        if not running:
            return None
        study.tell(running[-1], 0.75 if state == TrialState.COMPLETE else None, state=state)
        return running[-1]


def take_ids(url: str, name: str, trials: int = 3) -> None:
    """Make a study of one's own: SQLite gives it, and its trials, the ids of what was deleted."""
    with plain(url) as storage:
        made = optuna.create_study(study_name=name, storage=storage)
        for _ in range(trials):
            made.ask()
