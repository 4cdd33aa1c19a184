"""The spec: one study, parsed, validated and frozen.

The classes below are the study file's format, the table [space] apart (``search_space.py``): a key of the file is a
field here. They are torch-free and Optuna-free; what may be named stands in the records beside this file.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, StringConstraints, ValidationInfo, field_validator, model_validator

from lrsearch import layer_rates
from lrsearch.domain import Choice, Fixed, high_end
from lrsearch.errors import DataError, IdentityError, StudyFileError, UsageError, nearest
from lrsearch.spec import sources
from lrsearch.spec.datasets import DATASETS
from lrsearch.spec.deciding import (
    FORMER_PRUNER,
    KINDS,
    MOST,
    AshaSpec,
    BudgetSpec,
    GradualSpec,
    HyperbandSpec,
    LrSpec,
    PrunerSpec,
    SamplerSpec,
    TpeSpec,
)
from lrsearch.spec.loop import LoopSpec
from lrsearch.spec.metrics import METRICS, Metric, told_metric
from lrsearch.spec.models import MODELS
from lrsearch.spec.space import OneOf, SearchSpace, Strict
from lrsearch.spec.training import AugmentSpec, TrainingSpec
from lrsearch.trial import Facts

log = logging.getLogger(__name__)

LEAST_TRAIN_IMAGES = 2
"""[examples]"""

LONGEST_NAME = 100
"""Of a study [characters]."""
LONGEST_SECONDS = 366 * 86_400
"""A year [seconds]."""

IMAGES = "dataset (SHA-256)"
"""In an identity, what stands for a person's own images."""
HASH_DIGITS = 16
"""Of a hash in an identity."""

LOOP_KEYS = frozenset({"drop_last", "divergence_watch", "averaging", "weight_decay_on"})
"""Of the table [training], what a training loop of one's own leaves to lrsearch."""

NOT_IDENTITY = ("name", "budget", "workers")
"""What may change without making another study: how it is called, how long it goes on, how the work is shared."""


class DatasetSpec(Strict):
    """The images; validation is taken out of what the search draws, the test set lies apart."""

    name: Annotated[str, OneOf(DATASETS, sources.data_of, sources.FORMS_OF_DATA)] = "digits"
    """A data set's name, or pictures of one's own: ``folder:PATH``, ``csv:FILE``, ``FILE.py:FUNCTION``."""
    limit: Annotated[int, Field(ge=3, le=MOST)] | None = None
    """Images drawn for training and validation together [examples]; all of them by default."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    scaling: Literal["standard", "unit", "weights"] | None = None
    """``standard`` by default; ``weights`` normalises as those did that made the model's weights, the default there."""
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    test_fraction: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Part of one's own pictures that is set apart as the test set; a fifth by default. Unused where there is one."""
    image_size: Annotated[int, Field(ge=4, le=1024)] | None = None
    """Height and width to which one's own pictures are brought [pixels]; the median short side by default."""
    resize: Literal["auto", "pad", "squash", "crop"] | None = None
    """How they are brought to it; auto: pad where the sides' proportions differ much, else squash."""
    channels: Literal[1, 3] | None = None
    """Grey or colour; grey by default where every picture is grey and the model's weights do not want colour."""
    group: Annotated[str, StringConstraints(min_length=1)] | None = None
    """``parent`` (the folder of a picture) or a column of the table: pictures of a group stay on one side."""
    on_error: Literal["refuse", "skip"] | None = None
    """What to do about pictures that cannot be read; refuse by default."""
    classes: Annotated[str, StringConstraints(min_length=1)] | None = None
    """A text file that names the classes in their order, one a line; by default the names in the order of text."""
    args: dict[str, Any] | None = None
    """Keywords for one's own function."""

    OWN_KEYS: ClassVar[tuple[str, ...]] = (
        "test_fraction",
        "image_size",
        "resize",
        "channels",
        "group",
        "on_error",
        "classes",
        "args",
    )

    @property
    def own(self) -> sources.Pictures | sources.Code | None:
        """Where a person's own pictures are; None for a data set that has a record."""
        return None if self.name in DATASETS else sources.data_of(self.name)

    @property
    def pool(self) -> int:
        """Images of a published data set for training and validation together [examples]."""
        return DATASETS[self.name].n_pool if self.limit is None else self.limit

    @property
    def n_train(self) -> int:
        """Training images of a published data set [examples]."""
        return self.pool - max(1, round(self.pool * self.validation_fraction))

    @property
    def expected(self) -> Facts:
        """What the images should be, by what was published; nobody has measured them."""
        known = DATASETS[self.name]
        return Facts(self.n_train, self.pool - self.n_train, known.n_test, known.shape, known.classes)

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.own is not None:
            return self  # their number is known when they have been read
        if given := [key for key in self.OWN_KEYS if getattr(self, key) is not None]:
            raise ValueError(
                f"{given[0]} is for pictures of your own ({sources.FORMS_OF_DATA}), and {self.name} is a data set "
                f"whose images are as they were published; leave it out"
            )
        if self.pool > DATASETS[self.name].n_pool:
            raise ValueError(f"limit must be at most {DATASETS[self.name].n_pool} for {self.name}, got {self.limit}")
        if self.n_train < LEAST_TRAIN_IMAGES:
            raise ValueError(
                f"validation_fraction must leave at least {LEAST_TRAIN_IMAGES} of {self.pool} images to train on, "
                f"got {self.validation_fraction:g}, which leaves {self.n_train}"
            )
        return self


