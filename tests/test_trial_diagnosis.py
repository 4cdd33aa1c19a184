"""How a training went, by its curve: boundaries by hand, and trainings that were made to go a certain way."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_lessons import trained
from trials_by_hand import config, epoch, spec, trial

from lrsearch.analysis.trial_diagnosis import Condition, diagnose_trial
from lrsearch.report import trace
from lrsearch.spec.study import StudySpec
from lrsearch.trial import EpochMetrics, Outcome, Reason, ScheduleConfig, State, Trial

LOOP = StudySpec.model_validate({"name": "mine", "loop": {"name": "loop.py:train", "n_train": 1000}})
"""Of whose losses nobody knows what a guess comes to."""
SMOOTHED = spec(augment={"label_smoothing": 0.3})


def curve(
    train: Sequence[float],
    val: Sequence[float] | None = None,
    accuracy: Sequence[float] | float = 0.9,
    lrs: Sequence[float] | None = None,
    **changes: Any,
) -> Trial:
    """Return a complete trial with these losses; a validation loss not given is a tenth below the training's."""
    losses = [0.9 * loss for loss in train] if val is None else val
    scores = [accuracy] * len(train) if isinstance(accuracy, float) else accuracy
    rows: list[EpochMetrics] = [
        epoch(i + 1, t, v, a, lr=0.1 if lrs is None else lrs[i])
        for i, (t, v, a) in enumerate(zip(train, losses, scores, strict=True))
    ]
    outcome = Outcome(State.COMPLETE, Reason.FINISHED, rows[-1].val_accuracy, len(rows))
    made = Trial(0, config(0.1, epochs=len(rows)), State.COMPLETE, outcome, tuple(rows))
    return replace(made, **changes)


def flat(loss: float, n: int = 10) -> list[float]:
    return [loss] * n


LEARNED = [1.2, 0.5, 0.3, 0.2, 0.15, 0.12, 0.1, 0.09, 0.085, 0.08]
SLOW = [2.29, 2.25, 2.2, 2.15, 2.1, 2.05, 2.0, 1.95, 1.9, 1.85]


@pytest.mark.parametrize(
    ("made", "condition", "times"),
    [
        (curve(LEARNED), Condition.HEALTHY, 1),
        (curve([1.2, 0.8, *LEARNED[2:]]), Condition.HEALTHY, 1),
        # Bounces early on of one that settles are forgiven; late ones are not, nor those of one that does not settle.
        (curve([1.2, 0.3, 0.5, 0.2, 0.12, 0.09, 0.07, 0.05, 0.04, 0.03]), Condition.HEALTHY, 1),
        (curve([1.2, 0.3, 0.5, 0.3, 0.5, 0.4, 0.3, 0.25, 0.22, 0.2]), Condition.UNSTABLE, 1 / 3),
        (curve([1.2, 0.5, 0.3, 0.2, 0.15, 0.05, 0.12, 0.05, 0.12, 0.08]), Condition.UNSTABLE, 1 / 3),
        (curve([90.0, 2.0, 1.5, 1.2, 1.0, 0.9, 0.8, 0.8, 0.8, 0.8]), Condition.UNSTABLE, 1 / 10),
        (curve([1.0, 0.6, 4.0, 1.2, 1.0, 0.9, 0.8, 0.7, 0.6, 0.6]), Condition.UNSTABLE, 1 / 10),
        # A loss that rises with the learning rate is no bounce.
        (curve([1.2, 0.3, 0.5, 0.3, 0.2, 0.15, 0.13, 0.12, 0.12, 0.12], lrs=[0.01, 0.05, *flat(0.1, 8)]), "healthy", 1),
        # The validation loss alone tells, too.
        (
            curve(LEARNED[:8] + flat(0.3, 2), [0.5, 0.9, 0.4, 0.9, 0.4, 0.9, 0.4, 0.4, 0.4, 0.4]),
            Condition.UNSTABLE,
            1 / 3,
        ),
        (curve(SLOW), Condition.TOO_SLOW, 10),
        (curve(SLOW, [2.6, 2.7, 2.6, 2.5, 2.6, 2.5, 2.4, 2.4, 2.3, 2.3]), Condition.UNSTABLE, 1 / 3),
        (curve([2.0, 0.9, *flat(0.6, 8)]), Condition.PLATEAUED, 1 / 3),
        (curve([2.0, 0.9, *flat(0.6, 8)], lrs=[0.1, 0.1, *flat(0.001, 8)]), Condition.PLATEAUED, 3),
        (curve(LEARNED, [0.6, 0.4, 0.4, 0.42, 0.45, 0.5, 0.52, 0.55, 0.6, 0.65]), Condition.OVERFITTING, 1),
        (curve(flat(2.303), flat(2.303), 0.1), Condition.AT_CHANCE, 100),
        (curve([5.0, 2.4, *flat(2.303, 8)], flat(2.303), 0.1), Condition.AT_CHANCE, 1 / 10),
        (curve([1.5, 0.8, *flat(2.31, 8)], flat(2.31), [0.5, 0.7, *flat(0.1, 8)]), Condition.AT_CHANCE, 1 / 10),
        # Pruned after one epoch: sgd at 0.42 on digits, and adamw at 1e-5, of which only the second has not moved.
        (curve([3.68], [2.22], 0.15), Condition.AT_CHANCE, 1 / 10),
        (curve([2.27], [2.2], 0.1), Condition.AT_CHANCE, 100),
        (curve([2.5, 2.4, 2.4, 2.35], flat(4.0, 4), 0.2), Condition.UNSTABLE, 1 / 3),
        (curve(LEARNED[:2]), Condition.UNKNOWN, None),
        (curve([math.nan] * 3), Condition.UNKNOWN, None),
        (curve([-1.0, -2.0, -3.0]), Condition.UNKNOWN, None),
        (curve(LEARNED, metrics=()), Condition.UNKNOWN, None),
        (curve([1.0, math.inf, 3.0]), Condition.DIVERGED, 1 / 3),
    ],
)
def test_a_curve_is_called_what_it_is_with_the_rate_to_try_next(
    made: Trial, condition: str, times: float | None
) -> None:
    found = diagnose_trial(made, spec())
    assert found.condition == condition, found.sentence
    assert found.next_lr == (None if times is None else pytest.approx(0.1 * times))


