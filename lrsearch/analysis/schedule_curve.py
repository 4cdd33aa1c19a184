"""The learning rate of every update of a trial, as planned; of plateau, as far as it is known."""

import numpy as np

from lrsearch import families
from lrsearch.schedules import Factors, factors
from lrsearch.trial import Trial


def planned_lrs(trial: Trial, steps_per_epoch: int) -> Factors:
    """Return the learning rates, `[n_steps]`; with plateau only those of the completed epochs, or the first one's.

    plateau decides after each epoch, so that its scale within an epoch is that of the epoch's last update.
    """
    config = trial.config
    lrs: Factors = factors(config.schedule, steps_per_epoch * config.epochs) * config.optimizer.peak_lr
    if not families.of(config.schedule).feedback:
        return lrs
    done = max(len(trial.metrics), 1)
    scale = np.ones(done)
    for i, row in enumerate(trial.metrics):
        scale[i] = row.lr / lrs[(i + 1) * steps_per_epoch - 1]
    return lrs[: done * steps_per_epoch] * np.repeat(scale, steps_per_epoch)
