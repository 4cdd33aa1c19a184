"""One run: open, prepare, attend, judge the winner once, close. What every entry calls: command line, processes, API.

PyTorch is imported where images are loaded, so that what is wrong before is said at once.
"""

import logging
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lrsearch import cores, given, loading
from lrsearch.errors import LrsearchError
from lrsearch.events import EndReason, Event, SearchEnded, TrialEnded, TrialStarted
from lrsearch.own_code import OwnCodeError
from lrsearch.spec.study import StudySpec
from lrsearch.store import at_work, confirmations, filing, judging, leftovers, opening, portfolio, storage
from lrsearch.store import study as studies
from lrsearch.store.artifacts import Artifacts
from lrsearch.store.claims import Claims
from lrsearch.store.keeper import Keeper, Leave
from lrsearch.store.places import Place
from lrsearch.store.storage import Database
from lrsearch.store.study import Study
from lrsearch.strategy.strategy import ConfirmOnly

if TYPE_CHECKING:
    from lrsearch.training.engine import Engine
    from lrsearch.training.serial import SerialEngine

log = logging.getLogger(__name__)

IDLE_STEP_SECONDS = 0.5
NOT_OVER = (EndReason.LEFT, EndReason.HELD_ELSEWHERE)
"""Ends of a worker that are none of the search: others train on, or will."""

Doing = Callable[[str], AbstractContextManager[object]]
"""Shows, as long as the block lasts, what is being done."""


def _silently(what: str) -> AbstractContextManager[object]:
    del what
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Here:
    """What this process trains with."""

    device: str = "auto"
    threads: int | None = None
    """CPU threads; None: this process's share of the cores, looked at anew before each trial."""
    data_dir: Path | None = None
    progress: bool = True
    """Whether a download may show its progress on stderr."""


def prepare(spec: StudySpec, here: Here, doing: Doing = _silently) -> "Engine":
    """Load the images onto the device, or find a person's own loop.

    Raises:
        DeviceError: there is no such device.
        DataError: the images are missing or corrupt, or not those that the study was filed with.
    """
    with doing("loading PyTorch"):
        loading.load_pytorch()
    from lrsearch import worker

    what = f"loading {given.short(spec.dataset.name)}" if spec.loop is None else f"trying {given.short(spec.loop.name)}"
    with doing(what):
        return worker.build_engine(
            spec, device_name=here.device, threads=here.threads, data_dir=here.data_dir, progress=here.progress
        )


def prepare_images(spec: StudySpec, here: Here, doing: Doing = _silently) -> "SerialEngine":
    """Load the images onto the device, to do more with them than to search.

    Raises:
        UsageError: the study has none: its trainings are a person's own loop.
        DeviceError: there is no such device.
        DataError: the images are missing or corrupt, or not those that the study was filed with.
    """
    spec.check_has_images()
    engine = prepare(spec, here, doing)
    from lrsearch.training.serial import SerialEngine

    assert isinstance(engine, SerialEngine)
    return engine


def known(spec: StudySpec, here: Here, doing: Doing = _silently) -> StudySpec:
    """Return the spec with what must be known of it to be filed: a person's own pictures and model are looked at.

    Raises:
        LrsearchError: they cannot be trained, in a sentence.
    """
    if spec.is_known:
        return spec
    return spec.fitted(prepare(spec, replace(here, device="cpu"), doing).facts)