@pytest.mark.parametrize(
    ("made", "study", "condition"),
    [
        # It may have learned nearly all there is in its first epoch: too slow, plateaued and healthy are guesses.
        (curve([0.3, 0.27, 0.25, 0.23, 0.21, 0.19]), LOOP, Condition.UNKNOWN),
        (curve([2.0, 0.9, *flat(0.6, 8)]), LOOP, Condition.UNKNOWN),
        (curve([0.3, 0.295, 0.295]), LOOP, Condition.UNKNOWN),
        (curve([1.0, 0.6, 4.0, 1.2, 1.0, 0.9]), LOOP, Condition.UNSTABLE),
        (curve(LEARNED), LOOP, Condition.HEALTHY),
        # A smoothed label leaves no training loss low: it stands at 1.2 because it cannot fall further.
        (curve([1.79, 1.35, *flat(1.22, 8)], [0.5, 0.48, *flat(0.45, 8)]), SMOOTHED, Condition.HEALTHY),
        (curve(SLOW), SMOOTHED, Condition.TOO_SLOW),
        (curve([1.7, 1.6, *flat(1.65, 8)], [0.9, 0.8, 1.0, 0.7, 0.9, 0.7, 0.9, 1.0, 1.0, 1.0]), SMOOTHED, "unknown"),
    ],
)
def test_what_is_not_known_of_a_loss_is_not_claimed(made: Trial, study: StudySpec, condition: str) -> None:
    found = diagnose_trial(made, study)
    assert found.condition == condition, found.sentence
    assert study is not LOOP or "guess" not in found.sentence


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ([1.2, 0.5, 0.3, 0.2], [0.5, 0.0, 0.5, 0.6]),
        ([0.0, 1.0, 2.0], None),
        ([2.2, 0.0, 1.9, 1.8, 1.7], None),
        ([0.0] * 4, None),
    ],
)
@pytest.mark.parametrize("study", [spec(), SMOOTHED, LOOP])
def test_a_loss_of_0_divides_nothing(train: list[float], val: list[float] | None, study: StudySpec) -> None:
    rising = [0.01 * 2**i for i in range(len(train))]
    for made in (curve(train, val), curve(train, val, lrs=rising)):
        assert diagnose_trial(made, study).sentence.endswith(".")


