"""What other packages' training scripts are told, read by their own schedulers and optimizers; rates are compared."""

import re
import shlex
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from command_line import Finished, InProcess, one_line, run_python
from test_export import SHAPES
from torch.optim import lr_scheduler
from trials_by_hand import spec, trial

from lrsearch.analysis.deviation import SMALL, deviation
from lrsearch.errors import UsageError
from lrsearch.families import FAMILIES
from lrsearch.gather import flags
from lrsearch.layer_rates import shares
from lrsearch.report.targets import Script
from lrsearch.schedules import factors
from lrsearch.spec.study import StudySpec
from lrsearch.training import optimizers
from lrsearch.training.levels import levels
from lrsearch.trial import Facts, Network, OptimizerConfig, ScheduleConfig, Trial

timm = pytest.importorskip("timm", reason="timm comes with the extra 'test'")
transformers = pytest.importorskip("transformers", reason="transformers comes with the extra 'test'")

pytest_plugins = ["command_line"]

Rates = npt.NDArray[np.float64]

PEAK, BATCH = 0.1, 48
N_TRAIN, EPOCHS = 800, 10
WHOLE, KEPT = N_TRAIN // BATCH, -(-N_TRAIN // BATCH)
"""Updates of an epoch: where the last, smaller batch is left out, and where it is not."""
WARMUPS = (0.0, 0.1, 0.1234)
"""None; one epoch; a part of one."""
DIGITS = spec()

RESTARTS = ScheduleConfig("warm_restarts", final_fraction=0.02, cycles=3, cycle_mult=1)
PLATEAU = ScheduleConfig("plateau", final_fraction=0.1, drop_factor=0.2, patience_epochs=0)
DROPS = ScheduleConfig("step", final_fraction=0.01, drops=4)
EVERY = (*SHAPES, RESTARTS, PLATEAU, DROPS)


def of(schedule: ScheduleConfig, optimizer: OptimizerConfig | None = None, **settings: Any) -> Trial:
    made = trial(3)
    chosen = optimizer or OptimizerConfig("sgd", PEAK, 5e-4, momentum=0.9)
    config = {"schedule": schedule, "optimizer": chosen, "batch_size": BATCH, **settings}
    return replace(made, config=replace(made.config, **config))


# What the packages make of it. The types are those of their parsers.

WHOLE_NUMBERS = {
    *("epochs", "warmup_epochs", "lr_cycle_limit", "batch_size", "seed", "num_classes", "input_size"),
    "grad_accum_steps",
    *("decay_milestones", "lr_step_size", "lr_warmup_epochs", "train_crop_size", "val_crop_size", "val_resize_size"),
}
SEVERAL = {"decay_milestones", "opt_betas", "mean", "std", "input_size", "opt_kwargs", "model_kwargs", "scale", "ratio"}
TEXTS = {"sched", "opt", "data_dir", "model", "opt_kwargs", "model_kwargs", "pretrained_path"}
TEXTS |= {"lr_scheduler", "lr_warmup_method", "data_path"}
TIMM_DEFAULTS = {
    "momentum": 0.9,
    "sched": "cosine",
    "epochs": 300,
    "warmup_epochs": 5,
    "warmup_lr": 1e-5,
    "lr_cycle_decay": 0.5,
}


def command(text: str) -> dict[str, Any]:
    """Parse a command as the script would."""
    (said,) = re.findall(r"^python train\.py(.*)", text.replace("\\\n", " "), re.MULTILINE)
    out: dict[str, Any] = {}
    for part in re.split(r"\s+--", said)[1:]:
        flag, *values = shlex.split(part)
        name = flag.replace("-", "_")
        kind: type = str if name in TEXTS else int if name in WHOLE_NUMBERS else float
        read = [kind(value) for value in values]
        out[name] = True if not read else read if name in SEVERAL else read[0]
        assert name in SEVERAL or len(read) <= 1, part
    return out


def arguments(text: str, folder: Path = Path("output")) -> Any:
    """Run the program that is exported for transformers; return its TrainingArguments."""
    return program(text)["arguments"]


def program(text: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "exported"}
    exec(compile(text, "exported.py", "exec"), names)
    return names


