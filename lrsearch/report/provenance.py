"""How a study was run: what it takes to know what its numbers are worth, and to run it again."""

from collections import Counter

import tomlkit

from lrsearch.analysis.material import Material
from lrsearch.analysis.range_test import findings
from lrsearch.report import range_words, study_words, words
from lrsearch.report.plain import attempts
from lrsearch.report.status import (
    compared_across,
    counts_words,
    interruptions,
    trained_epochs,
    trained_seconds,
    trainings_words,
)
from lrsearch.spec.deciding import AshaSpec, GradualSpec, HyperbandSpec
from lrsearch.spec.study import StudySpec
from lrsearch.text import counted
from lrsearch.trial import State

NAMED = 6
"""Workers, devices and versions that are named; the others are counted."""


def facts(material: Material) -> dict[str, str]:
    """Return how the study was run, each fact under its name."""
    spec, trials = material.spec, material.trials
    counts = Counter(t.state for t in trials)
    goal = f"{spec.metric.label}, the {'higher' if spec.metric.maximize else 'lower'} the better"
    out = {
        "data": study_words.data(spec),
        "model": study_words.model(spec),
        "objective": f"{goal}, on the validation images after the last of {counted(spec.epochs, 'epoch')}",
        "budget": _budget(material),
        "trials": counts_words(counts) if trials else "none yet",
        "sampler": spec.sampler.name,
        "pruner": _pruner(spec),
        "seed": _seeds(spec),
        "time": f"{words.duration(trained_seconds(trials))} in training, all trials together",
        "dates": _dates(material),
        "devices": _listed(Counter(t.device for t in trials if t.device)),
        "workers": _listed(Counter(t.worker for t in trials if t.worker)),
        "versions": _listed(Counter(t.versions for t in trials if t.versions)),
        "origin": _listed(Counter(t.origin for t in trials)),
        "interruptions": _interrupted(material),
        "database": material.place,
    }
    if swept := findings(material.range_tests):
        out["range test"] = f"{range_words.cost(swept)}, before the search and within its hours"
    out |= dict(study_words.about(spec))
    if computes := study_words.arithmetic(spec, on_gpu=any(t.device.startswith("cuda") for t in trials)):
        out["computing"] = computes
    if spec.facts.network is not None:
        out["weight decay"] = f"on {study_words.decay(spec)}"
    across = compared_across(trials)
    if across:
        out["caution"] = f"results are compared across {'; and '.join(across)}"
    return out


def _seeds(spec: StudySpec) -> str:
    if spec.loop is not None:
        return f"{spec.seed} (torch, NumPy and Python, before each trial)"
    return f"{spec.seed} (initial weights, batch order); {spec.dataset.split_seed} (which images validate)"


def study_file(spec: StudySpec) -> str:
    """Return the study as a study file, all defaults filled in."""
    return tomlkit.dumps(spec.to_plain())


def _budget(material: Material) -> str:
    done = sum(t.state.counts for t in material.trials)
    parts = []
    if material.budget.trials is not None:
        parts.append(f"{done} of {counted(material.budget.trials, 'trial')} finished")
    if material.budget.hours is not None:
        parts.append(f"at most {words.duration(3600 * material.budget.hours)} of training")
    if material.budget.trainings is not None:
        trained = trained_epochs(material.trials)
        parts.append(trainings_words(material.budget, trained, material.spec.epochs))
    failed = sum(t.state == State.FAILED for t in material.trials)
    return ", ".join([*parts, f"{failed} failed (at most {material.budget.max_failures})"])


def _pruner(spec: StudySpec) -> str:
    first = spec.pruner.compares_from(spec.epochs)
    if first is None:
        return f"{spec.pruner.name}: every trial is trained through"
    own = spec.pruner.model_dump(exclude={"name"})
    if isinstance(spec.pruner, AshaSpec | GradualSpec | HyperbandSpec):
        own["min_resource"] = spec.pruner.first_rung(spec.epochs)
    settings = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in own.items())
    return f"{spec.pruner.name} ({settings}): compares from epoch {first} on"


def _dates(material: Material) -> str:
    begun = [t.started_at for t in material.trials if t.started_at is not None]
    ended = [t.ended_at for t in material.trials if t.ended_at is not None]
    if not begun:
        return words.NOTHING
    running = any(t.state == State.RUNNING for t in material.trials)
    last = "still running" if running or not ended else f"last end {words.moment(max(ended))}"
    return f"first start {words.moment(min(begun))}, {last}"


def _interrupted(material: Material) -> str:
    counts = interruptions(material.trials)
    if not counts:
        return "none"
    again = sum(attempts(t) > 1 for t in material.trials)
    listed = ", ".join(f"{words.reason(reason)} {n}" for reason, n in counts.most_common())
    return f"{counted(counts.total(), 'attempt')} ended before the trial did ({listed}); {again} went on in another one"


def _listed(counts: Counter[str]) -> str:
    shown = [f"{name} ({n})" for name, n in counts.most_common(NAMED)]
    more = [f"and {len(counts) - NAMED} more"] if len(counts) > NAMED else []
    return ", ".join([*shown, *more]) or words.NOTHING
