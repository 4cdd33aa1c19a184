"""Read from a study all that a report is made of."""

from lrsearch.report.material import Material
from lrsearch.search.study import Study


def gather(study: Study) -> Material:
    """Return what a report of the study as it stands is made of."""
    return Material(study.spec, tuple(study.trials()), study.budget(), str(study.database.place))
