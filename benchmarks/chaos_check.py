"""What must hold after any kill: read from the database and from the workers' logs, and held against each other.

``Evidence`` is what is looked at, ``violations`` says what does not hold, a sentence each: none, and nothing was lost.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState

from lrsearch.analysis.ranking import best
from lrsearch.spec.study import StudySpec
from lrsearch.store import health
from lrsearch.store.homes import OPTUNA_STATES
from lrsearch.store.study import Study
from lrsearch.store.tables import SLOT_ATTR, epochs, interruptions, leases, moves, slots, trunks
from lrsearch.trial import Reason, State, Trial, TrialConfig

MARK = "chaos:"
"""How the lines begin that the run itself writes into a worker's log."""

STARTED = re.compile(r"^([\d.]+)s > trial (\d+) (.*)$")
RESUMED = re.compile(r"[( ]resumed[,)]")
EPOCH = re.compile(r"^[\d.]+s \. (\d+) epoch (\d+)/\d+( again)? ")
ENDED = re.compile(r"^[\d.]+s [<x!?] (\d+) ")
INTERRUPTED = re.compile(r"^[\d.]+s ~ (\d+) ([a-z ]+): ")
BEGUN = re.compile(r"^chaos: begun ([\d.]+)$", re.MULTILINE)
"""Written by whoever starts a worker: the time of day [seconds] at which its clock stands at nought."""

AT_HOME = re.compile(r"^chaos: home (\d+) attempt (\d+)$")
STRUCK = re.compile(r"^chaos: struck (\{.*\})$", re.MULTILINE)

Measured = tuple[float | None, ...]
"""An epoch: step, lr and everything that was measured but its seconds; not finite is None, as the tables keep it."""

MEASURED = (
    "epoch",
    "step",
    "lr",
    "train_loss",
    "val_loss",
    "val_accuracy",
    "averaged_val_loss",
    "averaged_val_accuracy",
)


TOLD = {"told complete": "COMPLETE", "told pruned": "PRUNED", "told failed": "FAIL"}
"""Optuna's name of the state that another program told."""


@dataclass(frozen=True)
class Strike:
    """What another program did to a study."""

    to: str = ""
    """The study that it made, or in which it told."""
    kept: tuple[int, ...] | None = None
    """Of a renaming: the numbers of the trials that are under the new name."""
    home: int | None = None
    """Of a renaming: Optuna's id of the study that was copied and deleted."""
    told: int | None = None
    """The number of the trial whose ending it told; None where none ran."""
    rows: dict[str, list[str]] = field(default_factory=dict)
    """All rows of the study that it made, right after, by table."""
    act: str = ""
    moment: str = ""
    """What the worker was at that it fell on."""
    began: float = 0.0
    ended: float = 0.0
    """[seconds since 1970]"""


@dataclass
class Attempt:
    """A worker's attempt at a trial, as its log tells it."""

    number: int
    resumed: bool
    at: float
    """Seconds of the day or of the worker's life, by its log."""
    epochs: list[tuple[int, bool]] = field(default_factory=list)
    """(epoch, whether it was trained again)."""
    ended: bool = False
    interrupted: str | None = None
    home: int | None = None
    """Optuna's id of the study in which it began."""
    nth: int | None = None
    """How manieth attempt at its trial it is, as the tables count them; None where the log does not say."""


