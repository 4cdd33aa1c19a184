"""Which strategy decides in a study."""

from lrsearch.spec.study import StudySpec
from lrsearch.strategy.lr.strategy import LrStrategy
from lrsearch.strategy.strategy import Strategy


def of(spec: StudySpec) -> Strategy:
    """Return the strategy of a study: its own, or that which leaves it to sampler and pruner."""
    return Strategy() if spec.strategy is None else LrStrategy()
