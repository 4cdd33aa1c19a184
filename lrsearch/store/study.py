"""Studies in a database: made, found, listed, read and deleted."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import sqlalchemy as sa
from optuna.trial import FrozenTrial
from pydantic import TypeAdapter, ValidationError

from lrsearch.errors import StorageError, UnknownNameError, UsageError, nearest
from lrsearch.events import EndReason, SearchEnded
from lrsearch.spec import parameters
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.spec.study import StudySpec, WorkersSpec
from lrsearch.store import budget as budgets
from lrsearch.store import homes, lease, moves, optuna_private, optuna_rows, progress, tables
from lrsearch.store.homes import SPEC_ATTR, Carrier, Home
from lrsearch.store.storage import Database
from lrsearch.store.tables import SLOT_ATTR
from lrsearch.text import shown
from lrsearch.trial import (
    Arithmetic,
    EpochMetrics,
    Facts,
    Interruption,
    Move,
    Outcome,
    Reason,
    Refused,
    Role,
    State,
    Trial,
)
from lrsearch.version import __version__

T = TypeVar("T")

_FACTS = TypeAdapter(Facts)


@dataclass(frozen=True, slots=True)
class Study:
    """A study that lies in a database."""

    database: Database
    id: str
    """Ours; Optuna's integer id is reused after a delete."""
    name: str
    spec: StudySpec
    home: Home
    copy_of: str | None = None
    """The name of the original, where another program made this copy; it is only read."""

    @property
    def optuna_id(self) -> int:
        """Optuna's, as it was last seen; see ``Home.check``."""
        return self.home.optuna_id

    def check_original(self) -> None:
        """Make sure that the study may be worked on.

        Raises:
            UsageError: it is a copy.
        """
        if self.copy_of is not None:
            raise UsageError(
                f"'{shown(self.name)}' is a copy of the study '{shown(self.copy_of)}' that another program made, and a "
                f"copy is only read: go on with '{shown(self.copy_of)}', or add a --name to start a study of its own"
            )

    def gone(self) -> UnknownNameError:
        """Return what is to be said where the study is there no more."""
        return UnknownNameError(f"the study '{self.spec.name}' has been deleted from {self.database.place}")

    def budget(self) -> BudgetSpec:
        """Return the budget as it stands now; it may have been raised since the spec was filed.

        Raises:
            UnknownNameError: the study has been deleted.
        """
        row = self.database.read(self._row)
        if row is None:
            raise self.gone()
        return budgets.of(row)

    def _row(self, connection: sa.Connection) -> sa.Row[Any] | None:
        return connection.execute(sa.select(tables.studies).where(tables.studies.c.id == self.id)).first()

    def set_budget(self, budget: BudgetSpec) -> None:
        """Change the budget for every worker of the study."""
        self.check_original()
        statement = tables.studies.update().where(tables.studies.c.id == self.id).values(**budgets.columns(budget))
        with self.database.writing() as connection:
            connection.execute(statement)

    def frozen_trials(self) -> list[FrozenTrial]:
        """Return Optuna's view of the trials."""
        return self.database.read(lambda connection: optuna_rows.news(connection, self.optuna_id, 0, []))

    def trials(self, *roles: Role) -> list[Trial]:
        """Return all trials of the search, or of these roles, that have been started, by number.

        What a person enqueued outside the space has no configuration and is none of them: see ``refused``.
        """
        read = self.database.read(lambda c: self._rows(c, optuna_rows.news(c, self.optuna_id, 0, [])))
        return [trial for trial in self._trials(read) if trial.role in (roles or (Role.SEARCH,))]

    def refused(self) -> list[Refused]:
        """Return what people enqueued outside the space, by number."""
        slots = tables.slots
        mine = sa.and_(slots.c.study_id == self.id, slots.c.reason == Reason.NOT_IN_SPACE.value)
        query = sa.select(slots.c.id, slots.c.number, slots.c.message).where(mine).order_by(slots.c.number)

        def work(connection: sa.Connection) -> list[tuple[Any, list[FrozenTrial]]]:
            rows = connection.execute(query).all()
            return [(row, optuna_rows.numbered(connection, self.optuna_id, row.number)) for row in rows]

        return [
            Refused(row.number, found.system_attrs.get(optuna_rows.FIXED_PARAMS_ATTR, {}), shown(row.message or ""))
            for row, of_number in self.database.read(work)
            for found in of_number
            if found.user_attrs.get(SLOT_ATTR) == row.id
        ]

    def trial(self, number: int) -> Trial | None:
        """Return one trial as ``trials`` has it, without reading the others; None where none has that number."""

        def work(connection: sa.Connection) -> "_Rows":
            return self._rows(connection, optuna_rows.numbered(connection, self.optuna_id, number), number)

        found = self._trials(self.database.read(work))
        return found[0] if found else None

    def _rows(self, connection: sa.Connection, frozen: list[FrozenTrial], number: int | None = None) -> "_Rows":
        """Read what there is of the trials that Optuna has, beside that; of the one with a number only."""
        slots, epochs, interruptions = tables.slots, tables.epochs, tables.interruptions
        mine = [table.c.study_id == self.id for table in (slots, epochs, interruptions)]
        if number is not None:
            of_number = sa.select(slots.c.id).where(mine[0], slots.c.number == number)
            for i, key in enumerate((slots.c.id, epochs.c.slot_id, interruptions.c.slot_id)):
                mine[i] = sa.and_(mine[i], key.in_(of_number))
        started = sa.select(slots).where(mine[0], slots.c.state != "reserved").order_by(slots.c.number)
        queries = (
            started,
            sa.select(epochs).where(mine[1]).order_by(epochs.c.epoch),
            sa.select(interruptions).where(mine[2]).order_by(interruptions.c.attempt),
        )
        rows, measured, ended = (connection.execute(query).all() for query in queries)
        why = {} if number is None else moves.of_slots(connection, [row.id for row in rows])
        return _Rows(frozen, rows, measured, ended, lease.held(connection, self.id), why)

    def _trials(self, read: "_Rows") -> list[Trial]:
        params = {str(t.user_attrs.get(SLOT_ATTR)): t.params for t in read.frozen}
        by_slot: dict[str, list[EpochMetrics]] = {}
        for row in read.epochs:
            by_slot.setdefault(row.slot_id, []).append(progress.metrics(row))
        before: dict[str, list[Interruption]] = {}
        for row in read.interruptions:
            before.setdefault(row.slot_id, []).append(progress.interruption(row))
        return [
            replace(
                _trial(self.spec, s, params[s.id], by_slot.get(s.id, ()), before.get(s.id, ()), held=s.id in read.held),
                moves=tuple(read.moves.get(s.id, ())),
            )
            for s in read.slots
            if s.id in params and s.reason != Reason.NOT_IN_SPACE
        ]

    @property
    def maximize(self) -> bool:
        """Whether a higher value is better."""
        return self.spec.metric.direction == "maximize"

    def with_workers(self, workers: WorkersSpec) -> "Study":
        """Change how the work is shared, for workers that start from now on; return the study as it then is."""
        self.check_original()
        spec = self.spec.model_copy(update={"workers": workers})
        self._write(lambda c: optuna_rows.set_study_attr(c, self.optuna_id, SPEC_ATTR, spec.to_json()))
        return replace(self, spec=spec)

    def stop(self, how: Literal["drain", "now"] | None) -> None:
        """Ask the workers to stop after their trials (``drain``) or at once (``now``); None lets them go on."""
        self.check_original()
        statement = tables.studies.update().where(tables.studies.c.id == self.id).values(stopped=how, stopped_why=None)
        with self.database.writing() as connection:
            connection.execute(statement)

    def enqueue(self, params: Mapping[str, Any]) -> int:
        """Have a setting tried before anything else, as ``optuna.Study.enqueue_trial`` does; return its number."""
        self.check_original()
        return self._write(lambda connection: optuna_rows.enqueue(connection, self.optuna_id, params))

    def _write(self, work: Callable[[sa.Connection], T]) -> T:
        """Do ``work`` in a transaction in which the study is where it is thought to be.

        Raises:
            UnknownNameError: it has been deleted.
        """

        def where_it_is(connection: sa.Connection) -> tuple[T] | None:
            there = budgets.lock(connection, self.id) is not None
            optuna_rows.lock_numbers(connection, self.optuna_id)
            return (work(connection),) if there and self.home.check(connection) else None

        done = self.database.write(where_it_is)
        if done is None:
            raise self.gone()
        return done[0]

    def is_open(self) -> bool:
        """Whether a worker would find something to search now."""
        return self.copy_of is None and self.database.read(self.ended) is None

    def ended(self, connection: sa.Connection) -> SearchEnded | None:
        """Return why a worker would find nothing to search now; None where it would."""
        row = self._row(connection)
        if row is None:
            return SearchEnded(EndReason.STOPPED, str(self.gone()))
        standing = budgets.standing(connection, self.id, row, self.spec.epochs)
        held = lease.held(connection, self.id)
        free = standing.open - len(self._of_search(connection, held))
        return standing.ended(interrupted=free > 0)

    def _of_search(self, connection: sa.Connection, held: set[str]) -> set[str]:
        mine = tables.slots.c.role == Role.SEARCH.value
        return set(connection.scalars(sa.select(tables.slots.c.id).where(tables.slots.c.id.in_(held), mine)))

    def artifacts_at(self) -> str | None:
        """Return the artifact store that was named when the study was filed, or None."""
        row = self.database.read(self._row)
        return None if row is None else row.artifacts

    def weights_of(self, number: int) -> tuple[str | None, str]:
        """Return the artifact with the last weights of a trial, if they were kept, and their hash."""
        mine = sa.and_(tables.slots.c.study_id == self.id, tables.slots.c.number == number)
        query = sa.select(tables.slots.c.weights, tables.slots.c.weights_sha256).where(mine)
        row = self.database.read(lambda connection: connection.execute(query).one())
        return row.weights, row.weights_sha256 or ""

    def measured(self, facts: Facts) -> "Study":
        """Return the study with the facts of its images, which the first worker that has read them files.

        Raises:
            DataError: the study was filed with other images.
        """
        if not self.spec.facts.fingerprint:
            mine = tables.studies.c.id == self.id
            file = tables.studies.update().where(mine, tables.studies.c.facts.is_(None))
            said = facts_json(facts)

            def work(connection: sa.Connection) -> str | None:
                connection.execute(file.values(facts=said))
                return connection.scalar(sa.select(tables.studies.c.facts).where(mine))

            there = self.database.write(work)
            filed = facts if there is None else _FACTS.validate_json(there)
        else:
            filed = self.spec.facts
        spec = self.spec.measured(filed)
        spec.check_facts(facts)
        return replace(self, spec=spec)

    def settled(self, arithmetic: Arithmetic) -> "Study":
        """Return the study with how its trainings compute, which the first worker files.

        What is filed stays, but for a micro-batch: a worker whose memory holds fewer images files how many these are.
        """
        studies = tables.studies
        mine = studies.c.id == self.id

        def work(connection: sa.Connection) -> Facts:
            connection.execute(studies.update().where(mine).values(facts=studies.c.facts))  # others wait from here on
            said = connection.scalar(sa.select(studies.c.facts).where(mine))
            there = self.spec.facts if said is None else _FACTS.validate_json(said)
            filed = replace(there, arithmetic=_together(there.arithmetic, arithmetic))
            connection.execute(studies.update().where(mine).values(facts=facts_json(filed)))
            return filed

        return replace(self, spec=self.spec.measured(self.database.write(work)))


