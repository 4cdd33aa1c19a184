"""Whether the best learning rate touches the edge of the search space, and how to widen it."""

from collections.abc import Iterable
from dataclasses import dataclass

from lrsearch.domain import Choice, Domain, Fixed, Range, high_end, low_end
from lrsearch.spec.bounds import Side, Tried, has_room, widened
from lrsearch.spec.study import StudySpec
from lrsearch.trial import OptimizerName, Reason, State, Trial


@dataclass(frozen=True, slots=True)
class Edge:
    """The best trial at an edge of the search space: better ones may lie beyond it."""

    side: Side
    at: float
    """The learning rate where the search space ends."""
    overrides: tuple[str, ...]
    """``KEY=VALUE`` for ``--set``, in order: the search space with this edge moved outwards."""


def tried(trials: Iterable[Trial]) -> tuple[Tried, ...]:
    """Return what those that have ended say of the edges, in the order in which they ended."""
    ended = [t for t in trials if t.state.counts and t.outcome is not None]
    order = sorted(ended, key=lambda t: (t.ended_at is None, t.ended_at and t.ended_at.timestamp(), t.number))
    return tuple(_tried(t) for t in order)


def _tried(trial: Trial) -> Tried:
    value = trial.outcome.value if trial.state == State.COMPLETE and trial.outcome is not None else None
    reason = Reason.NOT_FINITE if trial.outcome is None else trial.outcome.reason
    return Tried(trial.config.optimizer.peak_lr, value, trial.state == State.DIVERGED and reason.blames_the_rate)


def edge(spec: StudySpec, optimizer: OptimizerName, side: Side) -> Edge | None:
    """Return that edge of the optimizer's learning rate, with the overrides that move it outwards.

    None where there is no room beyond it.
    """
    domain = spec.space.optimizers[optimizer]["peak_lr"]
    at = low_end(domain) if side == "lower" else high_end(domain)
    if not has_room(domain, side):
        return None
    overrides = [f"space.optimizer.{optimizer}.peak_lr={_toml(widened(domain, side))}"]
    names = tuple(spec.space.optimizers)
    if len(names) > 1:
        # A table of one optimizer alone would leave the others out of the search.
        listed = ",".join(f'"{name}"' for name in names)
        overrides.insert(0, f"space.optimizer=[{listed}]")
    return Edge(side, at, tuple(overrides))


def _toml(domain: Domain) -> str:
    """Return a domain as TOML; without spaces, so that no terminal breaks it."""
    match domain:
        case Fixed(value=only):
            return f"{only:.4g}"
        case Choice(values=values):
            return "[" + ",".join(f"{float(rate):.4g}" for rate in values) + "]"
        case Range(low=low, high=high, log=log, step=step):
            if log:
                return f"{{low={low:.4g},high={high:.4g},log=true}}"
            tail = f",step={step:.6g}" if step is not None else ""
            return f"{{low={low:.6g},high={high:.6g}{tail}}}"