@dataclass(slots=True)
class Session:
    """A study that this process can work on: filed or found, its images loaded."""

    study: Study
    """With what is filed of it meanwhile."""
    engine: "Engine"
    artifacts: Artifacts
    share_cores: bool = False
    """Whether the threads of each trial are this worker's share of the cores when it begins."""

    def __post_init__(self) -> None:
        """Make sure that the images are the study's, and file what they are where nobody has.

        Raises:
            DataError: they are not.
            DeviceError: the device of this process cannot compute as is filed.
        """
        self.study = self.study.measured(self.engine.facts)
        self._settle()

    def _settle(self) -> None:
        """File how trainings compute where that is found here, and compute as it is filed.

        Raises:
            DeviceError: the device of this process cannot.
        """
        from lrsearch import worker

        self.study = worker.settle(self.study, self.engine)

    def attend(self, leave: Leave | None = None, *, wait: bool = False, only_confirm: bool = False) -> Generator[Event]:
        """Train trials until the budget is used up, then have the winner judged on the test images, once per study.

        Args:
            leave: whether to leave.
            wait: whether to stay for what others train.
            only_confirm: whether to train for a confirmation and to search no further.
        """
        from lrsearch import worker
        from lrsearch.training import device

        study, engine = self.study, self.engine
        strategy = ConfirmOnly() if only_confirm else None
        claims = Claims(study, portfolio.initial(study.spec), engine.device, engine.versions, strategy)

        def take_share() -> None:
            others = at_work.on_this_machine(study.database, without=claims.worker)
            own_loop = study.spec.loop is not None
            n_workers = len(others) + 1
            device.set_threads(
                cores.share(n_workers) if own_loop else device.threads_for(study.spec.model.name, n_workers)
            )
            claims.device = engine.device

        sharing = self.share_cores and at_work.threads_of(engine.device) is not None
        leave = leave or Leave()
        with Keeper(claims, leave) as keeper:
            before = take_share if sharing else None
            events = worker.work(claims, engine, keeper, self.artifacts, wait=wait, before=before)
            with closing(events):
                for event in events:
                    self._settle()  # memory may have run out meanwhile
                    if isinstance(event, SearchEnded) and event.reason not in NOT_OVER:
                        self.judge_winner(claims.worker, leave)
                    yield event

    def judge_winner(self, by: str = "", leave: Leave | None = None) -> int | None:
        """Judge the best trial on the test images, by its kept weights or trained once more, and keep the result.

        Of all workers that see the end of a study one does it: the last that has nothing in hand.

        Args:
            by: the id of this worker, if it is one.
            leave: whether to leave.

        Returns:
            the number of the trial; None where there is nothing to judge, or somebody else does or did it, or this
            process is asked to leave meanwhile.
        """
        from lrsearch import worker
        from lrsearch.training.engine import TestResult

        if self.study.spec.loop is not None:
            return None  # only the loop knows its test set
        turn = judging.take_turn(self.study, by)
        if turn is None:
            return None
        result = None
        try:
            winner = self.study.trial(turn.number)
            if winner is not None:
                weights = worker.kept_weights(self.study, winner, self.artifacts)
                result = self.engine.test(winner.config, weights, None if leave is None else worker.Leaving(leave))
        finally:
            tested = result if isinstance(result, TestResult) else None
            scores = None if tested is None else (tested.test_loss, tested.test_accuracy, tested.test_score)
            judging.end_turn(self.study, turn, scores, () if tested is None else tested.test_right)
        return None if tested is None else turn.number


@contextmanager
def filed(
    spec: StudySpec,
    place: Place,
    here: Here,
    *,
    artifacts: str | None = None,
    explicit_budget: bool = False,
    explicit_workers: bool = False,
    only_confirm: bool = False,
    doing: Doing = _silently,
) -> Iterator[Session]:
    """File a study, or find it again, with its images loaded; what cannot be run is refused before that.

    Args:
        spec: the study.
        place: the database.
        here: what to train with.
        artifacts: the artifact store that is asked for; None: that of the study, or the default.
        explicit_budget: whether the budget was asked for, and is not only the file's.
        explicit_workers: likewise of the settings of the workers.
        only_confirm: whether nothing is searched.
        doing: shows what is being done.

    Raises:
        LrsearchError: the study cannot be run here, in a sentence.
    """
    if spec.is_known:
        filing.check(spec, place)
    engine = prepare(spec, here, doing)
    if not spec.is_known:
        spec = spec.fitted(engine.facts)
        filing.check(spec, place)
    study = filing.file_study(
        spec,
        place,
        explicit_budget=explicit_budget,
        explicit_workers=explicit_workers,
        artifacts=artifacts,
        only_confirm=only_confirm,
    )
    with closing(study.database):
        yield Session(study, engine, filing.artifacts_of(study, artifacts), share_cores=here.threads is None)


@contextmanager
def joined(
    place: Place, name: str, here: Here, *, artifacts: str | None = None, reached_before: bool = True
) -> Iterator[Session]:
    """Find a study that somebody else has filed, with its images loaded.

    Args:
        place: the database.
        name: of the study.
        here: what to train with.
        artifacts: the artifact store that is asked for; None: that of the study, or the default.
        reached_before: False where the database may be out of this machine's reach: that is said at once, while a
            database that has been reached before is waited for.

    Raises:
        LrsearchError: the study cannot be worked on here, in a sentence.
    """
    if not reached_before:
        opening.check_new(place)
    with closing(Database(place, storage.PATIENCE_SECONDS)) as database:
        study = studies.get(database, name)
        studies.check_version(study)
        store = filing.artifacts_of(study, artifacts)
        yield Session(study, prepare(study.spec, here), store, share_cores=here.threads is None)


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
    from lrsearch import worker

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
                session = Session(study, prepared[1], store, share_cores=here.threads is None)
                events = session.attend(leave, wait=name is not None and not limits.exit_when_idle)
            except LrsearchError as error:
                if name is not None:
                    raise
                log.warning("%s; this worker leaves the study '%s' to others", error, study.name)
                refused.add(study.id)
                continue
            try:
                with closing(events):
                    for event in events:
                        worked = worked or isinstance(event, TrialStarted)
                        yield study, event
                        ended += isinstance(event, TrialEnded)
                        if limits.max_trials is not None and ended >= limits.max_trials:
                            return
            except OwnCodeError as error:
                if name is not None:
                    raise
                log.warning("%s; this worker leaves the study '%s' to others", error, study.name)
                refused.add(study.id)
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
        if study is not None and study.id not in refused and confirmations.is_open(study):
            yield study
