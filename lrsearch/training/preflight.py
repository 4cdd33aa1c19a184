"""A look at a model before anything is trained: whether it can be, and what the engine must know of it.

It takes about a second. What is refused is said with the key, and of a person's own function with their file and line;
what may be meant all the same is a remark.
"""

import copy
import logging
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lrsearch.errors import StudyFileError
from lrsearch.own_code import OwnFunction, own_lines, said
from lrsearch.spec.sources import Code, Zoo, model_of
from lrsearch.training import draws, models, networks, outputs, own_networks, weights, zoo
from lrsearch.training.fitting import Loaded, some
from lrsearch.training.levels import LOOK_IMAGES, levels
from lrsearch.training.model_config import ModelConfig
from lrsearch.trial import Network

log = logging.getLogger(__name__)

N_UPDATES = 3
"""Of each of the two trainings that are compared."""
LR = 1e-3
"""Of these updates."""
SEED, OTHER_SEED = 0, 1
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class ModelLook:
    """What a look at a model has shown."""

    model: nn.Module
    """As it would be trained from."""
    network: Network
    levels: tuple[tuple[str, ...], ...]
    """The names of all its parameters by depth, also of those that are frozen."""
    ties: tuple[tuple[str, ...], ...]
    """Names that stand for one parameter."""
    remarks: tuple[str, ...]
    """What a person should know, a sentence each."""


def look(config: ModelConfig, shape: tuple[int, int, int], n_classes: int) -> Network:
    """Return what there is to know of a model; what else a person should know is logged as warnings.

    Args:
        config: the model.
        shape: channels, height and width of an image.
        n_classes: of its logits.

    Raises:
        StudyFileError: it cannot be trained.
    """
    found = examine(config, shape, n_classes)
    for remark in found.remarks:
        log.warning("%s", remark)
    return found.network


def examine(config: ModelConfig, shape: tuple[int, int, int], n_classes: int) -> ModelLook:
    """Return what a look at a model shows; see ``look``."""
    try:
        with draws.at(SEED, 0, CPU):  # whatever draws meanwhile
            return _Examination(config, shape, n_classes).result()
    except zoo.RefusedError as error:
        package = model_of(config.name)
        assert isinstance(package, Zoo)
        if sizes := zoo.other_sizes(package, config.args, shape, n_classes):
            takes = " or ".join(map(str, sizes))
            raise StudyFileError(
                f"model.name: {config.name} does not take images of {shape[1]}x{shape[2]} pixels ({error.reason}); it "
                f"takes {takes}: set dataset.image_size"
            ) from error
        raise


