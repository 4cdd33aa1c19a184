"""The answer of a study: what ``lrsearch best`` says, and the network that it is about."""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from lrsearch.analysis.answer import Score, value_of
from lrsearch.analysis.safe_interval import SafeInterval
from lrsearch.analysis.trial_diagnosis import TrialDiagnosis, diagnose_trial
from lrsearch.api.words import in_python
from lrsearch.trial import Trial, TrialConfig

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lrsearch.api.weights import TrialNetwork
    from lrsearch.report.answer import Answer


class Best:
    """The best complete trial, and how sure that is, as the study stood when it was asked.

    Args:
        answer: in words.
        trial: its winner.
        load: reads the weights of a trial, or trains it once more for them.
    """

    def __init__(self, answer: "Answer", trial: Trial, load: "Callable[[Trial], TrialNetwork]") -> None:
        self.answer, self.trial = answer, trial
        self._load = load

    def __repr__(self) -> str:
        """Return the setting and its scores, a line each."""
        width = max(map(len, self.answer.facts))
        facts = [f"  {name:<{width}}  {text}" for name, text in self.answer.facts.items()]
        return "\n".join([self.answer.headline, *facts, *self.answer.how_sure()])

    def _repr_html_(self) -> str:
        from lrsearch.report import notebook

        return notebook.answer(self.answer)

    @property
    def number(self) -> int:
        """Of the trial."""
        return self.trial.number

    @property
    def config(self) -> TrialConfig:
        """Its setting: ``config.optimizer.peak_lr``, ``config.schedule.family``, ``config.batch_size`` and so on."""
        return self.trial.config

    @property
    def score(self) -> float:
        """The study's metric on the validation images after the last epoch."""
        return value_of(self.trial)

    @property
    def error(self) -> float | None:
        """One standard error of the score; None of a metric that is no share of images."""
        return next((one.error for one in self.validation), None)

    @property
    def validation(self) -> tuple[Score, ...]:
        """All scores on the validation images, the study's own metric first."""
        return self.answer.found.validation

    @property
    def test(self) -> tuple[Score, ...]:
        """All scores on the untouched test images, likewise; empty where they have not been judged."""
        return self.answer.found.test

    @property
    def test_accuracy(self) -> float | None:
        """[0..1] on the untouched test images; None where they have not been judged."""
        return self.trial.test_accuracy

    @property
    def safe(self) -> SafeInterval:
        """How far the learning rate may stray with this optimizer: ``safe.low``, ``safe.high``, ``safe.centre``, zones.

        ``low`` is None where the trials do not say, and ``why_none`` then says why.
        """
        mine = self.trial.config.optimizer.name
        return next(one.safe for one in self.answer.diagnosis if one.optimizer == mine)

    @property
    def diagnosis(self) -> TrialDiagnosis:
        """How its training went, in words, and the learning rate to try next."""
        return diagnose_trial(self.trial, self.answer.spec)

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, in the order of the network's outputs."""
        return self.answer.spec.facts.classes

    @in_python
    def model(self) -> "nn.Module":
        """Return the network with the weights that the trial ended with, on the CPU and in evaluation.

        They are read where the search kept them, or else the trial is trained once more. It takes images as ``inputs``
        returns them.

        Raises:
            LrsearchError: images or functions are not there, or are not those of the search.
        """
        return self._network.network

    @in_python
    def inputs(self, pictures: object) -> "torch.Tensor":
        """Return pictures as the network takes them: of its size and channels, normalised as in the search.

        Args:
            pictures: a path, a picture of Pillow's or bytes ``[h, w]`` or ``[h, w, c]``; or a sequence of such.

        Returns:
            float32 ``[n, c, h, w]`` on the CPU.

        Raises:
            LrsearchError: a picture that cannot be read.
        """
        return self._network.inputs(pictures)

    @cached_property
    def _network(self) -> "TrialNetwork":
        return self._load(self.trial)