def _together(filed: Arithmetic | None, found: Arithmetic) -> Arithmetic:
    if filed is None:
        return found
    sizes = [one.micro_batch for one in (filed, found) if one.micro_batch is not None]
    return replace(filed, micro_batch=min(sizes, default=None))


@dataclass(frozen=True, slots=True)
class _Rows:
    """What is read of trials, all of one moment, before anything is made of it."""

    frozen: list[FrozenTrial]
    slots: Sequence[sa.Row[Any]]
    epochs: Sequence[sa.Row[Any]]
    interruptions: Sequence[sa.Row[Any]]
    held: set[str]
    """Slots on which a worker is at work."""
    moves: Mapping[str, Sequence[Move]]
    """Of each slot, where one trial is read alone."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One line of ``lrsearch list``."""

    name: str
    optuna_id: int
    dataset: str
    model: str
    budget: BudgetSpec
    counts: dict[State, int]
    created_at: datetime
    copy_of: str | None = None
    """The name of the original, of a copy that another program made."""


def facts_json(facts: Facts) -> str:
    """Return facts as they are stored."""
    return _FACTS.dump_json(facts).decode()


def names(database: Database) -> list[str]:
    """Return the names of all lrsearch studies; copies that another program made are none."""
    return _names(_ours(database))


def _names(ours: Iterable[Carrier]) -> list[str]:
    return [shown(one.name) for one in ours if one.copy_of is None]