def an_optimizer(lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def timm_rates(said: Mapping[str, Any]) -> Rates:
    from timm.scheduler import create_scheduler

    optimizer = an_optimizer(said["lr"])
    scheduler, epochs = create_scheduler(Namespace(**{**TIMM_DEFAULTS, **said}), optimizer, WHOLE)
    rates, done = [], 0
    for epoch in range(epochs):
        for _ in range(WHOLE):
            rates.append(optimizer.param_groups[0]["lr"])
            done += 1
            scheduler.step_update(num_updates=done)
        scheduler.step(epoch + 1)
    return np.array(rates)


def transformers_rates(text: str) -> Rates:
    from transformers import get_scheduler

    said = arguments(text)
    n = int(said.num_train_epochs) * (WHOLE if said.dataloader_drop_last else KEPT)
    optimizer = an_optimizer(said.learning_rate)
    scheduler = get_scheduler(
        said.lr_scheduler_type,
        optimizer,
        num_warmup_steps=said.get_warmup_steps(n),
        num_training_steps=n,
        scheduler_specific_kwargs=said.lr_scheduler_kwargs or {},
    )
    return stepped(optimizer, scheduler, n)


def stepped(optimizer: torch.optim.Optimizer, scheduler: Any, n: int) -> Rates:
    rates = []
    for _ in range(n):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.array(rates)


def torchvision_rates(said: Mapping[str, Any]) -> Rates:
    optimizer, warm = an_optimizer(said["lr"]), said["lr_warmup_epochs"]
    scheduler: Any
    if said["lr_scheduler"] == "steplr":
        scheduler = lr_scheduler.StepLR(optimizer, step_size=said["lr_step_size"], gamma=said["lr_gamma"])
    elif said["lr_scheduler"] == "cosineannealinglr":
        scheduler = lr_scheduler.CosineAnnealingLR(optimizer, T_max=said["epochs"] - warm, eta_min=said["lr_min"])
    else:
        scheduler = lr_scheduler.ExponentialLR(optimizer, gamma=said["lr_gamma"])
    if warm:
        assert said["lr_warmup_method"] == "linear"
        ramp = lr_scheduler.LinearLR(optimizer, start_factor=said["lr_warmup_decay"], total_iters=warm)
        scheduler = lr_scheduler.SequentialLR(optimizer, schedulers=[ramp, scheduler], milestones=[warm])
    return np.repeat(stepped(optimizer, scheduler, said["epochs"]), KEPT)


def rates_of(text: str, script: Script) -> Rates:
    if script == "transformers":
        return transformers_rates(text)
    return timm_rates(command(text)) if script == "timm" else torchvision_rates(command(text))


def prose(text: str) -> str:
    """Return the comment above the options, on one line."""
    return " ".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))


# The learning rate at every update

REFUSED, EXACT, SHIFTED = "refused", "the same", "an update behind or ahead"
NEAR = "near"


def expected(script: Script, schedule: ScheduleConfig, warmup: float) -> str:
    """Return how near a script comes, by what it can say."""
    family, whole = schedule.family, warmup != 0.1234
    match script:
        case "timm":
            if family in ("inverse_sqrt", "one_cycle", "triangular", "wsd", "wsd_cosine", "plateau"):
                return REFUSED
            if family == "warm_restarts":  # ten epochs are not three or seven equal parts; nine are three
                return SHIFTED if schedule is RESTARTS and warmup == 0.1 else REFUSED
            if family == "multistep" and warmup:  # drops at no whole epoch, or an update early
                return REFUSED if whole else NEAR
            if family == "step" and not whole:
                return REFUSED
            return EXACT if not warmup else SHIFTED if whole else NEAR
        case "transformers":
            if family in ("step", "multistep", "exponential", "one_cycle", "triangular", "plateau"):
                return REFUSED
            if family == "warm_restarts":
                return NEAR if schedule.cycle_mult == 1 else REFUSED
            return SHIFTED if warmup else EXACT
        case _:
            if family == "cosine" and not warmup:
                return NEAR
            # Five treads of two epochs, or drops at every third.
            even = family == "constant" or schedule is DROPS or family == "multistep"
            return EXACT if even and not warmup else REFUSED


