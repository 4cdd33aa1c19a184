"""Gather from several rooms what is said of a study: the material of a report, a trial as others' programs take it."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lrsearch.analysis.answer import winner_of
from lrsearch.analysis.confirmation import Confirmation, confirmation
from lrsearch.analysis.material import Material
from lrsearch.analysis.ranking import once, ranked
from lrsearch.spec.study import StudySpec
from lrsearch.store import at_work, confirmations, range_tests
from lrsearch.store.importance import importances
from lrsearch.store.study import Study
from lrsearch.trial import Role, State, Trial

if TYPE_CHECKING:
    from lrsearch.report.own_split import OwnSplit
    from lrsearch.report.targets import Script, Target


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
        confirmation=confirmed(study),
        converged=at_work.converged(study),
        range_tests=range_tests.of(study),
        read_at=datetime.now(UTC),
    )


def confirmed(study: Study) -> Confirmation | None:
    """Return what the newest confirmation of a study says; None where none was asked for, or its search goes on."""
    race = confirmations.race_of_study(study)
    if race is None or not race.plan.entrants:
        return None
    return confirmation(race, study.trials(*Role))


def winner(study: Study) -> Trial | None:
    """Return the trial that the answer names: the best of the search, or the confirmed one; None without any."""
    return winner_of(study.trials(), study.spec, confirmed(study))


def exported(trial: Trial, spec: StudySpec, to: "Target", split: "OwnSplit | None", split_name: str) -> str:
    """Return a trial as a program, as what another package's script is given, or as its learning rates.

    Args:
        trial: whose setting.
        spec: its study.
        to: as what.
        split: of a program: the pictures of the study, where they are a person's own.
        split_name: likewise the file beside the program that says which of them train.

    Raises:
        UsageError: it cannot be written so.
    """
    match to:
        case "torch" | "lightning":
            from lrsearch.report.export_program import program

            return program(trial, spec, to, split, split_name)
        case "timm" | "transformers" | "torchvision":
            return flags(trial, spec, to)
        case "json":
            import json

            from lrsearch.report.export import to_json

            return json.dumps(to_json(trial, spec), indent=2, allow_nan=False) + "\n"
        case "csv":
            from lrsearch.report.export import to_csv

            return to_csv(trial, spec)


def flags(trial: Trial, spec: StudySpec, script: "Script") -> str:
    """Return what another package's script is given: of all ways to say the setting that with the nearest rates."""
    from lrsearch.analysis.deviation import deviation, searched_rates
    from lrsearch.report import flags_text
    from lrsearch.report.flags import no_schedule
    from lrsearch.report.flags_ways import ways
    from lrsearch.training.their_rates import their_rates, version

    peak_lr, compared = trial.config.optimizer.peak_lr, []
    for one in ways(trial, spec, script):
        theirs = their_rates(script, one.schedule, peak_lr, one.epochs, one.updates_per_epoch)
        if theirs is not None:
            compared.append((one, deviation(searched_rates(trial.config, len(theirs)), theirs, peak_lr)))
    if not compared:
        raise no_schedule(trial, script)
    nearest, found = min(compared, key=lambda pair: (pair[1].largest, pair[1].mean))
    if not found.is_small:
        raise flags_text.too_far(nearest, found, trial)
    return flags_text.text(nearest, found, version(script), trial, spec)