def find(database: Database, name: str) -> Study | None:
    """Return the study of that name, which may be a copy, or None."""
    return _find(database, _ours(database), name)


def _find(database: Database, ours: Sequence[Carrier], name: str) -> Study | None:
    for written in (str, shown):  # a name is found as it is, and as it is shown
        for one in ours:
            if written(one.name) == name:
                return _load(database, one)
    return None


def get(database: Database, name: str | None) -> Study:
    """Return the study of that name, or the only one there is.

    Raises:
        UnknownNameError: no such study, or several and no name.
    """
    ours = _ours(database)
    known = _names(ours)
    if name is None:
        if len(known) != 1:
            raise UnknownNameError(
                f"{database.place} holds {len(known)} studies, name one of them: {', '.join(known)}"
                if known
                else f"{database.place} holds no study yet; `lrsearch run` makes one"
            )
        name = known[0]
    study = _find(database, ours, name)
    if study is None:
        holds = f"it holds {', '.join(known)}" if known else "it holds none"
        raise UnknownNameError(f"there is no study '{name}' in {database.place}{nearest(name, known)}; {holds}")
    return study


def find_trial(database: Database, study_id: int, trial_id: int) -> tuple[Study, Trial] | None:
    """Return the trial with Optuna's ids, and its study; None where there is none of ours."""
    trials, named = optuna_private.TRIALS, optuna_private.STUDIES
    query = (
        sa.select(named.c.study_name, trials.c.number)
        .join(trials, trials.c.study_id == named.c.study_id)
        .where(trials.c.trial_id == trial_id, trials.c.study_id == study_id)
    )
    row = database.read(lambda connection: connection.execute(query).one_or_none())
    study = None if row is None else find(database, row.study_name)
    trial = None if row is None or study is None else study.trial(row.number)
    return None if study is None or trial is None else (study, trial)