@pytest.mark.parametrize(
    ("script", "schedule", "warmup"),
    [*product(("timm", "transformers", "torchvision"), EVERY, WARMUPS)],
    ids=lambda value: value.family if isinstance(value, ScheduleConfig) else str(value),
)
def test_the_deviation_that_is_said_is_that_of_their_own_scheduler(
    script: Script, schedule: ScheduleConfig, warmup: float
) -> None:
    made = of(replace(schedule, warmup_fraction=warmup))
    wanted = expected(script, schedule, warmup)
    if wanted == REFUSED:
        with pytest.raises(UsageError, match=r"^trial 3 cannot be trained by .*; export it --to torch$"):
            flags(made, DIGITS, script)
        return
    text = flags(made, DIGITS, script)
    theirs = rates_of(text, script)
    ours = factors(made.config.schedule, len(theirs)) * PEAK
    assert len(theirs) == EPOCHS * (WHOLE if script == "timm" else KEPT)
    off = np.abs(theirs - ours)
    said = prose(text)
    if wanted == EXACT:
        assert off.max() <= 1e-12
        assert f"Learning rate: that of the search at each of {len(ours)} updates" in said
        return
    number, percent, at = re.findall(r"at most (\S+) \((\S+) % of the peak\) from .*? at update (\d+):", said)[0]
    assert float(number) == pytest.approx(off.max(), rel=6e-3)  # three digits are said
    assert float(percent) == pytest.approx(100 * off.max() / PEAK, rel=6e-2)  # two
    assert off[int(at)] == pytest.approx(off.max(), rel=1e-9)
    assert (wanted == SHIFTED) == ("It is ours, an update early or late." in said)


def test_every_family_is_held_against_every_script() -> None:
    assert {shape.family for shape in EVERY} == set(FAMILIES)


def test_a_training_of_many_epochs_is_exported_with_a_warm_up_that_is_no_whole_number_of_them() -> None:
    made = of(ScheduleConfig("cosine", warmup_fraction=0.0732, final_fraction=0.001), epochs=100)
    for script in ("timm", "torchvision"):
        text = flags(made, DIGITS, script)
        theirs = rates_of(text, script)
        assert np.abs(theirs - factors(made.config.schedule, len(theirs)) * PEAK).max() < 0.1 * PEAK
        assert int(command(text)["warmup_epochs" if script == "timm" else "lr_warmup_epochs"]) in (7, 8)


@pytest.mark.parametrize("script", ["timm", "transformers", "torchvision"])
def test_what_is_called_small_is_small_but_for_an_update(script: Script) -> None:
    for epochs, warmup in product((2, 3, 5, 30), (0.0, 0.03, 0.2, 0.33, 0.5)):
        made = of(ScheduleConfig("cosine", warmup_fraction=warmup, final_fraction=0.01), epochs=epochs)
        try:
            theirs = rates_of(flags(made, DIGITS, script), script)
        except UsageError:
            continue
        ours = factors(made.config.schedule, len(theirs)) * PEAK
        near = np.stack([np.roll(ours, -1), ours, np.roll(ours, 1)])
        least, most = near.min(axis=0) - SMALL * PEAK, near.max(axis=0) + SMALL * PEAK
        inside = slice(1, -1)
        assert ((least <= theirs) & (theirs <= most))[inside].all(), (epochs, warmup)


def test_a_deviation_is_found_where_it_is_largest() -> None:
    ours = np.array([1.0, 1.0, 0.5, 0.5])
    found = deviation(ours, np.array([1.0, 0.9, 0.5, 0.1]), 1.0)
    assert (found.largest, found.at, found.ours, found.theirs) == (0.4, 3, 0.5, 0.1)
    assert found.mean == pytest.approx(0.125)
    assert found.lasting == pytest.approx(0.4)
    assert not found.is_small
    early = deviation(ours, np.array([1.0, 0.5, 0.5, 0.5]), 1.0)  # a drop that comes an update early
    assert (early.largest, early.lasting, early.is_small) == (0.5, 0.0, True)
    assert deviation(np.array([1.0]), np.array([1.0]), 1.0).largest == 0


