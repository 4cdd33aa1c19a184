"""`lrsearch run --range-test`: what a study searches is bounded before it is filed, and filed with the sweeps."""

from dataclasses import replace
from typing import TYPE_CHECKING

from lrsearch.cli import log
from lrsearch.cli.find import made
from lrsearch.cli.searching import Asked
from lrsearch.spec.study import StudySpec

if TYPE_CHECKING:
    from lrsearch.store.places import Place


def untested(spec: StudySpec, where: "Place") -> StudySpec:
    """Return a study as far as it is known without sweeps, and say where they would make it another.

    Raises:
        UsageError: the study was filed without a range test, or its trainings are a loop of one's own.
    """
    from lrsearch import find

    find.check(spec)
    known = find.resumed(spec, where)
    if known is None:
        log.remark("the range test is not made: it would narrow the learning rates", "lrsearch:")
    return known or spec


def bounded(asked: Asked) -> Asked:
    """Return what is asked for, its study between the learning rates that a range test leaves, and filed so.

    A study that was filed so goes on with the learning rates with which it was filed.

    Raises:
        UsageError: the study was filed without a range test, or its trainings are a loop of one's own.
        LrsearchError: it cannot be run, in a sentence.
    """
    from lrsearch import find
    from lrsearch.analysis.range_test import findings
    from lrsearch.report import range_words
    from lrsearch.store import filing

    find.check(asked.spec)
    known = find.resumed(asked.spec, asked.where)
    if known is not None:
        return replace(asked, spec=known)
    if asked.spec.is_known:
        filing.check(asked.spec, asked.where)
    spec, sweeps = made(asked.spec, find.SweepPlan(), asked.device, asked.threads, asked.data_dir, quiet=asked.quiet)
    known = find.resumed(spec, asked.where)
    if known is not None:  # somebody else has filed it meanwhile
        return replace(asked, spec=known)
    spec, narrowings = find.narrowed(spec, sweeps)
    if not asked.quiet:
        log.remark(f"range test: {range_words.cost(findings(sweeps))}", "lrsearch:")
        for one in narrowings:
            log.remark(f"range test: {range_words.narrowing(one)}", "lrsearch:")
    study = filing.file_study(
        spec,
        asked.where,
        explicit_budget=asked.explicit_budget,
        explicit_workers=asked.explicit_workers,
        artifacts=asked.artifacts,
        sweeps=sweeps,
    )
    study.database.close()
    return replace(asked, spec=spec)
