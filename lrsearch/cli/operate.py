"""`lrsearch extend`, `stop`, `enqueue`: change what the workers of a study do next."""

import shlex
from typing import Annotated

import typer

from lrsearch.cli.options import (
    DEFAULT_STORAGE,
    StorageOption,
    StudyArgument,
    no_url,
    opened,
)
from lrsearch.errors import EXIT_OK, UsageError
from lrsearch.spec.deciding import MOST
from lrsearch.text import counted


def extend(
    study: StudyArgument = None,
    trials: Annotated[
        str | None, typer.Option("--trials", metavar="N|+N", help="New total of trials, or how many more.")
    ] = None,
    hours: Annotated[
        str | None, typer.Option("--hours", metavar="H|+H", help="New total of hours of training, or how many more.")
    ] = None,
    trainings: Annotated[
        str | None,
        typer.Option("--trainings", metavar="X|+X", help="New total of whole trainings' worth of epochs, or more."),
    ] = None,
    storage: StorageOption = DEFAULT_STORAGE,
) -> int:
    """Raise the budget of a study, running or not; a stopped one goes on."""
    if trials is None and hours is None and trainings is None:
        raise UsageError("extend needs a budget: --trials +50, --trials 200, --hours +2 or --trainings +5")
    with opened(storage, to_read=False) as database:
        from lrsearch.spec.deciding import BudgetSpec
        from lrsearch.store import at_work
        from lrsearch.store import study as studies
        from lrsearch.strategy.view import ENOUGH

        found = studies.get(database, study)
        stands, has_converged = found.budget(), at_work.stopped(found) == ENOUGH
        new = BudgetSpec(
            trials=stands.trials if trials is None else int(_more("--trials", trials, stands.trials, whole=True)),
            hours=stands.hours if hours is None else _more("--hours", hours, stands.hours, whole=False),
            trainings=(
                stands.trainings
                if trainings is None
                else _more("--trainings", trainings, stands.trainings, whole=False)
            ),
            max_failures=stands.max_failures,
            # Who wants more of a search that has converged wants all of it.
            stop=None if has_converged else stands.stop,
        )
        found.set_budget(new)
        found.stop(None)
        parts = [counted(new.trials, "trial")] if new.trials is not None else []
        parts += [f"{new.hours:g} h of training"] if new.hours is not None else []
        parts += [f"{new.trainings:g} trainings' worth of epochs"] if new.trainings is not None else []
        whole = ", and is used up although the search converged" if has_converged else ""
        print(f"the budget of '{found.spec.name}' is now {' and '.join(parts)}{whole}")
    return EXIT_OK


def stop(
    study: StudyArgument = None,
    now: Annotated[
        bool, typer.Option("--now", help="Release the trials under way too; they are kept and go on later.")
    ] = False,
    storage: StorageOption = DEFAULT_STORAGE,
) -> int:
    """Let the workers of a study end after their trials; `run` or `extend` goes on later."""
    with opened(storage, to_read=False) as database:
        from lrsearch.store import study as studies

        found = studies.get(database, study)
        # Counted before: a worker may have released its trial by the time that it is looked at again.
        under_way = sum(t.outcome is None and not t.interrupted for t in found.trials())
        found.stop("now" if now else "drain")
        trials = f"{counted(under_way, 'trial')} under way"
        what = f"{trials} will be kept and released" if now else f"{trials} will be finished first"
        seconds = found.spec.workers.heartbeat_seconds
        when = f" (within {seconds:g} s)" if now and under_way else ""
        name = found.spec.name
        print(f"'{name}' stops; {what}{when}; `lrsearch run {shlex.quote(name)}` or `extend` goes on")
    return EXIT_OK


def enqueue(
    setting: Annotated[
        str, typer.Argument(metavar="SETTING", callback=no_url, help='What to try next: "sgd lr=0.1 cosine batch=64".')
    ],
    study: StudyArgument = None,
    storage: StorageOption = DEFAULT_STORAGE,
) -> int:
    """Have a setting of yours tried before anything else; it counts towards the budget."""
    with opened(storage, to_read=False) as database:
        from lrsearch.store import portfolio
        from lrsearch.store import study as studies
        from lrsearch.store.reach import space_of

        found = studies.get(database, study)
        space = space_of(found.spec, found.frozen_trials())
        params = portfolio.parse_setting("setting", setting, space, filed=True)
        number = found.enqueue(params)
        finished = sum(t.state.counts for t in found.trials())
        budget = found.budget().trials
        full = budget is not None and finished >= budget
        hint = f"; the budget is used up: `lrsearch extend {shlex.quote(found.spec.name)} --trials +1`" if full else ""
        print(
            f"trial {number} of '{found.spec.name}' will be: {', '.join(f'{k}={v}' for k, v in params.items())}{hint}"
        )
    return EXIT_OK


def _more(option: str, text: str, stands: float | None, *, whole: bool) -> float:
    plus, digits = text.startswith("+"), text.removeprefix("+")
    try:
        value = int(digits) if whole else float(digits)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        kind = "a whole number" if whole else "a number"
        raise UsageError(f"{option} must be {kind} above 0, or +{kind[2:]} for so many more, got '{text}'")
    total = value + (stands or 0) if plus else value
    if total > MOST:
        raise UsageError(f"{option} must come to at most {MOST:,}, got '{text}'")
    return total