def check_version(study: Study) -> None:
    """Make sure that this lrsearch trains as the one that filed the study: versions agree but for the last number.

    Raises:
        UsageError: they do not, and the trials could not be compared.
    """
    query = sa.select(tables.studies.c.version).where(tables.studies.c.id == study.id)
    filed = study.database.read(lambda connection: connection.scalar(query))
    if filed is not None and filed.split(".")[:2] != __version__.split(".")[:2]:
        raise UsageError(
            f"the study '{study.spec.name}' in {study.database.place} was filed by lrsearch {filed} and this is "
            f"lrsearch {__version__}, whose trials may not be comparable: use lrsearch {filed} here, or add a --name "
            f"to start a study of its own"
        )


def delete(database: Database, name: str) -> int:
    """Delete a study with all its trials; return how many they were.

    Raises:
        UnknownNameError: there is no such study.
    """
    study, slots = get(database, name), tables.slots

    def work(connection: sa.Connection) -> int:
        # First, for SQLite: a transaction begins with what writes.
        there = budgets.lock(connection, study.id) is not None
        if study.copy_of is not None:
            ours = study.optuna_id in homes.carriers(connection, study.id)
            return optuna_rows.delete_study(connection, study.optuna_id) if ours else 0
        if not (there and study.home.check(connection)):
            return 0
        count = sa.select(sa.func.count()).select_from(slots).where(slots.c.study_id == study.id)
        n = int(connection.scalar(count) or 0)
        homes.sweep(connection, study.id)
        optuna_rows.delete_study(connection, study.optuna_id)
        return n

    return database.write(work)


