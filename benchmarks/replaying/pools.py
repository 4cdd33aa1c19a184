"""Recorded random settings of a whole search space: a setting that is asked for is answered by the nearest of them.

The nearest that is not used yet, the same for every method, and a method is told what was really trained. One of the
same optimizer if there is one left.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lrsearch.domain import Choice, Domain, Range
from lrsearch.spec import file as study_file
from lrsearch.spec import parameters
from lrsearch.spec.study import StudySpec
from lrsearch.trial import TrialConfig
from replaying.tables import Answer, Conditions, Curve, Floats, Recorded, lived, noisy, seed_of

OTHER_OPTIMIZER = 10.0
"""Distance between settings of two optimizers: beyond all others."""
OTHER_FAMILY = 0.15
"""Distance between two schedule families, in whole ranges of the learning rate: half a decade of that of sgd."""
BATCH = 0.1
"""Distance between the smallest and the largest batch size, likewise."""
OTHER = 0.05
"""Distance between the ends of the range of any other parameter, likewise."""


class Pool:
    """Settings of a space that were trained through.

    Args:
        name: of the problem.
        tables: of its study, beside name, epochs and seed.
        rows: a line of the file each.
        conditions: what is changed.
    """

    is_pool, unit = True, 1.0

    def __init__(
        self, name: str, tables: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], conditions: Conditions
    ) -> None:
        self.name, self._tables, self._rows, self._conditions = name, tables, rows, conditions
        self._noise = conditions.noise
        raw, averaged = (
            _resampled([row[key] for row in rows], conditions)
            for key in ("val_acc", "averaged_val_acc" if "averaged_val_acc" in rows[0] else "val_acc")
        )
        self.epochs = raw.shape[1]
        self.ends: Floats = raw[:, -1]
        """`[n]`, the last accuracy; not a number where a training diverged."""
        self.scores: list[tuple[Floats, bool]] = [
            lived(np.where(np.isnan(r), r, a)) for r, a in zip(raw, averaged, strict=True)
        ]
        self.best, self.worst = float(np.nanmax(self.ends)), 0.0
        spec = self.spec(0, {})
        self.params: list[Mapping[str, Any]] = [row["params"] for row in rows]
        self.configs: list[TrialConfig] = [parameters.config(spec, params) for params in self.params]
        self._domains = parameters.everything(spec.space)
        self._numbers = [n for n, d in self._domains.items() if _is_number(d)]
        self._weights = np.array([_weight(name) for name in self._numbers])
        self._units = np.array([self._unit(params) for params in self.params])
        self._optimizers = np.array([config.optimizer.name for config in self.configs])
        self._families = np.array([config.schedule.family for config in self.configs])

    def spec(self, seed: int, more: Mapping[str, Any]) -> StudySpec:
        """As ``Table.spec``."""
        own = {"name": self.name, "epochs": self.epochs, "seed": seed_of(self.name, seed), "prior": "none"}
        training = {"training": {"averaging": "on"}}
        return study_file.build({**self._tables, **training, **own, **more}, f"the pool '{self.name}'")

    def answers(self, seed: int) -> "PoolAnswers":
        """As ``Table.answers``."""
        return PoolAnswers(self, seed_of(self.name, seed))

    def part(self, share: float, seed: int) -> "Pool":
        """Return a pool of a random part of the settings, another one with each seed.

        A method that begins with the same settings whatever the seed is answered by the same trainings of a whole pool,
        whose luck then is that of all its searches.
        """
        n = max(1, round(share * len(self._rows)))
        kept = np.random.default_rng((seed_of(self.name, seed), 4)).permutation(len(self._rows))[:n]
        return Pool(self.name, self._tables, [self._rows[i] for i in sorted(kept)], self._conditions)

    def distances(self, config: TrialConfig, params: Mapping[str, Any]) -> Floats:
        """Return how far each recorded setting is from one, `[n]`, in whole ranges of the learning rate."""
        apart = (self._units - self._unit(params)) * self._weights
        squares = np.nansum(apart * apart, axis=1)
        squares += OTHER_FAMILY**2 * (self._families != config.schedule.family)
        found: Floats = squares + OTHER_OPTIMIZER**2 * (self._optimizers != config.optimizer.name)
        return found

    def curve(self, i: int, seed: Sequence[int]) -> Curve:
        """Return what a recorded training shows; ``seed`` is that of its noise."""
        scores, diverges = self.scores[i]
        shown = tuple(noisy(scores, self._noise, seed, share=True).tolist())
        if diverges:
            return Curve(shown, None, None)
        end = self.ends[i : i + 1]
        return Curve(shown, float(noisy(end, self._noise, seed, share=True)[0]), float(end[0]))

    def _unit(self, params: Mapping[str, Any]) -> Floats:
        """Return where in its range each numeric parameter is, 0 to 1; not a number where a setting has none."""
        return np.array([_part(self._domains[name], params.get(name)) for name in self._numbers])


class PoolAnswers:
    """The trainings of one replay on a pool: each setting once."""

    def __init__(self, pool: Pool, seed: int) -> None:
        self._pool, self._seed, self._n = pool, seed, 0
        self._used = np.zeros(len(pool.configs), bool)

    def train(self, config: TrialConfig, params: Mapping[str, Any]) -> Answer | None:
        """As ``Answers.train``."""
        if self._used.all():
            return None
        i = int(np.argmin(np.where(self._used, np.inf, self._pool.distances(config, params))))
        self._used[i] = True
        self._n += 1
        return Answer(self._pool.configs[i], self._pool.params[i], self._pool.curve(i, (self._seed, self._n, 9)))


def _resampled(scores: Sequence[Sequence[float | None]], conditions: Conditions) -> Floats:
    found = Recorded(np.zeros(len(scores)), np.array([[math.nan if v is None else v for v in row] for row in scores]))
    return found.scores if conditions.epochs is None else found.resampled(conditions.epochs).scores


def _is_number(domain: Domain) -> bool:
    return isinstance(domain, Range) or (
        isinstance(domain, Choice) and all(isinstance(v, int | float) for v in domain.values)
    )


def _part(domain: Domain, value: float | None) -> float:
    if value is None:
        return math.nan
    if isinstance(domain, Range):
        low, high, log = domain.low, domain.high, domain.log
    else:
        assert isinstance(domain, Choice)
        low, high, log = float(min(domain.values)), float(max(domain.values)), True  # batch sizes
    if log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _weight(name: str) -> float:
    if name.startswith("peak_lr_"):
        return 1.0
    return BATCH if name == "batch_size" else OTHER