class ModelSpec(Strict):
    """The network, sized from the data's shape and classes."""

    name: Annotated[str, OneOf(MODELS, sources.model_of, sources.FORMS_OF_MODELS)] = "mlp"
    """A model's name, one of a package (``torchvision/NAME``, ``timm/NAME``), or a function: ``FILE.py:FUNCTION``."""
    hidden: tuple[Annotated[int, Field(ge=1, le=MOST)], ...] | None = None
    """Sizes of the hidden dense layers; those of the model's record by default."""
    weights: Annotated[str, StringConstraints(min_length=1)] | None = None
    """Where training starts: ``DEFAULT``, a tag of the package, or a file; drawn at random by default."""
    init_from: Annotated[str, StringConstraints(min_length=1)] | None = None
    """A file of weights (safetensors, or a state of torch), its head left out where the classes are others."""
    stem: Literal["auto", "small", "full"] | None = None
    """``small`` turns a package's first layers into one convolution of stride 1; auto: below 64 pixels, drawn anew."""
    freeze: Annotated[str, StringConstraints(min_length=1)] | tuple[str, ...] | None = None
    """What is not trained: ``backbone`` (all but the head), or how the names of parameters begin."""
    args: dict[str, Any] | None = None
    """Keywords for the function that builds it."""
    loss: Annotated[str, StringConstraints(min_length=1)] | None = None
    """A function of one's own from logits and labels to the mean loss; cross entropy by default."""

    @property
    def own(self) -> sources.Zoo | sources.Code | None:
        """Where the model comes from that has no record; None for one that has."""
        return None if self.name in MODELS else sources.model_of(self.name)

    @property
    def places(self) -> dict[str, str]:
        """What may lie elsewhere on another machine, by key: it is known by its SHA-256."""
        named = {"name": self.name, "weights": self.weights, "init_from": self.init_from, "loss": self.loss}
        return {key: value for key, value in named.items() if value is not None}

    @property
    def needs_a_look(self) -> bool:
        """Whether what is to be known of it is measured: it is none of lrsearch's own, or starts from weights."""
        return self.is_new or self.starts_from_weights or self.freeze is not None or self.loss is not None

    @property
    def is_new(self) -> bool:
        """Whether it is none of those with which lrsearch began, whose results must not change."""
        return self.own is not None or MODELS[self.name].looked_at

    @property
    def hidden_resolved(self) -> tuple[int, ...]:
        """The sizes, the default filled in; none for a model without a record."""
        default = () if self.own is not None else MODELS[self.name].hidden
        return default if self.hidden is None else self.hidden

    @property
    def starts_from_weights(self) -> bool:
        """Whether its weights come from somewhere, and are not drawn."""
        return self.weights is not None or self.init_from is not None

    @field_validator("hidden", "freeze", mode="before")
    @classmethod
    def _as_tuple(cls, raw: object) -> object:
        return tuple(raw) if isinstance(raw, list) else raw

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.weights is not None and self.init_from is not None:
            raise ValueError("weights and init_from both say where training starts: give one of the two")
        if self.own is not None and self.hidden is not None:
            raise ValueError(f"hidden is for {', '.join(MODELS)}: what '{self.name}' takes is given in args")
        if self.own is None and self.args is not None:
            raise ValueError(f"args are for a model of a package or of your own, and '{self.name}' takes hidden")
        if self.loss is not None and sources.code_of(self.loss) is None:
            raise ValueError(f"loss must be 'FILE.py:FUNCTION' or 'package.module:function', got {self.loss!r}")
        return self