# The rest of the setting

SETTINGS = (
    OptimizerConfig("sgd", PEAK, 5e-4, momentum=0.9),
    OptimizerConfig("sgd", PEAK, 0.0, momentum=0.8, nesterov=True),
    OptimizerConfig("sgd", PEAK, 1e-3, momentum=0.0),
    OptimizerConfig("sgd", PEAK, 1e-3, momentum=0.9, dampening=0.25),
    OptimizerConfig("adam", 1e-3, 0.0, beta1=0.8, beta2=0.99, eps=1e-6),
    OptimizerConfig("adam", 1e-3, 0.1),
    OptimizerConfig("adamw", 1e-3, 0.05, beta1=0.95),
    OptimizerConfig("rmsprop", 1e-3, 1e-4, momentum=0.3, alpha=0.95),
)
COSINE = ScheduleConfig("cosine", final_fraction=0.01)


def model() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2))


def described(optimizer: torch.optim.Optimizer) -> tuple[str, dict[str, Any]]:
    """Return an optimizer's class and settings, and by the number of parameters what decays them."""
    names = ("lr", "momentum", "nesterov", "dampening", "betas", "eps", "alpha")
    settings = {name: optimizer.param_groups[0].get(name) for name in names}
    settings["betas"] = None if settings["betas"] is None else tuple(settings["betas"])
    decayed = sum(p.numel() * group["weight_decay"] for group in optimizer.param_groups for p in group["params"])
    return type(optimizer).__name__, settings | {"decayed": pytest.approx(decayed)}


def searched(config: OptimizerConfig) -> tuple[str, dict[str, Any]]:
    made = model()
    groups = optimizers.groups_of(made, None, of(COSINE, config).config, decay_all=False)
    return described(optimizers.build(config, groups.of(made, config.weight_decay), torch.device("cpu")))


@pytest.mark.parametrize("config", SETTINGS, ids=str)
def test_timm_builds_the_optimizer_that_was_searched(config: OptimizerConfig) -> None:
    from timm.optim import create_optimizer_v2, optimizer_kwargs
    from timm.utils import ParseKwargs

    said = command(flags(of(COSINE, config), DIGITS, "timm"))
    read = Namespace(opt_kwargs={})
    ParseKwargs(["--opt-kwargs"], "opt_kwargs")(None, read, said.pop("opt_kwargs", []))  # type: ignore[arg-type]
    optimizer = create_optimizer_v2(
        model(), **optimizer_kwargs(Namespace(**{**TIMM_DEFAULTS, **said})), **read.opt_kwargs
    )
    assert described(optimizer) == searched(config)


@pytest.mark.parametrize("config", SETTINGS, ids=str)
def test_transformers_builds_the_optimizer_that_was_searched(config: OptimizerConfig) -> None:
    from transformers import Trainer

    if config.name == "adam" and config.weight_decay:
        with pytest.raises(UsageError, match="it has no adam with weight decay in the gradient"):
            flags(of(COSINE, config), DIGITS, "transformers")
        return
    text = flags(of(COSINE, config), DIGITS, "transformers")
    name, settings = described(Trainer(model(), arguments(text)).create_optimizer())
    kind, wanted = searched(config)
    assert settings == wanted
    assert name == ("AdamW" if config.name == "adam" else kind)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (OptimizerConfig("adam", 1e-3, 0.1), "it has no optimizer adam"),
        (OptimizerConfig("sgd", 0.1, momentum=0.9, dampening=0.5), "it has no option for dampening"),
        (OptimizerConfig("rmsprop", 1e-3, alpha=0.99), "its rmsprop has alpha = 0.9, whatever is said, and the trial"),
        (OptimizerConfig("adamw", 1e-3, beta1=0.8), "its adamw has betas = (0.9, 0.999), whatever is said"),
    ],
    ids=str,
)
def test_an_optimizer_that_torchvision_has_no_option_for_is_refused(config: OptimizerConfig, why: str) -> None:
    with pytest.raises(UsageError, match=re.escape(why)):
        flags(of(COSINE, config), DIGITS, "torchvision")