@dataclass
class Worker:
    """A worker process that is over."""

    name: str
    """``host:pid``, as the tables name it."""
    text: str
    """Its stderr."""
    exit_code: int
    killed: str | None = None
    """At which moment it was killed; None for one that was let live."""
    paused: str | None = None
    """At which moment it was stopped for longer than its lease, or cut off."""
    gone_at: float | None = None
    """When it was killed, stopped or cut off [seconds since 1970]."""

    @cached_property
    def beaten(self) -> set[int]:
        """The trials that had ended when another program told how: it had looked before, or at a copy of before.

        On SQLite Optuna asks whether a trial runs, and overwrites in another transaction how it ended.
        """
        over = {row["number"]: row["ended_at"].replace(tzinfo=UTC).timestamp() for row in self.slots if row["ended_at"]}
        return {
            strike.told
            for strike in self.strikes
            if strike.told is not None
            and strike.told not in self.told
            and over.get(strike.told, strike.ended) < strike.ended
        }

    @cached_property
    def attempts(self) -> list[Attempt]:
        """The attempts, the first first."""
        begun = BEGUN.search(self.text)
        since = float(begun.group(1)) if begun else 0.0
        out: list[Attempt] = []
        home = nth = None
        for line in self.text.splitlines():
            if found := AT_HOME.match(line):
                home, nth = int(found[1]), int(found[2])
            elif found := STARTED.match(line):
                resumed = RESUMED.search(found[3]) is not None
                out.append(Attempt(int(found[2]), resumed, since + float(found[1]), home=home, nth=nth))
            elif found := EPOCH.match(line):
                _of(out, int(found[1])).epochs.append((int(found[2]), found[3] is not None))
            elif found := ENDED.match(line):
                _of(out, int(found[1])).ended = True
            elif found := INTERRUPTED.match(line):
                _of(out, int(found[1])).interrupted = found[2]
        return out


def struck(text: str) -> list[Strike]:
    """Return what a log says that other programs did."""
    found = [json.loads(line) for line in STRUCK.findall(text)]
    return [Strike(**one | {"kept": None if one["kept"] is None else tuple(one["kept"])}) for one in found]


def _of(attempts: Sequence[Attempt], number: int) -> Attempt:
    assert attempts, f"the log speaks of trial {number} before it starts one"
    assert attempts[-1].number == number, f"the log speaks of trial {number} within trial {attempts[-1].number}"
    return attempts[-1]


@dataclass(frozen=True)
class Repeated:
    """What a training of a trial's configuration without interruption, in one process, came to."""

    epochs: tuple[Measured, ...]
    weights_sha256: str
    diverged: tuple[int, float] | None
    """Step and learning rate."""


@dataclass
class Evidence:
    """A study whose budget is used up, and everyone who worked on it."""

    spec: StudySpec
    slots: list[dict[str, Any]]
    epochs: list[dict[str, Any]]
    interruptions: list[dict[str, Any]]
    n_leases: int
    optuna: list[FrozenTrial]
    trials: list[Trial]
    files: list[str]
    """Names in the folder of artifacts."""
    workers: list[Worker]
    strikes: list[Strike]
    """What other programs did to the study, the first first."""
    damage: list[str]
    """What `doctor` finds wrong."""
    repeated: Mapping[int, Repeated] = field(default_factory=dict)
    """By the number of the trial; of every trial that was interrupted, paused or branched off."""
    moves: list[dict[str, Any]] = field(default_factory=list)
    """What a strategy wrote down of the trials that it began, let stand still and went on with, in order."""
    n_trunks: int = 0
    """States that are still kept for others to go on from."""

    @property
    def budget(self) -> int:
        """Trials that are to end complete, pruned or diverged; of a budget of trainings, as many as have."""
        return len(self.finished) if self.spec.budget.trials is None else self.spec.budget.trials

    @property
    def finished(self) -> list[dict[str, Any]]:
        """The slots whose trials have ended complete, pruned or diverged."""
        return [row for row in self.slots if row["state"] == "ended" and State(row["outcome"]).counts]

    @cached_property
    def shared(self) -> dict[int, int]:
        """By the number of a trial, the epochs that it has of another one, from whose state it went on."""
        return {row["number"]: row["shared_epochs"] or 0 for row in self.slots}

    @cached_property
    def number_of(self) -> dict[str, int]:
        """A trial's number by its slot."""
        return {row["id"]: row["number"] for row in self.slots}

    @cached_property
    def told(self) -> dict[int, str]:
        """The trials that ended because another program told so, with how it told, by number."""
        how = {strike.told: TOLD[strike.act] for strike in self.strikes if strike.told is not None}
        mine = (row["number"] for row in self.slots if row["reason"] == Reason.TOLD_ELSEWHERE)
        return {number: how.get(number, "nobody's") for number in mine}

    @cached_property
    def beaten(self) -> set[int]:
        """The trials that had ended when another program told how: it had looked before, or at a copy of before.

        On SQLite Optuna asks whether a trial runs, and overwrites in another transaction how it ended.
        """
        over = {row["number"]: row["ended_at"].replace(tzinfo=UTC).timestamp() for row in self.slots if row["ended_at"]}
        return {
            strike.told
            for strike in self.strikes
            if strike.told is not None
            and strike.told not in self.told
            and over.get(strike.told, strike.ended) < strike.ended
        }

    @cached_property
    def attempts(self) -> list[tuple[Worker, Attempt]]:
        """The attempts at trials that the study has.

        Whoever renames copies, and deletes what was copied: a trial that began between the two is lost, and another one
        may bear its number now.
        """
        return [(worker, one) for worker in self.workers for one in worker.attempts if not self._is_gone(one)]

    def _is_gone(self, one: Attempt) -> bool:
        return any(
            one.home == strike.home
            for strike in self.strikes
            if strike.kept is not None and one.number not in strike.kept
        )

    def to_repeat(self) -> dict[int, TrialConfig]:
        """Return the settings of the trials that were taken up more than once, or went on from another, by number."""
        taken_up = {row["number"] for row in self.slots if row["attempts"] > 1 or row["shared_epochs"]}
        return {t.number: t.config for t in self.trials if t.number in taken_up or t.interruptions}


