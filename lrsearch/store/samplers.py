"""Who proposes the next setting: Optuna's samplers, seeded for each slot of the budget."""

import warnings
from typing import assert_never

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler

from lrsearch.spec.study import GpSpec, QmcSpec, RandomSpec, SamplerSpec, TpeSpec
from lrsearch.store.optuna_private import PointOfSequence


def build(spec: SamplerSpec, seed: int, position: int, attempt: int = 0) -> BaseSampler:
    """Return the sampler for the slot at ``position`` of the budget.

    A proposal is a function of (study seed, slot, finished trials): a search that was interrupted goes on as if it
    had not been, and no two slots draw the same random numbers. Nor do two attempts at one slot, of which there are
    several where a setting has been trained already.
    """
    entropy = (seed, position, attempt) if attempt else (seed, position)
    own = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    with warnings.catch_warnings():
        # multivariate, group and constant_liar have been marked experimental since Optuna 2.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match spec:
            case TpeSpec(n_startup_trials=n):
                return TPESampler(n_startup_trials=n, multivariate=True, group=True, constant_liar=True, seed=own)
            case RandomSpec():
                return RandomSampler(seed=own)
            case GpSpec(n_startup_trials=n):
                return GPSampler(n_startup_trials=n, seed=own)
            case QmcSpec():
                # Before any trial has ended, and so the parameters are known, settings are drawn at random.
                return PointOfSequence(
                    position,
                    scramble=True,
                    seed=seed,
                    independent_sampler=RandomSampler(seed=own),
                    warn_independent_sampling=False,
                )
            case _:
                assert_never(spec)