def test_torchvision_is_told_the_optimizer() -> None:
    said = command(
        flags(of(COSINE, OptimizerConfig("sgd", PEAK, 5e-4, momentum=0.9, nesterov=True)), DIGITS, "torchvision")
    )
    assert (said["opt"], said["lr"], said["momentum"], said["weight_decay"]) == ("sgd_nesterov", PEAK, 0.9, 5e-4)
    assert "norm_weight_decay" not in said, "of the mlp all is decayed"


def test_what_the_scripts_do_unasked_is_switched_off() -> None:
    timm_said = command(flags(of(COSINE), DIGITS, "timm"))
    assert timm_said["no_aug"] is True
    assert (timm_said["smoothing"], timm_said["crop_pct"], timm_said["warmup_epochs"]) == (0, 1, 0)
    said = arguments(flags(of(COSINE), DIGITS, "transformers"))
    assert (said.max_grad_norm, said.label_smoothing_factor, said.remove_unused_columns) == (0, 0, False)
    assert said.dataloader_drop_last is False
    dropped = arguments(flags(of(COSINE), spec(training={"drop_last": True}), "transformers"))
    assert dropped.dataloader_drop_last is True
    assert said.per_device_train_batch_size == BATCH


def test_batches_that_timm_leaves_out_are_said_and_counted() -> None:
    said = prose(flags(of(COSINE), DIGITS, "timm"))
    assert (
        "timm leaves out the last, smaller batch of an epoch: 16 updates an epoch, each time without 32 of 800" in said
    )
    assert "160 updates (10 epochs of 16)" in said
    even = prose(flags(of(COSINE, batch_size=50), DIGITS, "timm"))
    assert "leaves out" not in even
    dropped = prose(flags(of(COSINE), spec(training={"drop_last": True}), "torchvision"))
    assert "the script keeps the last, smaller batch: 17 updates an epoch instead of 16" in dropped


COLOUR: dict[str, Any] = {"dataset": {"name": "cifar10", "limit": 1000}}


def test_augmentation_is_said_as_far_as_there_are_options() -> None:
    changed = spec(**COLOUR, augment="flip, crop=4, erase=0.25, mixup=0.2, label_smoothing=0.1, trivial")
    text = flags(of(COSINE), changed, "timm")
    said = command(text.replace("--mixup-mode elem", "").replace("--train-interpolation bilinear", ""))
    assert "no_aug" not in said
    wanted = {"hflip": 0.5, "reprob": 0.25, "mixup": 0.2, "smoothing": 0.1, "color_jitter": 0}
    assert {key: said[key] for key in wanted} == wanted
    assert (said["scale"], said["ratio"]) == ([1, 1], [1, 1]), "no crop that was not asked for"
    assert "--mixup-mode elem" in text
    assert "the search changed images by crop=4, trivial, for which there is no option" in prose(text)
    other = flags(of(COSINE), changed, "torchvision")
    for option in ("--auto-augment ta_wide", "--random-erase 0.25", "--mixup-alpha 0.2", "--label-smoothing 0.1"):
        assert option in other
    assert "changed images by crop=4, for which" in prose(other)
    third = flags(of(COSINE), changed, "transformers")
    assert arguments(third).label_smoothing_factor == 0.1
    assert "flip, crop=4, trivial, erase=0.25, mixup=0.2" in prose(third)


def test_a_batch_in_parts_is_accumulated_and_makes_as_many_updates_as_the_search() -> None:
    parts = spec(training={"micro_batch": 16, "precision": "bf16", "channels_last": "on"})
    text = flags(of(COSINE), parts, "timm")
    said = command(text.replace("--amp-dtype bfloat16", ""))
    assert (said["batch_size"], said["grad_accum_steps"]) == (16, 3)
    assert said["amp"] is said["channels_last"] is True
    assert "170 updates (10 epochs of 17)" in prose(text)
    assert "leaves out" not in prose(text)
    text = flags(of(COSINE), parts, "transformers")
    for line in ("per_device_train_batch_size=16", "gradient_accumulation_steps=3", "bf16=True"):
        assert f"    {line},\n" in text
    assert "products are computed in fp32" in prose(flags(of(COSINE), parts, "torchvision"))
    uneven = command(flags(of(COSINE), spec(training={"micro_batch": 20}), "timm"))
    assert (uneven["batch_size"], "grad_accum_steps" in uneven) == (BATCH, False)