EXPECTED = ("copies", "artifacts", "disk of the database", "workers")
"""What `doctor` may have something to say of after a run: copies, and files that a kill has left."""


def read(study: Study, folder: Path, workers: list[Worker], strikes: Iterable[Strike] = ()) -> Evidence:
    """Read what a study left behind."""
    found = health.examine(study.database.place, str(folder), fix=False)

    def rows(connection: sa.Connection, table: sa.Table) -> list[dict[str, Any]]:
        mine = sa.select(table).where(table.c.study_id == study.id)
        return [dict(row._mapping) for row in connection.execute(mine)]  # noqa: SLF001 - it is public

    with study.database.reading() as connection:
        tables = [rows(connection, table) for table in (slots, epochs, interruptions, leases)]
        steps = sorted(rows(connection, moves), key=lambda row: (row["slot_id"], row["n"]))
        n_trunks = len(rows(connection, trunks))
    files = [path.name for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
    return Evidence(
        study.spec,
        tables[0],
        tables[1],
        tables[2],
        len(tables[3]),
        study.frozen_trials(),
        study.trials(),
        files,
        workers,
        sorted(strikes, key=lambda strike: strike.ended),
        [f"{check.subject}: {check.said}" for check in found if check.level != "ok" and check.subject not in EXPECTED],
        moves=steps,
        n_trunks=n_trunks,
    )


def measured(epoch: Any) -> Measured:
    """Return what an epoch measured in the form that is compared exactly."""
    values = [getattr(epoch, name) for name in MEASURED]
    return tuple(None if v is None or v - v != 0 else v for v in values)


def violations(seen: Evidence) -> list[str]:
    """Return what does not hold, a sentence each."""
    checks = (
        *(_budget, _optuna, _strangers, _endings, _accepted, _repeated_work, _places, _uninterrupted, _files),
        _processes,
    )
    return [sentence for check in checks for sentence in check(seen)]


def _budget(seen: Evidence) -> Iterator[str]:
    """Exactly the budget, and nobody holds or has begun anything else."""
    open_now = [row for row in seen.slots if row["state"] != "ended"]
    if open_now:
        yield f"{len(open_now)} slots have not ended: {[(r['number'], r['state']) for r in open_now]}"
    if len(seen.finished) != seen.budget:
        yield f"{len(seen.finished)} trials are complete, pruned or diverged, and the budget is {seen.budget}"
    if seen.n_leases:
        yield f"{seen.n_leases} leases are held although the budget is used up"
    winner = best(seen.trials, seen.spec.metric.direction)
    if winner is not None and winner.test_accuracy is None:
        yield f"the winner, trial {winner.number}, was not judged on the test images"
    positions = sorted(row["position"] for row in seen.slots)
    if positions != list(range(len(positions))):
        yield f"the slots' positions are {positions}"


def _optuna(seen: Evidence) -> Iterator[str]:
    """Optuna's tables say the same as ours."""
    states = Counter(trial.state.name for trial in seen.optuna)
    of_others = {
        trial.number for trial in seen.optuna if trial.number in seen.beaten and trial.state == TrialState.FAIL
    }
    over = (
        states["COMPLETE"]
        + states["PRUNED"]
        + len(of_others)
        - sum(how in ("COMPLETE", "PRUNED") for how in seen.told.values())
    )
    if over != seen.budget:
        yield f"Optuna knows {over} complete or pruned trials, and the budget is {seen.budget}: {dict(states)}"
    for state in ("RUNNING", "WAITING"):
        if states[state]:
            yield f"Optuna knows {states[state]} trials that are {state}"
    numbers = sorted(trial.number for trial in seen.optuna)
    if numbers != list(range(len(numbers))):
        yield f"Optuna's trial numbers are {numbers}"
    by_slot = {str(trial.user_attrs.get(SLOT_ATTR)): trial for trial in seen.optuna}
    if len(by_slot) != len(seen.optuna):
        yield f"{len(seen.optuna)} trials of Optuna's share {len(by_slot)} slots"
    scores: dict[str, dict[int, float | None]] = {}
    for row in seen.epochs:
        scores.setdefault(row["slot_id"], {})[row["epoch"]] = row["rung_score"]
    for row in seen.slots:
        trial = by_slot.get(row["id"])
        if trial is None or trial.number != row["number"]:
            yield f"the slot of trial {row['number']} has {'no trial' if trial is None else trial.number} in Optuna"
            continue
        if trial.number in seen.beaten:
            continue
        mine = seen.told.get(trial.number) or (row["outcome"] and OPTUNA_STATES[State(row["outcome"])].name)
        if mine not in (None, trial.state.name):
            theirs = trial.state.name
            yield f"trial {trial.number} is {row['outcome']} in our table and {theirs} in Optuna's, not {mine}"
        if trial.state == TrialState.COMPLETE and trial.value != row["value"] and trial.number not in seen.told:
            yield f"trial {trial.number} has the value {row['value']} in our table and {trial.value} in Optuna's"
        scored = {e: None if v - v != 0 else v for e, v in trial.intermediate_values.items()}
        if scored != scores.get(row["id"], {}):
            yield f"trial {trial.number} has the scores {scores.get(row['id'])} in our table and {scored} in Optuna's"


def _strangers(seen: Evidence) -> Iterator[str]:
    """What another program told is the end of that trial, which does not count; nothing else is damaged."""
    told = {strike.told for strike in seen.strikes if strike.told is not None} - seen.beaten
    for number in sorted(seen.told.keys() - told):
        yield f"trial {number} is said to have been told elsewhere, and nobody did"
    for number in sorted(told - seen.told.keys()):
        yield f"another program told how trial {number} ended, and our table does not say so"
    for row in seen.slots:
        if row["number"] in seen.told and row["outcome"] != State.FAILED:
            yield f"trial {row['number']} was told elsewhere, and is {row['outcome']}"
    for finding in seen.damage:
        yield f"doctor finds {finding}"


def _endings(seen: Evidence) -> Iterator[str]:
    """One accepted ending per trial, told by the worker whom our table names; unless it was killed before the line."""
    told: dict[int, list[Worker]] = {}
    for worker, attempt in seen.attempts:
        if attempt.ended:
            told.setdefault(attempt.number, []).append(worker)
    by_name = {worker.name: worker for worker in seen.workers}
    for row in seen.slots:
        tellers = [worker.name for worker in told.pop(row["number"], [])]
        last = by_name.get(row["worker"])
        if len(tellers) > 1:
            yield f"trial {row['number']} has ended {len(tellers)} times: {tellers}"
        elif tellers and tellers != [row["worker"]]:
            yield f"{tellers[0]} told the end of trial {row['number']}, and the table says {row['worker']}"
        elif row["number"] in seen.told:
            continue  # by whoever claimed next, in words
        elif row["reason"] == Reason.PAUSED:
            if tellers:
                yield f"{tellers[0]} told the end of trial {row['number']}, which ended because it stood still"
        elif not tellers and row["state"] == "ended" and (last is None or last.killed is None):
            yield f"nobody told the end of trial {row['number']}, and its worker {row['worker']} was not killed"
    if told:
        yield f"the end of trials that nobody knows was told: {sorted(told)}"


def _accepted(seen: Evidence) -> Iterator[str]:
    """Every accepted epoch is in the table, and was accepted once; who was hit may not have come to say so."""
    by: Counter[tuple[int, int]] = Counter(
        (attempt.number, epoch) for _, attempt in seen.attempts for epoch, again in attempt.epochs if not again
    )
    for (number, epoch), n in sorted(by.items()):
        if n > 1:
            yield f"epoch {epoch} of trial {number} was accepted {n} times"
    kept = {
        (number, row["epoch"])
        for row in seen.epochs
        if row["epoch"] > seen.shared[number := seen.number_of[row["slot_id"]]]
    }
    for number, epoch in sorted(by.keys() - kept):
        yield f"epoch {epoch} of trial {number} was accepted and is not in the table"
    hit = sum(worker.killed is not None or worker.paused is not None for worker in seen.workers)
    silent = sorted(kept - by.keys())
    if len(silent) > hit:
        yield f"{len(silent)} epochs are in the table and in no log, and {hit} workers were hit: {silent}"
    for trial in seen.trials:
        found = [row.epoch for row in trial.metrics]
        if found != list(range(1, len(found) + 1)):
            yield f"trial {trial.number} has the epochs {found}"
        if trial.state == State.COMPLETE and len(found) != seen.spec.epochs:
            yield f"trial {trial.number} is complete with {len(found)} of {seen.spec.epochs} epochs"


def repeated_epochs(seen: Evidence) -> list[tuple[int, int, float]]:
    """Return (trial, attempt, accepted epochs that must be trained again) of every interruption."""
    configs = {trial.number: trial.config for trial in seen.trials}
    out = []
    for row in seen.interruptions:
        number = seen.number_of[row["slot_id"]]
        steps = seen.spec.steps_per_epoch(configs[number].batch_size)
        kept = max(row["step"] / steps, seen.shared[number])
        out.append((number, row["attempt"], max(0.0, row["epoch"] - kept)))
    return out


def _repeated_work(seen: Evidence) -> Iterator[str]:
    """At most one checkpoint interval, which is an epoch here, is trained again per interruption."""
    for number, attempt, n in repeated_epochs(seen):
        if n > 1:
            yield f"attempt {attempt} at trial {number} was {n:.2f} epochs ahead of its checkpoint when it was lost"
    for worker, one in seen.attempts:
        again = [epoch for epoch, repeated in one.epochs if repeated]
        if len(again) > 1:
            yield f"{worker.name} trained the epochs {again} of trial {one.number} again"
    for worker in seen.workers:
        for words in ("it starts again", "is not in", "checkpoint of another"):
            for line in (line for line in worker.text.splitlines() if words in line):
                yield f"{worker.name} could not use a checkpoint: {line}"


def _places(seen: Evidence) -> Iterator[str]:
    """Every attempt after the first goes on where the checkpoint that was noted before it left off."""
    if seen.spec.strategy is not None:
        return  # chaos_moves.py knows which attempts ended by a pause
    before = {(seen.number_of[row["slot_id"]], row["attempt"]): row for row in seen.interruptions}
    final = {row["number"]: (row["worker"], row["attempts"]) for row in seen.slots}
    configs = {trial.number: trial.config for trial in seen.trials}
    whose: dict[tuple[str, int], list[int]] = {}
    for (number, attempt), row in sorted(before.items()):
        whose.setdefault((row["worker"], number), []).append(attempt)
    for number, (worker, attempt) in final.items():
        whose.setdefault((worker, number), []).append(attempt)
    for worker in seen.workers:
        seen_so_far: Counter[int] = Counter()
        for one in (attempt for whose_it_is, attempt in seen.attempts if whose_it_is is worker):
            mine = whose.get((worker.name, one.number), [])
            if one.number in seen.told:
                continue  # its row names whoever found it told, and the attempt that was told is in no table
            nth = seen_so_far[one.number]
            seen_so_far[one.number] += 1
            if nth >= len(mine):
                yield f"{worker.name} started trial {one.number} {nth + 1} times, and the tables know of {len(mine)}"
                continue
            attempt = mine[nth]
            earlier = [a for n, a in before if n == one.number and a < attempt]
            if one.resumed != bool(earlier):
                yield f"attempt {attempt} at trial {one.number} says resumed={one.resumed} after {len(earlier)} others"
            if not earlier or not one.epochs or one.interrupted == "lost":
                continue
            steps = seen.spec.steps_per_epoch(configs[one.number].batch_size)
            expected = before[one.number, max(earlier)]["step"] // steps + 1
            if one.epochs[0][0] != expected:
                yield (
                    f"attempt {attempt} at trial {one.number} went on with epoch {one.epochs[0][0]}, "
                    f"and its checkpoint stands in epoch {expected}"
                )


def _uninterrupted(seen: Evidence) -> Iterator[str]:
    """What was interrupted came to the same as what was not, bit for bit."""
    for number in sorted(seen.to_repeat().keys() - seen.repeated.keys()):
        yield f"trial {number} was interrupted and has not been repeated"
    trials = {trial.number: trial for trial in seen.trials}
    for number, repeated in seen.repeated.items():
        trial = trials[number]
        found = tuple(measured(row) for row in trial.metrics)
        if found != repeated.epochs[: len(found)]:
            k = next(i for i, row in enumerate(found) if repeated.epochs[i : i + 1] != (row,))
            yield f"trial {number} measured {found[k]} in epoch {k + 1}, uninterrupted {repeated.epochs[k : k + 1]}"
        if trial.state == State.COMPLETE and trial.weights_sha256 != repeated.weights_sha256:
            yield f"the weights of trial {number} are {trial.weights_sha256}, uninterrupted {repeated.weights_sha256}"
        if trial.state == State.DIVERGED and trial.outcome is not None and repeated.diverged is not None:
            where = trial.outcome.step, trial.outcome.lr
            if where != repeated.diverged:
                yield f"trial {number} diverged at {where}, uninterrupted at {repeated.diverged}"
        if (trial.state == State.DIVERGED and repeated.diverged is None and len(repeated.epochs) != len(found)) or (
            trial.state == State.COMPLETE and repeated.diverged is not None
        ):
            yield f"trial {number} is {trial.state}, uninterrupted it comes to {repeated.diverged or 'its end'}"


def left_files(seen: Evidence) -> list[str]:
    """Return the artifacts that no row names."""
    named = {row[key] for row in seen.slots for key in ("checkpoint", "weights")}
    return [name for name in seen.files if name not in named]


def _files(seen: Evidence) -> Iterator[str]:
    """The best trial's weights are there; a kill leaves at most two files behind that nobody knows."""
    redrawn = sum(len(worker.attempts) for worker in seen.workers) - len(seen.attempts)
    best = [row["weights"] for row in seen.slots if row["weights"] is not None]
    # A renaming may lose the best trial, after which the weights of the second best are gone too.
    least = 0 if redrawn else 1
    if not least <= len(best) <= 1 and any(trial.state == State.COMPLETE for trial in seen.trials):
        yield f"the weights of {len(best)} trials are kept"
    for name in best:
        if name not in seen.files:
            yield f"the kept weights {name} are not there"
    gone = sum(worker.killed is not None or worker.paused is not None for worker in seen.workers)
    left = left_files(seen)
    if len(left) > 2 * gone + redrawn:
        yield f"{len(left)} files are left that nobody knows, after {gone} kills and pauses and {redrawn} trials lost"


def _processes(seen: Evidence) -> Iterator[str]:
    """No traceback, no defect; who was not killed exited 0."""
    for worker in seen.workers:
        for words in ("Traceback", "defect of lrsearch", "Exception", "Error:"):
            if words in worker.text:
                yield f"the log of {worker.name} holds: {_line_with(worker.text, words)}"
                break
        expected = 0 if worker.killed is None else -9
        if worker.exit_code != expected:
            last = worker.text.strip().splitlines()[-1:]
            yield f"{worker.name} ({worker.killed or 'not killed'}) exited with {worker.exit_code}: {last}"


def _line_with(text: str, words: str) -> str:
    return next(line for line in text.splitlines() if words in line)