class ObjectiveSpec(Strict):
    """What the best trial is best at, on the validation images after the last epoch."""

    direction: Literal["maximize", "minimize"] | None = None
    """Which values are better, of a metric that only one's own loop knows."""
    metric: Annotated[str, Field(validate_default=True)] = "accuracy"
    """A metric's name; with a training loop of one's own, any that it tells."""

    @property
    def record(self) -> Metric:
        """What there is to know of the metric."""
        if self.metric in METRICS:
            return METRICS[self.metric]
        return told_metric(self.metric, self.direction or "maximize")

    @field_validator("metric", mode="before")
    @classmethod
    def _is_known(cls, raw: object, info: ValidationInfo) -> object:
        direction = info.data.get("direction")
        if raw not in METRICS:
            if direction is None or not (isinstance(raw, str) and raw.isidentifier()):
                OneOf(METRICS, forms="a metric that your own loop tells, with objective.direction").known(raw)
        elif direction not in (None, METRICS[str(raw)].direction):
            raise ValueError(f"{raw} is there to {METRICS[str(raw)].direction}, got direction = '{direction}'")
        return raw


Retries = Annotated[int, Field(ge=0, le=MOST)]


class RetriesSpec(Strict):
    """How often a trial starts again for a reason, without progress in between, before it counts as failed.

    Trials that were preempted or interrupted always go on.
    """

    out_of_memory: Retries = 1
    crash: Retries = 1
    lost: Retries = 3
    """Its worker was not heard of for ``lease_seconds``."""
    stalled: Retries = 1
    """Its worker made no update for ``no_progress_seconds``."""
    timed_out: Retries = 0
    """It was trained for ``trial_seconds``."""


class WorkersSpec(Strict):
    """How the work is shared and kept; not part of a study's identity."""

    lease_seconds: Annotated[float, Field(gt=0, le=LONGEST_SECONDS)] = 60.0
    """A worker that has not been heard of for so long has lost its trial [seconds]."""
    checkpoint_seconds: Annotated[float, Field(ge=0, le=LONGEST_SECONDS)] = 60.0
    """At most so much work is repeated after a kill [seconds]; 0: a trial's state is kept after every epoch."""
    trial_seconds: Annotated[float, Field(gt=0, le=LONGEST_SECONDS)] | None = None
    """Training time after which a trial fails as timed out [seconds]; no limit by default."""
    no_progress_seconds: Annotated[float, Field(gt=0, le=LONGEST_SECONDS)] = 600.0
    """A worker that has made no update for so long is ended, and its trial goes on elsewhere [seconds]."""
    retries: RetriesSpec = RetriesSpec()

    HEARTBEATS_PER_LEASE: ClassVar[int] = 6

    @property
    def heartbeat_seconds(self) -> float:
        """Time between two signs of life of a worker [seconds]."""
        return self.lease_seconds / self.HEARTBEATS_PER_LEASE