def test_a_loop_of_one_s_own_has_no_script() -> None:
    study = StudySpec.model_validate({"name": "mine", "loop": {"name": "loop.py:train", "n_train": 1000}})
    for script in ("timm", "transformers", "torchvision"):
        with pytest.raises(UsageError, match="is trained by a loop of your own"):
            flags(of(COSINE), study, script)


# Layers that learn at different rates

SMALL_MODEL = "test_resnet"
LAYERED: dict[str, Any] = {"model": {"name": f"timm/{SMALL_MODEL}"}, "space": {"layer_decay": 0.7}}


def layered(name: str = f"timm/{SMALL_MODEL}") -> tuple[StudySpec, torch.nn.Module]:
    made = timm.create_model(SMALL_MODEL, num_classes=2, in_chans=3)
    network = Network(1, levels(made, (3, 32, 32), 2))
    facts = Facts(N_TRAIN, 200, 100, (3, 32, 32), ("a", "b"), mean=(0.5,) * 3, std=(0.25,) * 3, network=network)
    return spec(model={"name": name}, space={"layer_decay": 0.7}).measured(facts), made


@pytest.mark.parametrize("how", [{"layer_decay": 0.7}, {"stem_ratio": 0.05}], ids=str)
def test_timm_gives_every_parameter_the_rate_of_its_level_at_every_update(how: dict[str, float]) -> None:
    from timm.optim import create_optimizer_v2, optimizer_kwargs
    from timm.scheduler import create_scheduler

    study, made = layered()
    one = of(replace(COSINE, warmup_fraction=0.1), **how)
    said = Namespace(**{**TIMM_DEFAULTS, **command(flags(one, study, "timm"))})
    assert said.model == SMALL_MODEL
    optimizer = create_optimizer_v2(made, **optimizer_kwargs(said))
    scheduler, _ = create_scheduler(said, optimizer, WHOLE)
    network = study.facts.network
    assert network is not None
    share = dict(zip(network.levels, shares(len(network.levels), one.config), strict=True))
    wanted = {name: part for names, part in share.items() for name in names}
    ours = factors(one.config.schedule, EPOCHS * WHOLE) * PEAK
    names = {id(p): name for name, p in made.named_parameters()}
    for update in range(EPOCHS * WHOLE):
        for group in optimizer.param_groups:
            for p in group["params"]:
                # The ramp reaches its peak an update late.
                assert abs(group["lr"] - ours[update] * wanted[names[id(p)]]) <= PEAK / WHOLE * wanted[names[id(p)]]
                if update >= WHOLE:
                    assert group["lr"] == pytest.approx(ours[update] * wanted[names[id(p)]], rel=1e-9)
        scheduler.step_update(update + 1)


def test_rates_by_layer_are_refused_where_there_is_no_option_for_them() -> None:
    study, _ = layered()
    one = of(COSINE, layer_decay=0.7)
    for script in ("transformers", "torchvision"):
        with pytest.raises(UsageError, match="its layers learn at different rates, for which it has no option"):
            flags(one, study, script)
    with pytest.raises(UsageError, match="it has no option for a rate of the head apart"):
        flags(of(COSINE, layer_decay=0.7, backbone_ratio=0.5), study, "timm")
    with pytest.raises(UsageError, match="it cuts torchvision/resnet18 into other levels of layers"):
        flags(one, layered("torchvision/resnet18")[0], "timm")
    assert "layer_decay" not in command(flags(of(COSINE, layer_decay=1.0), study, "timm"))


def test_a_model_of_another_package_is_a_place_to_fill_in() -> None:
    for script, option in (("timm", "--model MODEL"), ("torchvision", "--model MODEL")):
        text = flags(of(COSINE), DIGITS, script)
        assert option in text
        assert f"MODEL is a model of {script}; the search trained mlp" in prose(text)


