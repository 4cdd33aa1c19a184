"""The parameters of a model by learning rate and weight decay, as PyTorch code."""

from collections.abc import Sequence
from dataclasses import dataclass

from lrsearch import layer_rates
from lrsearch.analysis.levels import prefixes
from lrsearch.report.code_lines import folded
from lrsearch.report.scheduler_code import Groups, num
from lrsearch.spec.study import StudySpec
from lrsearch.trial import TrialConfig


@dataclass(frozen=True, slots=True)
class GroupCode:
    """How a program divides the parameters of its model."""

    levels: tuple[tuple[float, tuple[str, ...]], ...] = ()
    """Part of the learning rate and modules of each level, the stem first; none where all learn with the whole."""
    decay_all: bool = True
    """Whether weight decay acts upon biases and norms too."""

    @property
    def kind(self) -> Groups:
        """How the learning rates of the groups differ."""
        if self.levels:
            return "unlike"
        return "one" if self.decay_all else "alike"

    def table(self, width: int) -> list[str]:
        """Return the levels as the lines of a list, which is indented once."""
        rows = [f"    ({num(share)}, {names_code(parts)})," for share, parts in self.levels]
        return [line for row in rows for line in folded(row, width)]


def group_code(spec: StudySpec, config: TrialConfig) -> GroupCode:
    """Return how the parameters of a study's model are divided for a setting."""
    network = spec.facts.network
    levels: tuple[tuple[float, tuple[str, ...]], ...] = ()
    if network is not None and layer_rates.is_layer_wise(config):
        shares = layer_rates.shares(len(network.levels), config)
        if any(share != 1 for share in shares):
            levels = tuple(zip(shares, prefixes(network.levels), strict=True))
    return GroupCode(levels, not spec.decay_matrices)


def names_code(parts: Sequence[str]) -> str:
    """Return a list of names as code."""
    return "[" + ", ".join(quoted(part) for part in parts) + "]"


def quoted(text: str) -> str:
    """Return a text as code, in the quotes that formatters like.

    >>> print(quoted("a b"), quoted('say "a"'))
    "a b" 'say "a"'
    """
    written = repr(text)
    return f'"{written[1:-1]}"' if written[0] == "'" and '"' not in written else written
