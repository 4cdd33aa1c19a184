"""What a report says, whatever it is written as: the answer, the charts, how it was run."""

import shlex
from dataclasses import dataclass, replace

from lrsearch.analysis.material import Material
from lrsearch.analysis.ranking import ranked
from lrsearch.report import answer, provenance
from lrsearch.report.answer import Answer
from lrsearch.report.branches import branches_figures
from lrsearch.report.cost import cost_figure
from lrsearch.report.figure import Figure
from lrsearch.report.importance_figure import importance_figure
from lrsearch.report.loss_figure import loss_figure
from lrsearch.report.lr_figures import lr_figures
from lrsearch.report.next_steps import Step, storage_words
from lrsearch.report.parallel_figure import parallel_figure
from lrsearch.report.range_figure import range_figures
from lrsearch.report.schedule_figure import schedule_figure
from lrsearch.trial import Trial


@dataclass(frozen=True, slots=True)
class Contents:
    """A report, not yet written as anything."""

    material: Material
    answer: Answer
    order: tuple[Trial, ...]
    """Complete trials, best first."""
    of_optimizers: tuple[Figure, ...]
    """Score against peak learning rate, one an optimizer."""
    others: tuple[Figure, ...]
    """Losses, schedules, importance, all settings, cost, range tests."""
    run: dict[str, str]
    """How it was run."""
    study_file: str


def contents(material: Material) -> Contents:
    """Return what a report of the study says."""
    spec, trials = material.spec, material.trials
    said = _answer(material)
    order = ranked(trials, spec.metric.direction)
    return Contents(
        material=material,
        answer=said,
        order=tuple(order),
        of_optimizers=lr_figures(material, said.diagnosis, said.winner),
        others=(
            loss_figure(material, said.winner),
            schedule_figure(material, order),
            *branches_figures(trials, spec),
            importance_figure(material),
            parallel_figure(material, order),
            cost_figure(trials),
            *range_figures(material.range_tests),
        ),
        run=provenance.facts(material),
        study_file=provenance.study_file(spec),
    )


def _answer(material: Material) -> Answer:
    """Return the answer, its commands as they go on with a study whose first command nobody remembers."""
    name, where = shlex.quote(material.spec.name), storage_words(material.place, None)
    extend = f"lrsearch extend {name}{where}"
    said = answer.build(
        material.trials,
        material.spec,
        material.place,
        budget=material.budget,
        run_command=extend,
        confirmed=material.confirmation,
        converged=material.converged,
    )
    steps: list[Step] = []
    for step in said.next_steps:
        steps.append(step)
        if step.command.startswith(extend):
            steps.append(Step(f"lrsearch worker --study {name}{where}", "and train them"))
    return replace(said, next_steps=tuple(steps))