# A real training


def rows() -> list[dict[str, Any]]:
    draw = torch.Generator().manual_seed(0)
    return [{"x": torch.randn(3, generator=draw), "labels": torch.tensor(i % 2)} for i in range(50)]


class Classifier(torch.nn.Module):
    """As a Trainer wants a model: the loss comes with the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = model()

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.inner(x)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


class Watch(transformers.TrainerCallback):  # type: ignore[misc]
    """Writes down the learning rate of every update."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_pre_optimizer_step(self, *_: Any, optimizer: torch.optim.Optimizer, **__: Any) -> None:
        self.seen.append(optimizer.param_groups[0]["lr"])


TRAINED = (
    ScheduleConfig("cosine", warmup_fraction=0.3, final_fraction=0.01),
    ScheduleConfig("wsd", warmup_fraction=0.3, final_fraction=0.01, decay_fraction=0.4),
    ScheduleConfig("linear", final_fraction=0.1),
    ScheduleConfig("inverse_sqrt", warmup_fraction=0.2, final_fraction=0.2),
)


@pytest.mark.filterwarnings("ignore:'pin_memory' argument")
@pytest.mark.parametrize("schedule", TRAINED, ids=lambda schedule: schedule.family)
def test_the_trainer_trains_at_those_rates_and_the_exact_one_at_ours(schedule: ScheduleConfig, tmp_path: Path) -> None:
    from transformers import Trainer

    study = spec(dataset={"limit": 63}, space={"batch_size": 16})
    text = flags(of(schedule, batch_size=16, epochs=4), study, "transformers")
    names = program(text.replace('"OUTPUT"', repr(str(tmp_path))))
    n_train = study.facts.n_train
    ours = factors(schedule, 4 * -(-n_train // 16)) * PEAK
    exact = names.get("ExactTrainer")
    for kind in (Trainer, *([exact] if exact else [])):
        watch = Watch()
        kind(Classifier(), names["arguments"], train_dataset=rows()[:n_train], callbacks=[watch]).train()
        off = np.abs(np.array(watch.seen) - ours).max()
        number = re.findall(r"at most (\S+) \(", prose(text))
        if kind is exact or not number:
            assert off <= 1e-12
        else:
            assert off == pytest.approx(float(number[0]), rel=6e-3)
    assert (exact is None) == (schedule.family == "linear")


# The command


@pytest.mark.parametrize("script", ["timm", "transformers", "torchvision"])
def test_the_command_prints_what_the_script_is_given(script: Script, lrsearch: InProcess, finished: Finished) -> None:
    said = []
    for number in range(6):
        result = lrsearch("export", "--to", script, "--trial", str(number), "--storage", str(finished.database))
        if result.code:
            assert one_line(result).rstrip().endswith("; export it --to torch")
            assert result.out == ""
        else:
            said.append(result.out)
            assert f"Trial {number} of the study digits for" in prose(result.out)
    assert len(said) >= (3 if script == "transformers" else 0)


def test_a_file_is_written_as_with_the_other_targets(lrsearch: InProcess, finished: Finished, tmp_path: Path) -> None:
    arguments = ["export", "--to", "transformers", "--trial", "0", "--storage", str(finished.database), "-o", "hf.py"]
    result = lrsearch(*arguments)
    assert result.code == 0, result.err
    assert result.out == "wrote hf.py\n"
    assert "TrainingArguments(" in (tmp_path / "hf.py").read_text("utf-8")
    assert "exists already" in one_line(lrsearch(*arguments))


@pytest.mark.parametrize("script", ["timm", "transformers"])
def test_a_package_that_is_not_installed_is_named_with_its_extra(
    script: str, finished: Finished, tmp_path: Path
) -> None:
    code = f"""
        import sys
        sys.modules[{script!r}] = None
        from lrsearch.cli.app import run
        sys.exit(run(["export", "--to", {script!r}, "--trial", "0", "--storage", {str(finished.database)!r}]))
    """
    result = run_python(code, tmp_path)
    assert result.code == 2
    assert f"{script} is not installed: pip install 'lrsearch[{script}]'" in one_line(result)
