"""Read from a study all that a report is made of."""

from datetime import UTC, datetime

from lrsearch.analysis.material import Material
from lrsearch.analysis.ranking import once, ranked
from lrsearch.store.importance import importances
from lrsearch.store.study import Study
from lrsearch.trial import State


def gather(study: Study) -> Material:
    """Return what a report of the study as it stands is made of."""
    trials = study.trials()
    evidence = once(trials)
    complete = ranked(evidence, study.spec.metric.direction)
    ended_early = [t for t in evidence if t.state in (State.PRUNED, State.DIVERGED)]
    return Material(
        study.spec,
        tuple(trials),
        study.budget(),
        str(study.database.place),
        of_ended=importances(complete, ended_early, study.spec),
        of_complete=importances(complete, (), study.spec),
        read_at=datetime.now(UTC),
    )