class _Examination:
    """One look at one model."""

    def __init__(self, config: ModelConfig, shape: tuple[int, int, int], n_classes: int) -> None:
        self._config, self._shape, self._n_classes = config, shape, n_classes
        named = model_of(config.name)
        self._is_of_package = isinstance(named, Zoo)
        self._own: OwnFunction | None = own_networks.found(named) if isinstance(named, Code) else None
        self._where = "" if self._own is None else own_networks.defined_at(self._own)
        self._images = torch.randn(LOOK_IMAGES, *shape, generator=torch.Generator().manual_seed(SEED))
        self._labels = torch.arange(LOOK_IMAGES) % n_classes
        self._remarks: list[str] = []

    def result(self) -> ModelLook:
        """Go through all of it."""
        model, loaded = self._built(SEED)
        origin = weights.origin(self._config)
        if loaded is not None and origin is not None:
            self._remarks += weights.remarks(self._config, loaded, origin, self._n_classes)
        if any(kind.__name__ == "LightningModule" for kind in type(model).__mro__):
            self._remark("is a LightningModule, of which only forward is used: lrsearch has its own loss and updates")
        scores = self._scores(model)
        state = copy.deepcopy(model.state_dict())
        drew, idle = self._trained(model)
        if idle:
            self._remark(f"trains without a gradient for {some(idle)}: its loss does not depend on what they hold")
        self._check_copies(model)
        once = copy.deepcopy(model.state_dict())
        # Not a copy, which would start with the same generators and counters: as a resumed training does it.
        model.load_state_dict(state)
        self._trained(model)
        repeats = _are_equal(once, model.state_dict())
        if not repeats:
            self._remark(
                "does not train twice alike from one state, so that a resumed trial is not exactly the uninterrupted "
                "one: it draws from a generator of its own, or keeps numbers outside of its state"
            )
        model.load_state_dict(state)
        if self._own is not None:
            self._check_rebuilt(model, state, scores)
        found = levels(model, self._shape, self._n_classes)
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        by_depth = tuple(tuple(name for name in level if name in trained) for level in found)
        network = Network(
            n_parameters=models.n_parameters(model),
            levels=tuple(level for level in by_depth if level),
            frozen=tuple(name for name, p in model.named_parameters() if not p.requires_grad),
            batch_norm=_normalises_by_batch(model),
            draws=bool(drew),
            draws_elsewhere=bool(drew - {"torch"}),
            repeats=repeats,
            code=" ".join(own.sha256 for own in (self._own, networks.own_loss(self._config)) if own is not None),
            weights="" if origin is None else origin.sha256,
        )
        return ModelLook(model, network, found, _ties(model), tuple(self._remarks))

    def _remark(self, sentence: str) -> None:
        self._remarks.append(f"model.name: {self._config.name} {sentence}{self._where}")

    def _refusal(self, sentence: str) -> StudyFileError:
        return StudyFileError(f"model.name: {self._config.name} {sentence}{self._where}")

    @contextmanager
    def _doing(self, what: str) -> Iterator[None]:
        """Say of an error in the block whose it is."""
        path = None if self._own is None else self._own.path
        try:
            if self._is_of_package:
                yield
            else:
                with own_lines("model.name", f"{what} of {self._config.name}", path):
                    yield
        except StudyFileError:
            raise
        except Exception as error:
            raise zoo.RefusedError(f"model.name: {self._config.name}", said(error)) from error

    def _built(self, seed: int) -> tuple[nn.Module, Loaded | None]:
        with self._doing("building"):
            torch.default_generator.manual_seed(seed)
            return models.assembled(self._config, self._shape, self._n_classes)

    def _scores(self, model: nn.Module) -> torch.Tensor:
        """Return the logits of an evaluation, and make sure that they are some."""
        scores = self._evaluated(model)
        wanted = (LOOK_IMAGES, self._n_classes)
        if scores.shape != wanted:
            raise self._refusal(
                f"must return logits [images, classes] = {[*wanted]} for {LOOK_IMAGES} images, and returns "
                f"{[*scores.shape]}: size its last layer by num_classes"
            )
        if not scores.isfinite().all():
            raise self._refusal("must return finite logits, and returns infinite ones, or none, for ordinary images")
        if (scores >= 0).all() and torch.allclose(scores.float().sum(1), torch.ones(LOOK_IMAGES), atol=1e-4):
            self._remark(
                "seems to return probabilities, which are at least 0 and sum to 1: the loss takes logits, so leave its "
                "last softmax out"
            )
        if not torch.equal(scores, self._evaluated(model)):
            self._remark("answers otherwise when it is asked twice in evaluation, so that its scores are not exact")
        return scores

    def _evaluated(self, model: nn.Module) -> torch.Tensor:
        model.eval()
        with torch.no_grad(), self._doing("evaluating the images"):
            return self._logits(model(self._images))

    def _logits(self, output: object) -> torch.Tensor:
        try:
            return outputs.logits_of(output)
        except StudyFileError as error:
            raise StudyFileError(f"{error}{self._where}") from None

    def _trained(self, model: nn.Module) -> tuple[set[str], list[str]]:
        """Make a few updates; return whose generators were drawn from, and which parameters never got a gradient."""
        judge = networks.judge_of(self._config, [1] * self._n_classes, None, CPU)
        networks.to_training(model)
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        drew, idle = set[str](), list(parameters)
        for step in range(N_UPDATES):
            with draws.at(SEED, step, CPU), self._doing("training"):
                before = _generators()
                output = model(self._images)
                self._logits(output)
                loss, logits = judge.in_training(output, self._labels)
                self._check_loss(loss, logits)
                loss.backward()
                drew |= {whose for whose, state in _generators().items() if state != before[whose]}
            idle = [name for name in idle if parameters[name].grad is None]
            with torch.no_grad():
                for parameter in parameters.values():
                    if parameter.grad is not None:
                        parameter.sub_(parameter.grad, alpha=LR)
                        parameter.grad = None
        return drew, idle

    def _check_loss(self, loss: object, logits: torch.Tensor) -> None:
        if logits.shape != (LOOK_IMAGES, self._n_classes):
            raise self._refusal(f"must return logits in training as in evaluation, and returns {[*logits.shape]}")
        if not logits.requires_grad:
            raise self._refusal("must give its logits a gradient in training, and they depend on no parameter")
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
            kind = f"{[*loss.shape]}" if isinstance(loss, torch.Tensor) else type(loss).__name__
            raise StudyFileError(
                f"model.loss: {self._config.loss} must return the mean loss, one number that depends on the logits, "
                f"and returned {kind}"
            )
        own_loss = self._config.loss
        if not loss.isfinite() and own_loss is not None:
            raise StudyFileError(f"model.loss: {own_loss} must return a finite loss, and its first is {loss:g}")
        if not loss.isfinite():
            raise self._refusal(f"must have a finite loss, and its first is {loss:g}")

    def _check_copies(self, model: nn.Module) -> None:
        """Make sure that the model can be copied, as its moving average is."""
        try:
            copy.deepcopy(model)
        except Exception as error:
            raise self._refusal(
                f"must be a network that can be copied, for the average of its weights, and it cannot "
                f"({said(error)}): keep no tensor of a forward pass in it"
            ) from error

    def _check_rebuilt(self, model: nn.Module, state: Mapping[str, torch.Tensor], scores: torch.Tensor) -> None:
        """Make sure that the function builds the same network anew, whose state says all that it is."""
        again, _ = self._built(SEED)
        ours, theirs = ({id(p) for p in one.parameters()} for one in (model, again))
        if ours & theirs:
            raise self._refusal("must build a network anew at every call, and returned one that it had built before")
        if not _are_equal(state, again.state_dict()):
            self._remark(
                "does not draw its first weights from the generators that are seeded, so that trials start differently"
            )
        other, _ = self._built(OTHER_SEED)
        if {n: t.shape for n, t in other.state_dict().items()} != {n: t.shape for n, t in state.items()}:
            raise self._refusal("must build the same network at every call, and built another with another seed")
        other.load_state_dict(state)
        if not torch.equal(scores, self._evaluated(other)) and torch.equal(scores, self._evaluated(model)):
            raise self._refusal(
                "must have all that it answers by in its state, and the same state in a network that was built with "
                "another seed answers otherwise: make its tensors parameters, or buffers by register_buffer"
            )


def _normalises_by_batch(model: nn.Module) -> bool:
    networks.to_training(model)
    return any(isinstance(one, _BatchNorm) and one.training for one in model.modules())


def _generators() -> dict[str, object]:
    """Return the states of the generators from which a network may draw, by whose they are."""
    _, numpy, place, *_ = np.random.get_state()  # noqa: NPY002 - a person's code may draw from it
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (np.asarray(numpy).tobytes(), place),
        "python": random.getstate(),
    }


def _are_equal(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether two states are equal bit for bit."""
    return one.keys() == other.keys() and all(_is_equal(one[name], other[name]) for name in one)


def _is_equal(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return bool(one == other)


def _ties(model: nn.Module) -> tuple[tuple[str, ...], ...]:
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    return tuple(tuple(one) for one in names.values() if len(one) > 1)