def summaries(database: Database) -> list[Summary]:
    """Return one summary a study, by name."""
    slots = tables.slots
    counted = sa.select(slots.c.study_id, slots.c.state, slots.c.outcome, sa.func.count()).where(
        slots.c.role == Role.SEARCH.value
    )
    found = _ours(database)
    with database.reading() as connection:
        rows = {row.id: row for row in connection.execute(sa.select(tables.studies))}
        counts: dict[str, dict[State, int]] = {}
        for study_id, state, outcome, n in connection.execute(counted.group_by(*counted.selected_columns[:3])):
            its, key = counts.setdefault(study_id, {}), State(outcome) if state == "ended" else State.RUNNING
            its[key] = its.get(key, 0) + n
    out = []
    for one in found:
        study = _load(database, one)
        # One that was deleted between the two questions is no more.
        if (row := rows.get(study.id)) is not None:
            spec = study.spec
            out.append(
                Summary(
                    shown(study.name),
                    study.optuna_id,
                    spec.dataset.name if spec.loop is None else spec.loop.name,
                    spec.model.name if spec.loop is None else "",
                    budgets.of(row),
                    counts.get(study.id, {}),
                    _utc(row.created_at),
                    None if one.copy_of is None else shown(one.copy_of),
                )
            )
    return out


def _ours(database: Database) -> list[Carrier]:
    """Return our studies by name, and copies of them."""
    return database.read(homes.all_carriers)


def _load(database: Database, one: Carrier) -> Study:
    try:
        spec = StudySpec.from_json(one.spec)
        facts = None if one.facts is None else _FACTS.validate_json(one.facts)
    except ValidationError as error:
        raise StorageError(
            f"the spec of the study '{shown(one.name)}' in {database.place} was written by another version of lrsearch "
            f"and cannot be read by this one: {str(error).splitlines()[0]}"
        ) from error
    # A study that was renamed in the dashboard has that name here too.
    spec = spec.model_copy(update={"name": shown(one.name)}).measured(facts)
    return Study(database, one.study, one.name, spec, Home(one.study, one.optuna_id), one.copy_of)


def _trial(
    spec: StudySpec,
    row: Any,
    params: dict[str, Any],
    metrics: Iterable[EpochMetrics],
    interruptions: Iterable[Interruption],
    *,
    held: bool,
) -> Trial:
    outcome = None
    if row.state == "ended":
        outcome = Outcome(
            State(row.outcome), Reason(row.reason), row.value, row.epoch, row.step, row.lr, shown(row.message or "")
        )
    config = parameters.config(spec, params) if row.setting is None else parameters.config_of(row.setting, row.seed)
    return Trial(
        number=row.number,
        # Trials of earlier versions did not keep their seed, which was that of the study or a parameter.
        config=config if row.seed is None else replace(config, seed=row.seed),
        state=outcome.state if outcome else State.RUNNING,
        outcome=outcome,
        metrics=tuple(metrics),
        interrupted=outcome is None and not held and row.state != "paused",
        paused=row.state == "paused",
        worker=shown(row.worker),
        device=shown(row.device),
        versions=shown(row.versions),
        origin=shown(row.origin),
        role=Role(row.role),
        parent=row.parent,
        shared_epochs=row.shared_epochs or 0,
        started_at=_utc(row.started_at) if row.started_at else None,
        ended_at=_utc(row.ended_at) if row.ended_at else None,
        test_accuracy=row.test_accuracy,
        test_loss=row.test_loss,
        test_score=row.test_score,
        test_right=() if row.test_right is None else tuple(json.loads(row.test_right)),
        interruptions=tuple(interruptions),
        val_right=row.val_right or b"",
        weights_sha256=row.weights_sha256 or "",
        params=dict(params),
    )


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC)