def test_a_diverged_trial_is_called_so_whatever_its_epochs_say() -> None:
    late = trial(0, State.DIVERGED, [0.5, 0.7, 0.9], lr=0.1)
    for made, times in ((late, 3), (replace(late, metrics=()), 10)):
        outcome = Outcome(State.DIVERGED, Reason.COLLAPSED, None, len(made.metrics), 70, 0.1)
        found = diagnose_trial(replace(made, outcome=outcome), spec())
        assert found.condition == Condition.DIVERGED
        assert found.next_lr == pytest.approx(0.1 / times)
        assert "at step 70" in found.sentence


def test_of_a_training_that_is_still_warming_up_nothing_is_said_of_a_rate_that_is_too_low() -> None:
    slow = replace(config(0.1), schedule=ScheduleConfig("constant", warmup_fraction=0.6))
    made = curve(flat(2.303, 4), flat(2.303, 4), 0.1, state=State.RUNNING, config=slow)
    found = diagnose_trial(made, spec())
    assert (found.condition, found.sentence) == (Condition.UNKNOWN, "Too early to say: 4 of 10 epochs.")
    assert diagnose_trial(replace(made, state=State.PRUNED), spec()).condition == Condition.AT_CHANCE
    bouncing = curve([1.0, 0.6, 4.0, 1.2], state=State.RUNNING, config=slow)
    assert diagnose_trial(bouncing, spec()).condition == Condition.UNSTABLE


def test_what_overflowed_in_fp16_says_nothing_of_its_rate() -> None:
    made = trial(0, State.DIVERGED, [0.5], lr=0.1)
    overflowed = replace(made, outcome=Outcome(State.DIVERGED, Reason.OVERFLOWING, None, 1, 30, 0.1))
    found = diagnose_trial(overflowed, spec())
    assert (found.condition, found.next_lr) == (Condition.UNKNOWN, None)
    assert "bf16 or fp32" in found.sentence


number = st.floats(0, 1e9) | st.just(math.inf) | st.just(math.nan)


@given(
    st.lists(st.tuples(number, number, st.floats(0, 1) | st.just(math.nan), st.floats(1e-12, 10)), max_size=12),
    st.sampled_from(State),
    st.sampled_from([spec(), SMOOTHED, LOOP]),
)
def test_any_curve_has_a_diagnosis_and_no_diverged_one_is_called_healthy(
    rows: list[tuple[float, float, float, float]], state: State, study: StudySpec
) -> None:
    metrics = tuple(epoch(i + 1, t, v, a, lr=lr) for i, (t, v, a, lr) in enumerate(rows))
    outcome = None if state == State.RUNNING else Outcome(state, Reason.NOT_FINITE, None, len(rows))
    found = diagnose_trial(Trial(0, config(0.1), state, outcome, metrics), study)
    assert found.sentence.endswith(".")
    assert found.next_lr is None or 0 < found.next_lr < math.inf
    if state == State.DIVERGED or any(math.isinf(row.train_loss) for row in metrics):
        assert found.condition == Condition.DIVERGED


def test_show_says_it_in_words_and_in_json() -> None:
    made = curve(SLOW)
    document = trace.to_json(made, spec())
    assert document["diagnosis"]["condition"] == "too slow"
    assert document["diagnosis"]["next_lr"] == pytest.approx(1.0)
    json.dumps(document, allow_nan=False)


@pytest.mark.parametrize(
    ("setting", "condition"),
    [
        ("sgd lr=0.05 cosine", Condition.HEALTHY),
        ("adam lr=2e-3 cosine", Condition.HEALTHY),
        ("sgd lr=5e-4 constant", Condition.TOO_SLOW),
        ("adam lr=2e-10 constant", Condition.AT_CHANCE),
        ("sgd lr=50 cosine", Condition.DIVERGED),
    ],
)
def test_trainings_that_were_made_to_go_that_way_are_called_so(setting: str, condition: Condition) -> None:
    assert trained(setting)[1].condition == condition


def test_a_training_on_smoothed_labels_that_learned_is_not_called_plateaued() -> None:
    trial, said = trained("sgd lr=0.05 cosine", 20, label_smoothing=0.3)
    assert trial.metrics[-1].val_accuracy > 0.95
    assert trial.metrics[-1].train_loss > 1
    assert said.condition == Condition.HEALTHY, said.sentence
