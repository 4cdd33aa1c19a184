"""The parameters of a model by learning rate and weight decay, as PyTorch code."""

from dataclasses import dataclass
from typing import Final

from lrsearch import layer_rates
from lrsearch.analysis.levels import prefixes
from lrsearch.report.code_lines import folded, literal
from lrsearch.report.scheduler_code import Grouping, num
from lrsearch.spec.sources import Code, Zoo
from lrsearch.spec.study import StudySpec
from lrsearch.trial import TrialConfig


@dataclass(frozen=True, slots=True)
class GroupCode:
    """How a program divides the parameters of its model."""

    levels: tuple[tuple[float, tuple[str, ...]], ...] = ()
    """Part of the learning rate and modules of each level, the stem first; none where all learn with the whole."""
    decay_all: bool = True
    """Whether weight decay acts upon biases and norms too."""
    spares: bool = False
    """Whether the model may name more that it does not act upon, as models of timm do."""

    @property
    def kind(self) -> Grouping:
        """How the learning rates of the groups differ."""
        if self.levels:
            return "unlike"
        return "one" if self.decay_all else "alike"

    def table(self, width: int) -> list[str]:
        """Return the levels as the lines of a list, which is indented once."""
        rows = [f"    ({num(share)}, {literal(list(parts))})," for share, parts in self.levels]
        return [line for row in rows for line in folded(row, width)]


ONE_GROUP: Final = GroupCode()


def group_code(spec: StudySpec, config: TrialConfig) -> GroupCode:
    """Return how the parameters of a study's model are divided for a setting."""
    network = spec.facts.network
    levels: tuple[tuple[float, tuple[str, ...]], ...] = ()
    if network is not None and layer_rates.is_layer_wise(config):
        shares = layer_rates.shares(len(network.levels), config)
        if any(share != 1 for share in shares):
            levels = tuple(zip(shares, prefixes(network.levels), strict=True))
    own = spec.model.own
    spares = spec.loop is not None or isinstance(own, Code) or (isinstance(own, Zoo) and own.package == "timm")
    return GroupCode(levels, not spec.decay_matrices, spares)
