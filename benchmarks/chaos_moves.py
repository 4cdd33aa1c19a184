"""What must hold after any kill of a study whose strategy lets trials stand still: beside chaos_check.py, which see."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from chaos_check import Evidence

from lrsearch.spec import parameters
from lrsearch.store.tables import SLOT_ATTR
from lrsearch.strategy.lr.choice import Chooser, TriedSettings
from lrsearch.trial import Reason, State


def violations(seen: Evidence) -> list[str]:
    """Return what does not hold, a sentence each; nothing where no strategy pauses trials."""
    if seen.spec.strategy is None:
        return []
    checks = (_budget, _moves, _pauses, _places, _kept)
    return [sentence for check in checks for sentence in check(seen)]


def _budget(seen: Evidence) -> Iterator[str]:
    """Of a budget of trainings all epochs were trained, but for fewer than a step takes."""
    total = seen.spec.budget.epochs(seen.spec.epochs)
    if total is None:
        return
    trained = n_epochs(seen)
    step = least_step(seen)
    if not total - step < trained <= total:
        yield f"{trained} epochs were trained, and the budget has {total}, of which a step takes {step}"


def n_epochs(seen: Evidence) -> int:
    """Return the epochs that were trained; those that a branch has of another trial are that one's."""
    return len(seen.epochs) - sum(seen.shared.values())


def least_step(seen: Evidence) -> int:
    """Return the epochs of the least step there is in the end, so that as many are always spent.

    A new setting's first rung, but where all that differ by enough have been tried: then what one that stood still
    would have gone on for.
    """
    chooser = Chooser(seen.spec)
    tried = TriedSettings([trial.config for trial in seen.trials], chooser.c)
    if not all(tried.has(one.config) for one in chooser.settings.candidates(np.random.default_rng(0), [])):
        return chooser.rungs.at[0]
    still = [(trial.config, len(trial.metrics)) for trial in seen.trials if trial.state == State.PRUNED]
    return min([chooser.rungs.after(config, epoch) - epoch for config, epoch in still], default=seen.spec.epochs)


def _of_trials(seen: Evidence) -> dict[int, list[dict[str, Any]]]:
    """Return the moves of each trial by its number."""
    found: dict[int, list[dict[str, Any]]] = {row["number"]: [] for row in seen.slots}
    for row in seen.moves:
        found[seen.number_of[row["slot_id"]]].append(row)
    return found


def _moves(seen: Evidence) -> Iterator[str]:
    """A trial is begun once, and stands still once before it goes on; each move at an epoch that it had come to."""
    chooser = Chooser(seen.spec)
    slots = {row["number"]: row for row in seen.slots}
    trials = {trial.number: trial for trial in seen.trials}
    for number, moves in _of_trials(seen).items():
        slot, trial = slots[number], trials[number]
        words = [(row["kind"], row["epoch"]) for row in moves]
        if [row["n"] for row in moves] != list(range(len(moves))):
            yield f"the moves of trial {number} are numbered {[row['n'] for row in moves]}"
        starts = [(0 if slot["origin"] == "strategy" else 1), sum(kind == "start" for kind, _ in words)]
        if slot["origin"] == "strategy" and (starts[1] != 1 or words[0][0] != "start"):
            yield f"trial {number} of the strategy begins with the moves {words[:2]}"
        for (kind, epoch), (next_kind, next_epoch) in pairwise(words):
            if next_epoch < epoch or (kind == next_kind != "resume") or (kind, epoch) == (next_kind, next_epoch):
                yield f"trial {number} has the moves {words}"
                break
            if kind == "pause" and next_epoch != epoch:
                yield f"trial {number} stood still at epoch {epoch} and went on at epoch {next_epoch}"
        for kind, epoch in words:
            if kind != "start" and not chooser.rungs.contains(trial.config, epoch):
                yield f"trial {number} has the move {kind} at epoch {epoch}, which is no rung of {chooser.rungs.at}"
        reached = len(trial.metrics)
        if words and words[-1][1] > reached:
            yield f"trial {number} has the move {words[-1]} and {reached} epochs"
        if slot["reason"] == Reason.PAUSED and words[-1:] != [("pause", reached)]:
            yield f"trial {number} ended because it stood still at epoch {reached}, after the moves {words}"
        if slot["outcome"] == State.COMPLETE and words and words[-1][0] == "pause":
            yield f"trial {number} is complete, after the moves {words}"