class StudySpec(Strict):
    """One study: what to train, what to search, how long."""

    name: Annotated[str, StringConstraints(pattern=rf"^[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}$")]
    epochs: Annotated[int, Field(ge=1, le=MOST)] = 10
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    baseline: str | None = None
    """Your current setting, tried first: ``"sgd lr=0.1 cosine batch=64"``."""
    dataset: DatasetSpec = DatasetSpec()
    model: ModelSpec = ModelSpec()
    loop: LoopSpec | None = None
    """A training loop of one's own, which stands for data set and model; None: lrsearch trains."""
    objective: ObjectiveSpec = ObjectiveSpec()
    budget: BudgetSpec = BudgetSpec(trials=50)
    sampler: Annotated[SamplerSpec, Field(discriminator="name")] = TpeSpec()
    pruner: Annotated[PrunerSpec, Field(discriminator="name")] = GradualSpec()
    strategy: LrSpec | None = None
    """Who decides in place of sampler and pruner; None: these two do, each for itself."""
    prior: Annotated[str, StringConstraints(min_length=1)] | None = None
    """What the strategy takes for known at the start: a study of the same database, ``auto`` (those of similar images
    and model, the default) or ``none``."""
    training: TrainingSpec = TrainingSpec()
    augment: AugmentSpec | None = None
    """How training images are changed at random; None: they are not."""
    workers: WorkersSpec = WorkersSpec()
    space: SearchSpace = SearchSpace()

    _facts: Facts | None = PrivateAttr(None)

    @property
    def facts(self) -> Facts:
        """What the study's images are: as measured when it was filed; before that, as they should be.

        Nobody knows what pictures of a person's own are before they have been read: see ``is_known``.
        """
        if self._facts is not None:
            return self._facts
        return self.dataset.expected if self.loop is None else Facts(self.loop.n_train or 0, 0, 0, (0, 0, 0), ())

    @property
    def is_known(self) -> bool:
        """Whether it is known what the study trains: it is published, or has been measured."""
        return self._facts is not None or self.is_published

    @property
    def is_published(self) -> bool:
        """Whether images and model are such that their records say all there is to know."""
        own = self.loop is not None or self.dataset.own is not None or self.model.needs_a_look
        return not own and not self.layer_wise

    @property
    def measured_facts(self) -> Facts | None:
        """What has been measured; None where nobody has."""
        return self._facts

    @property
    def decay_matrices(self) -> bool:
        """Whether weight decay acts upon matrices alone, the default filled in."""
        asked = self.training.weight_decay_on
        return self.loop is not None or self.model.is_new if asked is None else asked == "matrices"

    @property
    def scaling(self) -> Literal["standard", "unit", "weights"]:
        """How images are normalised, the default filled in."""
        return self.dataset.scaling or ("weights" if self.model.starts_from_weights else "standard")

    def check_has_images(self) -> None:
        """Make sure that lrsearch trains the study itself.

        Raises:
            UsageError: a person's own loop does.
        """
        if self.loop is not None:
            raise UsageError(
                f"the study '{self.name}' is trained by a loop of your own, {self.loop.name}, and only that knows its "
                f"data and model: `lrsearch export {self.name} --to json` prints the setting and all learning rates"
            )

    @property
    def layer_wise(self) -> bool:
        """Whether learning rates may differ between layers."""
        return any(getattr(self.space, name) is not None for name in layer_rates.FIELDS)

    @property
    def metric(self) -> Metric:
        """What there is to know of the metric that the best trial is best at."""
        return self.objective.record

    def measured(self, facts: Facts | None) -> Self:
        """Return the same spec, of images that were measured; None: nobody has."""
        out = self.model_copy()
        out._facts = facts  # noqa: SLF001 - of the same class
        return out

    def like(self, filed: "StudySpec") -> Self:
        """Return the same spec with the pruner of a filed study, where this one names none and the default was that."""
        if "pruner" in self.model_fields_set or filed.pruner != FORMER_PRUNER:
            return self
        return self.model_copy(update={"pruner": filed.pruner})

    def augmented(self, shape: tuple[int, int, int], classes: Sequence[str]) -> AugmentSpec | None:
        """Return how training images are changed, by what it comes to for images of that shape and these classes.

        Raises:
            StudyFileError: it cannot be done to them.
        """
        if self.augment is None:
            return None
        try:
            return self.augment.resolved(shape, classes)
        except ValueError as error:
            raise StudyFileError(f"augment: {error}") from None

    def fitted(self, facts: Facts) -> Self:
        """Return the spec of images that were just read, with those of several batch sizes that fit, which is said.

        Raises:
            StudyFileError: none fits.
        """
        out, sizes = self.measured(facts), self.space.batch_size
        if self.loop is not None:
            return out
        if self.augment is not None:
            out = out.model_copy(update={"augment": self.augmented(facts.shape, facts.classes)})
        wrong = self._too_large(facts.n_train)
        if not wrong:
            return out
        fitting = [size for size in sizes.values if int(size) <= facts.n_train] if isinstance(sizes, Choice) else []
        if not fitting:
            raise StudyFileError(f"{wrong}: --set space.batch_size={max(1, facts.n_train // 4)}")
        log.warning("%s: the search goes on with %s", wrong, ", ".join(map(str, fitting)))
        domain = Fixed(fitting[0]) if len(fitting) == 1 else Choice(tuple(fitting))
        return out.model_copy(update={"space": self.space.model_copy(update={"batch_size": domain})})

    def check_facts(self, here: Facts) -> None:
        """Make sure that images and model are those that the study was filed with, where these have been measured.

        Raises:
            DataError: the images are others, and the trials could not be compared.
            IdentityError: the person's own model is another, likewise.
        """
        if self._facts is None:
            return
        there = self._facts
        if there.fingerprint and there.fingerprint != here.fingerprint:
            raise DataError(
                f"the images of {self.dataset.name} here are not those that the study '{self.name}' was filed with "
                f"({_images(here)} here, {_images(there)} there), so that its trials could not be compared: name their "
                f"folder with --data-dir, or add a --name to start a study of its own"
            )
        if there.network is None or here.network is None:
            return
        whose = f"the model {self.model.name}" if self.loop is None else f"the loop {self.loop.name}"
        for what, filed, found in (
            (f"the file of {whose}", there.network.code, here.network.code),
            ("the file of the model's weights", there.network.weights, here.network.weights),
        ):
            if filed != found:
                raise IdentityError(
                    f"{what} here is not that with which the study '{self.name}' was filed (SHA-256 {found[:8]} here, "
                    f"{filed[:8]} there), so that its trials could not be compared: bring the same file here, or add a "
                    f"--name to start a study of its own"
                )
        if there.network.levels != here.network.levels:
            raise IdentityError(
                f"{whose} has other layers here than where the study '{self.name}' was filed, so "
                f"that its trials could not be compared: bring the same version of its package, or add a --name to "
                f"start a study of its own"
            )

    @field_validator("sampler", "pruner", mode="before")
    @classmethod
    def _named(cls, raw: object, info: ValidationInfo) -> object:
        """Take a name for a table, and a table without one for the default kind."""
        if isinstance(raw, str):
            return {"name": raw}
        if isinstance(raw, dict) and "name" not in raw:
            return {"name": next(iter(KINDS[info.field_name or ""])), **raw}
        return raw

    @field_validator("strategy", mode="before")
    @classmethod
    def _strategy_named(cls, raw: object) -> object:
        """Take a name for a table; ``sampler`` says that sampler and pruner decide."""
        if isinstance(raw, str):
            raw = {"name": raw}
        if isinstance(raw, dict):
            if raw.get("name") == "sampler":
                return None
            if raw.get("name", "lr") != "lr":
                known = ("lr", "sampler")
                name = raw["name"]
                raise ValueError(f"unknown name {name!r}{nearest(str(name), known)}; known: {', '.join(known)}")
        return raw

    @field_validator("prior")
    @classmethod
    def _prior_unsaid(cls, prior: str | None) -> str | None:
        return None if prior == "auto" else prior  # a study that says what holds anyhow is the same

    @model_validator(mode="after")
    def _strategy_decides_alone(self) -> Self:
        for table in ("sampler", "pruner"):
            if self.strategy is not None and table in self.model_fields_set:
                raise ValueError(
                    f"{table} is for strategy = 'sampler', where sampler and pruner decide: with strategy = "
                    f"'{self.strategy.name}' leave [{table}] out"
                )
        if self.strategy is None and self.prior not in (None, "none"):
            raise ValueError("prior is for strategy = 'lr', whose model it feeds: leave it out, or ask for that")
        return self

    @model_validator(mode="after")
    def _loop_stands_alone(self) -> Self:
        if self.loop is None:
            if self.objective.metric not in METRICS:
                raise ValueError(
                    f"objective.metric = '{self.objective.metric}' is none that lrsearch measures "
                    f"({', '.join(METRICS)}): only a training loop of your own, loop.name, can tell it"
                )
            return self
        for table in ("dataset", "model", "augment"):
            if table in self.model_fields_set and getattr(self, table) is not None:
                raise ValueError(
                    f"{table} is for trainings by lrsearch, and {self.loop.name} trains by itself: leave [{table}] out"
                )
        given = {key for key in self.training.model_fields_set if getattr(self.training, key) is not None}
        for key in sorted(given - LOOP_KEYS):
            raise ValueError(
                f"training.{key} is for trainings by lrsearch, and {self.loop.name} trains by itself: leave it out"
            )
        if self.loop.counts_steps is not None and not isinstance(self.space.batch_size, Choice | Fixed):
            raise ValueError(
                "loop.steps_per_epoch = a function is asked once for each batch size, and space.batch_size is a range: "
                "name the sizes, or give loop.n_train"
            )
        return self

    @field_validator("augment")
    @classmethod
    def _augment_by_what_it_comes_to(cls, augment: AugmentSpec | None, info: ValidationInfo) -> AugmentSpec | None:
        dataset: DatasetSpec | None = info.data.get("dataset")
        if augment is None or dataset is None or info.data.get("loop") is not None:
            return augment
        if dataset.own is not None:
            return augment if augment.given else None  # what its pictures are is known when they have been read
        return augment.resolved(dataset.expected.shape, dataset.expected.classes)

    @model_validator(mode="after")
    def _mixed_labels_need_our_loss(self) -> Self:
        if self.augment is not None and self.model.loss is not None and (keys := self.augment.of_the_loss):
            raise ValueError(
                f"augment.{keys[0]} gives an image more than one class, as cross entropy can take it, and "
                f"model.loss = '{self.model.loss}' takes one label an image: leave one of the two out"
            )
        return self

    @model_validator(mode="after")
    def _weights_say_how_to_scale(self) -> Self:
        if self.dataset.scaling == "weights" and not self.model.starts_from_weights:
            raise ValueError(
                "dataset.scaling = 'weights' normalises as those did that made the model's weights, and none are "
                "named: name model.weights or model.init_from, or leave the scaling out"
            )
        return self

    @model_validator(mode="after")
    def _batch_fits(self, info: ValidationInfo) -> Self:
        del info
        n_train = self.dataset.n_train if self.loop is None and self.dataset.own is None else None
        if self.loop is not None:
            n_train = self.loop.n_train
        if n_train is not None and (wrong := self._too_large(n_train)):
            raise ValueError(wrong)
        return self

    def _too_large(self, n_train: int) -> str:
        largest = int(high_end(self.space.batch_size))
        if largest <= n_train:
            return ""
        of = f"images of {self.dataset.name}" if self.loop is None else "examples of loop.n_train"
        return f"space.batch_size must be at most the {n_train} training {of}, got {largest}"

    @model_validator(mode="before")
    @classmethod
    def _finer_where_it_starts_from_weights(cls, raw: Any) -> Any:
        """Search how much slower the first layers learn, where training starts from weights and nothing is said."""
        if not isinstance(raw, dict):
            return raw
        model, space = raw.get("model", {}), raw.get("space", {})
        if not (isinstance(model, dict) and isinstance(space, dict)):
            return raw
        starts = model.get("weights") is not None or model.get("init_from") is not None
        if not starts or space.keys() & {"stem_ratio", "layer_decay"}:
            return raw
        return {**raw, "space": {**space, "stem_ratio": {"low": 0.003, "high": 1.0, "log": True}}}

    @model_validator(mode="after")
    def _sampler_fits(self) -> Self:
        if self.sampler.name in ("gp", "qmc", "cmaes") and (conditions := self.conditions):
            raise ValueError(
                f"sampler.name = '{self.sampler.name}' needs a space without conditions, because it would draw the "
                f"conditional learning rate at random; here {conditions}: narrow the space to one optimizer and one "
                f"schedule, or use 'tpe'"
            )
        return self

    @property
    def conditions(self) -> str:
        """Which choices make other parameters conditional, in words; empty where there are none."""
        found = [
            f"{len(names)} {what} ({', '.join(names)})"
            for what, names in (("optimizers", self.space.optimizers), ("schedules", self.space.schedules))
            if len(names) > 1
        ]
        return " and ".join(found)

    @property
    def averaging(self) -> bool:
        """Whether trials keep a moving average of their weights."""
        if self.training.averaging == "auto":
            return self.pruner.name != "none" and self.objective.record.averaged
        return self.training.averaging == "on"

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the updates that one pass makes."""
        if self.loop is not None and self.loop.n_train is None:
            return self._told_steps(self.loop, batch_size)
        network = self.facts.network
        alone = network is not None and network.batch_norm
        return updates_per_epoch(self.facts.n_train, batch_size, drop_last=self.training.drop_last, no_single=alone)

    def _told_steps(self, loop: LoopSpec, batch_size: int) -> int:
        if isinstance(loop.steps_per_epoch, int):
            return loop.steps_per_epoch
        return dict(self.facts.steps).get(batch_size, 1)

    @classmethod
    def from_json(cls, text: str) -> "StudySpec":
        """Return the spec that ``to_json`` wrote, of this version or an earlier one.

        Raises:
            ValidationError: it is no such spec.
        """
        with suppress(ValueError, AttributeError):  # what is no spec is told so below
            tables = json.loads(text)
            sampler = tables.get("sampler", {})
            if sampler.get("name") in ("random", "qmc") and "n_startup_trials" in sampler:
                # Written down of every sampler once, though these two do not take it.
                del sampler["n_startup_trials"]
                text = json.dumps(tables)
        return cls.model_validate_json(text)

    def to_json(self) -> str:
        """Return the whole spec as JSON that ``from_json`` reads back."""
        return json.dumps(self.to_plain(), sort_keys=True)

    def to_plain(self) -> dict[str, Any]:
        """Return the spec as the tables of a study file, defaults filled in."""
        unused = set() if self.loop is None else {"dataset", "model"}
        unused |= set() if self.strategy is None else {"sampler", "pruner"}
        return self.model_dump(mode="json", exclude_none=True, exclude=unused)

    def identity(self) -> dict[str, Any]:
        """Return what makes two specs the same study, flat: ``{"a.b": value}``.

        Everything but ``NOT_IDENTITY``, by what it comes to: a default that is stated is the default, and the settings
        of a pruner that never compares are left out.
        """
        flat = self._resolved()
        if self.pruner.compares_from(self.epochs) is None:
            flat = {key: value for key, value in flat.items() if key == "pruner.name" or not key.startswith("pruner.")}
        return flat

    def _stated(self) -> dict[str, Any]:
        return _flat({key: value for key, value in self.to_plain().items() if key not in NOT_IDENTITY})

    def _resolved(self) -> dict[str, Any]:
        first_rung = (
            {"pruner.min_resource": self.pruner.first_rung(self.epochs)}
            if isinstance(self.pruner, AshaSpec | GradualSpec | HyperbandSpec)
            else {}
        )
        if self.loop is not None:
            return {
                **self._stated(),
                **self._looked_at(),
                **first_rung,
                "loop.name": sources.without_folder(self.loop.name),
                "training.averaging": "on" if self.averaging else "off",
            }
        flat = {
            **self._stated(),
            **self._looked_at(),
            **first_rung,
            "dataset.scaling": self.scaling,
            "model.hidden": list(self.model.hidden_resolved),
            **{f"model.{key}": sources.without_folder(value) for key, value in self.model.places.items()},
            "training.averaging": "on" if self.averaging else "off",
        }
        for key, unsaid in self.training.UNSAID.items():
            if flat.get(f"training.{key}") == unsaid:
                del flat[f"training.{key}"]
        if self.dataset.own is None:
            return flat | {"dataset.limit": self.dataset.pool}
        return flat | {"dataset.name": "own"}  # not where it lies: another machine may have it elsewhere

    def _looked_at(self) -> dict[str, Any]:
        """Return what stands for a person's own files, whose paths may be others elsewhere."""
        network = None if self._facts is None else self._facts.network
        known = self._facts if self.dataset.own is not None else None
        found = {} if known is None else {IMAGES: known.fingerprint}
        if network is not None:
            key = "model" if self.loop is None else "loop"
            found |= {f"{key}.name (SHA-256)": network.code, "model.weights (SHA-256)": network.weights}
        return {key: value[:HASH_DIGITS] for key, value in found.items() if value}

    def identity_hash(self) -> str:
        """Return a short hash of the identity."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:16]


def updates_per_epoch(n_train: int, batch_size: int, *, drop_last: bool, no_single: bool = False) -> int:
    """Return the updates that one pass over ``n_train`` [examples] makes.

    Args:
        n_train: training images.
        batch_size: of all batches but the last.
        drop_last: whether a last, smaller batch is left out.
        no_single: whether one of a single image is: a network that normalises by batch cannot be trained on it.
    """
    whole, rest = divmod(n_train, batch_size)
    left_out = drop_last or (no_single and rest == 1 and whole > 0)
    return whole if left_out or not rest else whole + 1


def _images(facts: Facts) -> str:
    return f"{facts.n_train} to train on, {facts.n_validation} to validate, SHA-256 {facts.fingerprint[:8]}"


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in table.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value and not {"low", "high"} <= value.keys():
            out |= _flat(value, f"{path}.")
        else:
            out[path] = value
    return out


def differences(old: StudySpec, new: StudySpec) -> list[tuple[str, Any, Any]]:
    """Return ``(key, value there, value here)`` for every key that makes two specs two studies; None where absent.

    What follows from another key is left out (asha's first rung from the epochs, the settings of another sampler or
    pruner from its name): that key is in the list.
    """
    identities = old.identity(), new.identity()
    stated = tuple(one._stated() | one._looked_at() for one in (old, new))  # noqa: SLF001
    shown = old._resolved(), new._resolved()  # noqa: SLF001
    other_kind = [table for table in KINDS if _differs(identities, f"{table}.name")]
    # Other images follow from another size of them, and the like: that key is in the list.
    others = any(
        key.startswith("dataset.") and _differs(identities, key) and _differs(stated, key)
        for key in identities[0].keys() | identities[1].keys()
    )
    return [
        (key, shown[0].get(key), shown[1].get(key))
        for key in sorted(identities[0].keys() | identities[1].keys())
        if _differs(identities, key)
        and _differs(stated, key)
        and (key.partition(".")[0] not in other_kind or key.endswith(".name"))
        and not (key == IMAGES and others)
    ]


def _differs(pair: Sequence[dict[str, Any]], key: str) -> bool:
    return bool(pair[0].get(key) != pair[1].get(key))
