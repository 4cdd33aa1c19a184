"""What is asked to be confirmed, in words, as the plan that is filed."""

from dataclasses import replace

from lrsearch.errors import NothingFeasibleError
from lrsearch.store import confirmations, endings, portfolio
from lrsearch.store.study import Study
from lrsearch.strategy.confirming import Plan, fresh_seeds


def ask(study: Study, top: int, seeds: int, against: str | None) -> Plan:
    """File what is to be confirmed of what the search has found by now.

    Args:
        study: which.
        top: so many of its best settings.
        seeds: at most so many fresh ones a setting.
        against: a setting to compare with, in words, or None.

    Raises:
        UsageError: the setting cannot be read.
        NothingFeasibleError: no trial is complete.
    """
    plan = plan_of(study, top, seeds, against)
    if not study.database.read(lambda c: endings.best_numbers(c, study.id, maximize=study.maximize)):
        raise NothingFeasibleError(
            f"no trial of the study '{study.spec.name}' was trained through: there is nothing to confirm"
        )
    return confirmations.file(study, plan)


def plan_of(study: Study, top: int, seeds: int, against: str | None) -> Plan:
    """Return what is to be confirmed of a study.

    Raises:
        UsageError: the setting that is to be compared with cannot be read.
    """
    used = frozenset(trial.config.seed for trial in study.trials())
    other = None if against is None else replace(portfolio.any_setting("--against", against, study.spec), seed=0)
    return Plan(top, fresh_seeds(study.spec.seed, seeds, used), other)