def _pauses(seen: Evidence) -> Iterator[str]:
    """What a worker said of a pause is written down."""
    moves = _of_trials(seen)
    for worker, attempt in seen.attempts:
        if attempt.interrupted != "paused" or attempt.number in seen.told:
            continue
        epoch = attempt.epochs[-1][0] if attempt.epochs else None
        written = {row["epoch"] for row in moves.get(attempt.number, ()) if row["kind"] == "pause"}
        if not written if epoch is None else epoch not in written:
            yield f"{worker.name} paused trial {attempt.number} at epoch {epoch}, and written down is {sorted(written)}"


def _places(seen: Evidence) -> Iterator[str]:
    """Every attempt after the first goes on where the one before it left off: at its pause, or at its checkpoint."""
    before = {(seen.number_of[row["slot_id"]], row["attempt"]): row for row in seen.interruptions}
    configs = {trial.number: trial.config for trial in seen.trials}
    attempts = {row["number"]: row["attempts"] for row in seen.slots}
    paused = {
        number: {row["epoch"] for row in moves if row["kind"] == "pause"} for number, moves in _of_trials(seen).items()
    }
    times = Counter((attempt.number, attempt.nth) for _, attempt in seen.attempts if attempt.nth is not None)
    for (number, nth), n in times.items():
        if n > 1 or nth > attempts[number]:
            yield f"attempt {nth} of {attempts[number]} at trial {number} was begun {n} times"
    for worker, one in seen.attempts:
        if one.nth is None or one.number in seen.told or not one.epochs or one.interrupted == "lost":
            continue
        first, ours = one.epochs[0][0], f"attempt {one.nth} at trial {one.number} ({worker.name})"
        steps = seen.spec.steps_per_epoch(configs[one.number].batch_size)
        earlier = [nth for number, nth in before if number == one.number and nth < one.nth]
        expected = {seen.shared[one.number] + 1}
        if earlier:
            kept = before[one.number, max(earlier)]["step"] // steps
            expected = {max(kept, seen.shared[one.number]) + 1}
        if one.resumed and max(earlier, default=0) != one.nth - 1:
            # One that was judged again, and paused, before its state was loaded stands where it stood before.
            expected = {epoch + 1 for epoch in paused[one.number]} | (expected if earlier else set())
        if first not in expected:
            yield f"{ours} went on with epoch {first}, and the one before left off before {sorted(expected)}"


def _kept(seen: Evidence) -> Iterator[str]:
    """Of a search that is over no state is kept to go on from; a branch is of a trial that it shares the rates with."""
    if seen.n_trunks:
        yield f"{seen.n_trunks} states are kept to branch from although the search is over"
    kept = [row["number"] for row in seen.slots if row["checkpoint"] is not None]
    if kept:
        yield f"the checkpoints of the trials {kept} are kept although the search is over"
    rows = {row["number"]: row for row in seen.slots}
    for number, shared in seen.shared.items():
        if not shared:
            continue
        parent = rows[number]["parent"]
        has = {row["epoch"] for row in seen.epochs if seen.number_of[row["slot_id"]] == parent}
        if shared not in has:
            yield f"trial {number} has {shared} epochs of trial {parent}, which has {sorted(has)}"
    for trial in seen.optuna:
        row = rows.get(trial.number)
        setting = None if row is None else row["setting"]
        if row is not None and setting is not None and trial.number not in seen.told:
            config = parameters.config_of(setting, row["seed"])
            if parameters.setting_json(parameters.config(seen.spec, trial.params)) != parameters.setting_json(config):
                yield f"the slot {trial.user_attrs.get(SLOT_ATTR)} has another setting than trial {trial.number}"
