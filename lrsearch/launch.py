"""Search here: the images are loaded, one worker works in this process, the winner is tested."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from lrsearch import worker
from lrsearch.analysis.ranking import best
from lrsearch.events import Event
from lrsearch.search import portfolio
from lrsearch.search.artifacts import Artifacts
from lrsearch.search.claims import Claims
from lrsearch.search.keeper import Keeper, Leave
from lrsearch.search.study import Study
from lrsearch.spec import StudySpec
from lrsearch.training.engine import Engine, TestResult
from lrsearch.trial import Trial


@dataclass(frozen=True, slots=True)
class Here:
    """What this process trains with."""

    device: str = "auto"
    threads: int | None = None
    data_dir: Path | None = None
    progress: bool = True
    """Whether a download may show its progress on stderr."""


def prepare(spec: StudySpec, here: Here) -> Engine:
    """Load the images onto the device."""
    return worker.build_engine(
        spec, device_name=here.device, threads=here.threads, data_dir=here.data_dir, progress=here.progress
    )


def search(
    study: Study, engine: Engine, artifacts: Artifacts, leave: Leave | None = None, *, wait: bool = False
) -> Generator[Event]:
    """Work on the study until its budget is used up, in this process; ``wait`` for what others train."""
    claims = Claims(study, portfolio.initial(study.spec), engine.device, engine.versions)
    with Keeper(claims, leave or Leave()) as keeper:
        yield from worker.work(claims, engine, keeper, artifacts, wait=wait)


def test_winner(study: Study, engine: Engine, artifacts: Artifacts) -> tuple[Trial, TestResult] | None:
    """Judge the best trial on the test images, by its kept weights or trained once more, and keep the result.

    Returns None without a complete trial, or when the winner has been judged before.
    """
    winner = best(study.trials(), study.spec.objective.direction)
    if winner is None or winner.test_accuracy is not None:
        return None
    result = engine.test(winner.config, worker.kept_weights(study, winner, artifacts))
    if not isinstance(result, TestResult):
        return None
    study.record_test(winner.number, result.test_loss, result.test_accuracy)
    return winner, result
