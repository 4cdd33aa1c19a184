"""The whole way: a study in a SQLite file, one worker that claims, trains, reports and pauses, and a table that trains.

What it decides must be what the simulation with one worker decides: the same settings in the same order, pauses, ends
and goings-on at the same epochs.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from lrsearch import worker
from lrsearch.errors import DataError, UsageError
from lrsearch.events import Event, TrialEnded, TrialInterrupted, TrialStarted
from lrsearch.store import filing
from lrsearch.store.artifacts import Artifacts
from lrsearch.store.claims import Claims
from lrsearch.store.keeper import Keeper, Leave
from lrsearch.store.places import SqliteFile
from lrsearch.store.storage import Database
from lrsearch.training.engine import Attention, CheckpointError, Paused, TestResult
from lrsearch.trial import Divergence, EpochMetrics, Facts, Reason, TrialConfig
from replaying.product import Deciding
from replaying.simulated import Told
from replaying.tables import Answers, Curve, Table

STEPS = 100
"""Updates of an epoch, of which nobody knows here."""
FATES = {"complete": "complete", "diverged": "diverged", "pruned": "end"}
"""What the simulation calls a state."""


class TableEngine:
    """Trains by looking a training up in a table.

    Args:
        answers: the trainings of one replay.
        facts: of the study's images.
        maximize: whether scores are accuracies; otherwise losses.
    """

    device = "a table"
    versions = "a table"

    def __init__(self, answers: Answers, facts: Facts, *, maximize: bool) -> None:
        self._answers, self.facts, self._maximize = answers, facts, maximize
        self._curves: list[tuple[TrialConfig, Curve]] = []

    def start(
        self, config: TrialConfig, checkpoint: bytes | None = None, attention: Attention | None = None
    ) -> "TableTraining":
        """As ``Engine.start``; what was kept is the number of the training and its epochs."""
        del attention  # nothing is due between two look-ups
        if checkpoint is not None:
            kept = json.loads(checkpoint)
            known, curve = self._curves[kept["training"]]
            if known != config:
                raise CheckpointError("the checkpoint is that of another training")
            return TableTraining(config, curve, kept["training"], kept["epoch"], maximize=self._maximize)
        answer = self._answers.train(config, {})
        assert answer is not None
        self._curves.append((config, answer.curve))
        return TableTraining(config, answer.curve, len(self._curves) - 1, 0, maximize=self._maximize)

    def test(
        self, config: TrialConfig, weights: bytes | None = None, attention: Attention | None = None
    ) -> TestResult | Divergence | None:
        """As ``Engine.test``: a table keeps no weights, and has no images to judge any by.

        Raises:
            CheckpointError: always; a replay ends with the search, which asks for no test accuracy.
        """
        del config, weights, attention
        raise CheckpointError("a table of recorded trainings has no weights, and no images to judge any by")


class TableTraining:
    """A training that was recorded, told epoch by epoch."""

    def __init__(self, config: TrialConfig, curve: Curve, number: int, epoch: int, *, maximize: bool) -> None:
        self._config, self._curve, self._number, self._epoch = config, curve, number, epoch
        self._maximize = maximize

    def epochs(self) -> Iterator[EpochMetrics | Divergence | Paused]:
        """As ``Training.epochs``."""
        lr = self._config.optimizer.peak_lr
        while self._epoch < len(self._curve.scores):
            self._epoch += 1
            score = self._curve.scores[self._epoch - 1]
            accuracy, loss = (score, 1.0 - score) if self._maximize else (0.0, score)
            yield EpochMetrics(self._epoch, self._epoch * STEPS, lr, 1.0, loss, accuracy, None, None, 0.0)
        if self._curve.value is None:
            yield Divergence(self._epoch + 1, self._epoch * STEPS, lr, float("nan"), 1.0)

    def checkpoint(self) -> bytes:
        """As ``Training.checkpoint``."""
        return json.dumps({"training": self._number, "epoch": self._epoch}).encode()

    def weights(self) -> None:
        """As ``Training.weights``: there are none."""

    def validation_right(self) -> None:
        """As ``Training.validation_right``: nobody knows the images."""


def decisions(table: Table, deciding: Deciding, seed: int, n: int) -> tuple[list[Told], list[TrialConfig]]:
    """Return the first ``n`` decisions of a study that one worker trains by a table, and its settings, in order.

    Args:
        table: by which it trains.
        deciding: whose study and strategy are taken, and nothing that it remembers.
        seed: of the replay.
        n: the worker leaves after so many.

    Raises:
        UsageError: the table is a pool, whose answers are other settings than those that a worker asks for.
    """
    if table.is_pool:
        raise UsageError(f"--through-claims is for tables of learning rates, and '{table.name}' is a pool of settings")
    spec = deciding.spec
    log: list[Told] = []
    settings: list[TrialConfig] = []
    with TemporaryDirectory() as folder, closing(Database(SqliteFile(Path(folder) / "study.db"))) as database:
        study = filing.create(database, spec)
        engine = TableEngine(table.answers(seed), spec.facts, maximize=spec.metric.maximize)
        claims = Claims(study, deciding.initial, engine.device, engine.versions, deciding.strategy)
        artifacts = Artifacts(str(Path(folder) / "artifacts"))
        with Keeper(claims, Leave()) as keeper, closing(worker.work(claims, engine, keeper, artifacts)) as events:
            for event in events:
                _note(event, log, settings)
                if len(log) >= n:
                    break
    return log, settings


def _note(event: Event, log: list[Told], settings: list[TrialConfig]) -> None:
    match event:
        case TrialStarted(trial, resumed):
            if not resumed:
                settings.append(trial.config)
            log.append(Told(trial.number, len(trial.metrics), "go on" if resumed else "begin"))
        case TrialEnded(number, outcome):
            log.append(Told(number, outcome.epoch, FATES[outcome.state.value]))
        case TrialInterrupted(number, Reason.PAUSED, message):
            log.append(Told(number, int(message.rsplit(" ", 1)[1]), "pause"))
        case _:
            pass


def check(table: Table, deciding: Deciding, seed: int, log: Sequence[Told], settings: Sequence[TrialConfig]) -> None:
    """Make sure that a study in a SQLite file comes to the decisions that a simulation has come to.

    Args:
        table: by which it trains.
        deciding: whose study and strategy are taken.
        seed: of the replay.
        log: what was decided in the simulation, with one worker.
        settings: what was begun there, in order.

    Raises:
        DataError: it does not; with the first decision that differs.
    """
    claimed, trained = decisions(table, deciding, seed, len(log))
    for nth, (one, other) in enumerate(zip(log, claimed, strict=False), 1):
        if one != other:
            raise DataError(f"{table.name}, seed {seed}, decision {nth}: {one} simulated, {other} through claims")
    if len(log) > len(claimed):
        raise DataError(f"{table.name}, seed {seed}: the study ends after {len(claimed)} of {len(log)} decisions")
    if list(settings) != trained:
        raise DataError(
            f"{table.name}, seed {seed}: {settings} were trained in the simulation, {trained} through claims"
        )
