"""Search here: the images are loaded, one worker works in this process, the winner is tested."""

import logging
from collections.abc import Collection, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lrsearch import worker
from lrsearch.analysis.ranking import best
from lrsearch.errors import LrsearchError
from lrsearch.events import EndReason, Event, SearchEnded, TrialEnded, TrialStarted
from lrsearch.spec.study import StudySpec
from lrsearch.store import at_work, filing, leftovers, portfolio
from lrsearch.store import study as studies
from lrsearch.store.artifacts import Artifacts
from lrsearch.store.claims import Claims
from lrsearch.store.keeper import Keeper, Leave
from lrsearch.store.storage import Database
from lrsearch.store.study import Study
from lrsearch.training import device
from lrsearch.training.engine import Engine, TestResult
from lrsearch.trial import Trial

log = logging.getLogger(__name__)

IDLE_STEP_SECONDS = 0.5
_OVER = (EndReason.BUDGET_TRIALS, EndReason.BUDGET_HOURS, EndReason.MAX_FAILURES, EndReason.SPACE_USED_UP)


@dataclass(frozen=True, slots=True)
class Here:
    """What this process trains with."""

    device: str = "auto"
    threads: int | None = None
    data_dir: Path | None = None
    progress: bool = True
    """Whether a download may show its progress on stderr."""


def prepare(spec: StudySpec, here: Here) -> Engine:
    """Load the images onto the device."""
    return worker.build_engine(
        spec, device_name=here.device, threads=here.threads, data_dir=here.data_dir, progress=here.progress
    )


def search(
    study: Study,
    engine: Engine,
    artifacts: Artifacts,
    leave: Leave | None = None,
    *,
    wait: bool = False,
    share_cores: bool = False,
) -> Generator[Event]:
    """Work on the study until its budget is used up, in this process.

    Args:
        study: which.
        engine: what trains.
        artifacts: where checkpoints and weights go.
        leave: whether to leave.
        wait: whether to stay for what others train.
        share_cores: whether the threads of each trial are this worker's share of the cores when it begins.
    """
    claims = Claims(study, portfolio.initial(study.spec), engine.device, engine.versions)

    def take_share() -> None:
        others = at_work.on_this_machine(study.database, without=claims.worker)
        device.set_threads(device.threads_for(study.spec.model.name, len(others) + 1))
        claims.device = engine.device

    sharing = share_cores and at_work.threads_of(engine.device) is not None
    with Keeper(claims, leave or Leave()) as keeper:
        yield from worker.work(claims, engine, keeper, artifacts, wait=wait, before=take_share if sharing else None)


@dataclass(frozen=True, slots=True)
class Limits:
    """When a worker leaves although there is more to do."""

    max_trials: int | None = None
    exit_when_idle: bool = False


def serve(
    database: Database, name: str | None, here: Here, artifacts: str | None, leave: Leave, limits: Limits
) -> Generator[tuple[Study, Event]]:
    """Work on a study until its budget is used up; without a name on every open study, and wait for new ones.

    Raises:
        LrsearchError: the study cannot be worked on here; without a name such a study is left to others.
    """
    leftovers.sweep(database)
    ended, refused = 0, set[str]()
    prepared: tuple[str, Engine] | None = None
    idle = 0.0
    while not leave.asked:
        worked = False
        for study in _to_serve(database, name, refused):
            try:
                studies.check_version(study)
                store = filing.artifacts_of(study, artifacts)
                key = study.spec.identity_hash()
                if prepared is None or prepared[0] != key:
                    prepared = None
                    prepared = key, prepare(study.spec, here)
            except LrsearchError as error:
                if name is not None:
                    raise
                log.warning("%s; this worker leaves the study '%s' to others", error, study.name)
                refused.add(study.id)
                continue
            engine = prepared[1]
            wait = name is not None and not limits.exit_when_idle
            with closing(search(study, engine, store, leave, wait=wait, share_cores=here.threads is None)) as events:
                for event in events:
                    worked = worked or isinstance(event, TrialStarted)
                    if isinstance(event, SearchEnded) and event.reason in _OVER:
                        test_winner(study, engine, store)
                    yield study, event
                    ended += isinstance(event, TrialEnded)
                    if limits.max_trials is not None and ended >= limits.max_trials:
                        return
        if name is not None or (limits.exit_when_idle and not worked):
            return
        idle = 0.0 if worked else min(idle + IDLE_STEP_SECONDS, worker.WAIT_SECONDS)
        leave.wait(idle)


def _to_serve(database: Database, name: str | None, refused: Collection[str]) -> Iterator[Study]:
    if name is not None:
        yield studies.get(database, name)
        return
    for known in studies.names(database):
        study = studies.find(database, known)
        if study is not None and study.id not in refused and study.is_open():
            yield study


def test_winner(study: Study, engine: Engine, artifacts: Artifacts) -> tuple[Trial, TestResult] | None:
    """Judge the best trial on the test images, by its kept weights or trained once more, and keep the result.

    Returns None without a complete trial, or when the winner has been judged before.
    """
    winner = best(study.trials(), study.spec.objective.direction)
    if winner is None or winner.test_accuracy is not None:
        return None
    result = engine.test(winner.config, worker.kept_weights(study, winner, artifacts))
    if not isinstance(result, TestResult):
        return None
    study.record_test(winner.number, result.test_loss, result.test_accuracy)
    return winner, result
