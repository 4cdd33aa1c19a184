"""A look at a person's own loop before anything is filed: a few updates of it, then it is ended."""

from collections.abc import Callable, Sequence

import torch

from lrsearch import own_code
from lrsearch.errors import StudyFileError
from lrsearch.spec.loop import LoopSpec
from lrsearch.training.engine import Paused
from lrsearch.training.loop.engine import LoopTraining
from lrsearch.training.loop.faults import LoopError
from lrsearch.training.loop.run import LoopRules, Run
from lrsearch.trial import Facts, Network, TrialConfig

LOOK_UPDATES = 3


class _AfterAFew:
    """Ends a loop when it has made a few updates."""

    def __init__(self) -> None:
        self.left = LOOK_UPDATES

    def is_set(self) -> bool:
        """Whether it is enough."""
        self.left -= 1
        return self.left < 0

    def ends(self) -> bool:
        """Say that it is."""
        return True


def steps_of(spec: LoopSpec, sizes: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return the updates of an epoch by batch size, as a person's own function says; none where none is named.

    Raises:
        StudyFileError: it is not to be found, raised an error, or returned something else.
    """
    code = spec.counts_steps
    if code is None:
        return ()
    key = "loop.steps_per_epoch"
    function, found = own_code.find(code, key), []
    for size in sizes:
        said = function.call({"batch_size": size})
        if isinstance(said, bool) or not isinstance(said, int) or said < 1:
            raise StudyFileError(
                f"{key}: {code} must return a whole number from 1 for batch_size = {size}, and returned {said!r:.80}"
            )
        found.append((size, said))
    return tuple(found)


def look(
    loop: own_code.OwnFunction,
    spec: LoopSpec,
    config: TrialConfig,
    steps_per_epoch: Callable[[Facts], int],
    sizes: Sequence[int],
    rules: LoopRules,
    device: torch.device,
) -> Facts:
    """Return what is known of a loop after a few of its updates.

    Args:
        loop: the function.
        spec: what the study says of it.
        config: a setting to try it with.
        steps_per_epoch: the updates of an epoch of that setting.
        sizes: the batch sizes that are searched.
        rules: what holds for every training.
        device: where to train.

    Raises:
        StudyFileError: it cannot be searched with, in a sentence.
    """
    facts = Facts(spec.n_train or 0, spec.n_validation or 0, 0, (0, 0, 0), (), steps=steps_of(spec, sizes))
    run = Run(config, steps_per_epoch(facts), rules, device, _AfterAFew())
    training = LoopTraining(loop, dict(spec.args or {}), run)
    for told in training.epochs():
        # An epoch of fewer updates than are looked at has been checked as it was told.
        if isinstance(told, Paused):
            break
        break
    if run.updates == 0:
        raise LoopError("loop.name: the loop makes no update: call run.step() after each optimizer.step()")
    n_parameters = 0 if run.model is None else sum(p.numel() for p in run.model.parameters() if p.requires_grad)
    return Facts(
        facts.n_train,
        facts.n_validation,
        0,
        facts.shape,
        (),
        network=Network(n_parameters, levels=run.levels, code=loop.sha256),
        steps=facts.steps,
    )
