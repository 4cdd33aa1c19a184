"""What to type after an answer."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from lrsearch import families
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.spec.study import StudySpec
from lrsearch.trial import Trial

DEFAULT_PLACE = "lrsearch.db"
MORE_TRIALS = 50
MORE_TRAININGS = 8


@dataclass(frozen=True, slots=True)
class Step:
    """Something to type next."""

    command: str
    what: str


def next_steps(
    trials: Sequence[Trial],
    spec: StudySpec,
    winner: Trial | None,
    budget: BudgetSpec,
    run_command: str,
    tools: str,
    options: str,
    *,
    confirmed: bool,
) -> tuple[Step, ...]:
    """Return what to type next, the likeliest first.

    Args:
        trials: all of the study.
        spec: the study.
        winner: its best trial, or None.
        budget: the one that stands.
        run_command: what goes on with the search, without its budget; "the same command" where it is empty.
        tools: what stands before ``lrsearch`` where it is not on the path.
        options: ``--storage`` as the commands need it, with a space before it.
        confirmed: whether the winner was confirmed with fresh seeds.
    """
    steps, name = [], shlex.quote(spec.name)  # A study may be renamed to anything in the dashboard.
    looked_at = winner or (trials[-1] if trials else None)
    if looked_at is not None:
        steps.append(Step(f"{tools}lrsearch show {looked_at.number} {name}{options}", "its training, epoch by epoch"))
    steps.append(Step(f"{tools}lrsearch trials {name}{options}", "all trials"))
    if winner is not None and not confirmed:
        what = "train the best ones with fresh seeds, and see which is best"
        steps.append(Step(f"{tools}lrsearch confirm {name}{options}", what))
    steps.append(_more(trials, budget, run_command or "the same command with"))
    if winner is not None and spec.loop is not None:
        steps.append(Step(f"{tools}lrsearch export {name} --to json{options}", "the setting for your own program"))
    elif winner is not None:
        # That schedule follows the validation loss.
        on = " --on train" if families.of(winner.config.schedule).feedback else ""
        steps.append(Step(f"{tools}lrsearch train {name}{on}{options}", "train the winner for keeps"))
    steps.append(Step(f"{tools}lrsearch dashboard{options}", "look at it in a browser"))
    return tuple(steps)


def _more(trials: Sequence[Trial], budget: BudgetSpec, again: str) -> Step:
    """Return what goes on with a search whose budget is used up: whatever bounds it is raised."""
    options, words = "", list[str]()
    if budget.trials is not None or budget.trainings is None:
        total = max(sum(t.state.counts for t in trials), budget.trials or 0) + MORE_TRIALS
        options, words = f" --trials {total}", [f"{total} trials"]
    if budget.trainings is not None:
        options += f" --trainings {budget.trainings + MORE_TRAININGS:g}"
        words.append(f"{budget.trainings + MORE_TRAININGS:g} whole trainings")
    return Step(f"{again}{options}", f"go on, to {' and '.join(words)} in all")


def storage_words(place: str, given: str | None) -> str:
    """Return `` --storage ...`` as it must stand in a command, or nothing."""
    if given is not None:
        return f" {given}" if given else ""
    path = place.removeprefix("sqlite:///")
    elsewhere = path not in (DEFAULT_PLACE, f"./{DEFAULT_PLACE}")
    return f" --storage {shlex.quote(path)}" if elsewhere else ""
