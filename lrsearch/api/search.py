"""``lrsearch.search``: what ``lrsearch run`` does, called from a script or a notebook."""

import inspect
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lrsearch import cores, given, loading
from lrsearch.api import handed, process, settings, shown
from lrsearch.api.settings import Wanted
from lrsearch.api.study import STORAGE, Search
from lrsearch.api.words import in_python
from lrsearch.errors import UsageError
from lrsearch.store import named
from lrsearch.text import counted
from lrsearch.workers import number

if TYPE_CHECKING:
    from lrsearch.events import Event
    from lrsearch.run import Here
    from lrsearch.spec.study import StudySpec
    from lrsearch.store.keeper import Leave
    from lrsearch.store.places import Place
    from lrsearch.store.study import Study

Workers = int | Literal["auto"] | Mapping[str, object]


@in_python
def search(
    study: str | PathLike[str] | None = None,
    *,
    model: object = None,
    data: object = None,
    validation: object = None,
    test: object = None,
    weights: str | None = None,
    train: object = None,
    n_train: int | None = None,
    steps_per_epoch: object = None,
    space: Mapping[str, object] | None = None,
    augment: Mapping[str, object] | str | None = None,
    trials: int | None = None,
    epochs: int | None = None,
    name: str | None = None,
    seed: int | None = None,
    key: str | None = None,
    storage: str | PathLike[str] = STORAGE,
    workers: Workers = 1,
    device: str = "auto",
    threads: int | None = None,
    data_dir: str | PathLike[str] | None = None,
    artifacts: str | PathLike[str] | None = None,
    progress: bool = True,
    **more: object,
) -> Search:
    """File a study, or find it again, and train its trials until its budget is used up.

    A function that can be imported is named by its file, so that the command line and other processes find it. What
    cannot be imported (a function of a notebook or of a script, a lambda, arrays, a data set) is known in this process
    alone: a function by the SHA-256 of its source, data by their content. Called again with the same, in this process
    or another, the search goes on.

    Args:
        study: the name of a study that ships with lrsearch or lies in the database, or the path of a study file;
            ``digits`` if not given.
        model: a name (``cnn``, ``torchvision/resnet18``, ``net.py:build``), or a function that builds a network.
        data: a name (``mnist``, ``folder:pets``, ``csv:labels.csv``, ``net.py:pets``), a folder as a path, images and
            labels as a pair of arrays or tensors (bytes, or 0..1; ``[n, h, w]``, ``[n, h, w, c]`` or ``[n, c, h, w]``),
            a map-style data set of pairs, a mapping of ``train``, ``validation``, ``test`` to such, with ``classes``;
            or a function that returns one of these.
        validation: images to validate on, where ``data`` is no string; drawn from ``data`` if not given.
        test: images to judge the winner on; likewise.
        weights: where training starts: ``DEFAULT``, a tag, or a file.
        train: a training loop of your own, a generator function that gets a ``lrsearch.Run``; in the place of data and
            model.
        n_train: training examples of an epoch of that loop.
        steps_per_epoch: its updates, or a function that returns them for a ``batch_size``.
        space: keys of the table [space]: a value, a list of choices, or a range (``lrsearch.log``,
            ``lrsearch.uniform``).
        augment: keys of the table [augment], or ``"auto"``.
        trials: complete, pruned and diverged trials in all; may grow later.
        epochs: of each trial.
        name: of the study, if not the file's or that of data and model.
        seed: initial weights, batch order, sampler.
        key: a word by which functions that are handed over are known, in the place of their source; change it when
            they change.
        storage: a SQLite file or the URL of a database.
        workers: processes on this machine, or ``auto``: one a GPU, else one a core. More than one need functions that
            can be imported. Or keys of the table [workers].
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        threads: CPU threads; this process's share of the cores if not given.
        data_dir: where the images lie, or are downloaded to.
        artifacts: a folder or a URL, for checkpoints and weights.
        progress: whether it is shown: in a notebook as one output that is kept up to date, on a terminal as
            ``lrsearch run`` does, elsewhere as lines on stderr.
        more: any other key of the study file (``pruner="none"``, ``dataset={"limit": 200}``,
            ``**{"space.batch_size": 64}``).

    Returns:
        the study; after an interrupt as well (Ctrl-C, or the kernel's), and then the same call goes on with it.

    Raises:
        LrsearchError: in the words of ``lrsearch run``.
        KeyboardInterrupt: an interrupt before anything was filed.
    """
    process.warn_of_spinning(threads)
    cores.wait_passively()
    process.load()
    from lrsearch.run import Here
    from lrsearch.store.places import parse_place

    keywords: dict[str, object] = {
        "model": model,
        "data": handed.sets(data, validation, test),
        "weights": weights,
        "train": train,
        "n_train": n_train,
        "steps_per_epoch": steps_per_epoch,
        "space": space,
        "augment": augment,
        "trials": trials,
        "epochs": epochs,
        "name": name,
        "seed": seed,
    }
    if isinstance(workers, Mapping):
        keywords, workers = keywords | {"workers": workers}, 1
    for keyword, value in (("study", study), ("storage", storage)):
        if not isinstance(value, str | PathLike | None):
            raise UsageError(f"{keyword} must be a name or a path, got {type(value).__name__}")
    place = parse_place(fspath(storage))
    wanted = settings.wanted(None if study is None else fspath(study), keywords | more, _names(), place, key)
    _check_workers(workers, [one.name for one in wanted.given])
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be a whole number from 1, got {threads}")
    with shown.shown(progress=progress) as display:
        here = Here(device, threads, None if data_dir is None else Path(data_dir), progress=display.bars)
        call = _Searching(wanted, place, here, None if artifacts is None else fspath(artifacts), display)
        return call.by_one() if workers == 1 else call.by_several(workers)


def _names() -> Iterator[str]:
    """Yield the keywords that are no keys of the study file."""
    yield from (one for one in inspect.signature(search).parameters if one not in ("study", "more"))


def _check_workers(workers: int | str, handed_over: Sequence[str]) -> None:
    """Refuse a number of processes that cannot be, or that cannot have what only this one has."""
    if workers != "auto" and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise UsageError(f"workers must be a whole number from 1, or 'auto', got {workers!r}")
    if isinstance(workers, int):
        number.check_startable(workers, "workers")
    if handed_over and workers != 1:
        names = " and ".join(f"'{name}'" for name in handed_over)
        raise UsageError(
            f"workers={workers!r} starts other processes, and they cannot have {names}, which no file holds: put it in "
            f"net.py and give 'net.py:{handed_over[0]}', or import it from there; or leave workers out"
        )


@dataclass(frozen=True, slots=True)
class _Searching:
    """One call."""

    wanted: Wanted
    place: "Place"
    here: "Here"
    artifacts: str | None
    display: shown.Display

    def by_one(self) -> Search:
        """Search in this process."""
        from lrsearch import run
        from lrsearch.store import filing
        from lrsearch.store.keeper import Leave

        spec, leave = self.wanted.spec, Leave()
        with ExitStack() as stack:
            raised = stack.enter_context(process.leaving_at_interrupt(leave))
            if spec.is_known:
                filing.check(spec, self.place)  # before PyTorch is loaded
            self._load_pytorch(leave)
            stack.enter_context(process.as_it_was())
            session = stack.enter_context(
                run.filed(
                    spec,
                    self.place,
                    self.here,
                    artifacts=self.artifacts,
                    explicit_budget="budget" in self.wanted.tables,
                    explicit_workers="workers" in self.wanted.tables,
                    doing=lambda what: self._doing(what, raised, leave),
                )
            )
            self._follow(session.study, session.attend(leave), leave)
            return self._found(session.study)

    def by_several(self, workers: int | str) -> Search:
        """Search in other processes."""
        from lrsearch import run
        from lrsearch.store import filing
        from lrsearch.store.keeper import Leave
        from lrsearch.workers import local, preloaded

        spec, leave = self.wanted.spec, Leave()
        with ExitStack() as stack:
            raised = stack.enter_context(process.leaving_at_interrupt(leave))
            stack.enter_context(process.without_main())
            preloaded.context()
            if not spec.is_known:
                self._load_pytorch(leave)
                with process.as_it_was():
                    spec = run.known(spec, self.here, lambda what: self._doing(what, raised, leave))
            filing.check(spec, self.place)
            _check_filed(named.find_spec(spec.name, self.place))
            study = filing.file_study(
                spec,
                self.place,
                explicit_budget="budget" in self.wanted.tables,
                explicit_workers="workers" in self.wanted.tables,
                artifacts=self.artifacts,
            )
            stack.callback(study.database.close)
            orders = local.orders(
                study,
                workers if isinstance(workers, int) else None,
                device=self.here.device,
                threads=self.here.threads,
                data_dir=self.here.data_dir,
                artifacts=self.artifacts,
            )
            self._follow(study, local.search(orders, leave), leave)
            return self._found(study)

    def _load_pytorch(self, leave: "Leave") -> None:
        """Import it; an interrupt in the midst of that could end the process."""
        self.display.doing("loading PyTorch")
        loading.load_pytorch()
        process.raise_interrupt(leave)
        self.display.doing("")

    @contextmanager
    def _doing(self, what: str, raised: Callable[[], AbstractContextManager[object]], leave: "Leave") -> Iterator[None]:
        self.display.doing(what)
        with raised():
            yield
        process.raise_interrupt(leave)
        self.display.doing("")

    def _follow(self, study: "Study", events: "Generator[Event]", leave: "Leave") -> None:
        """Show what the workers say to its end, or until an interrupt."""
        left = False
        try:
            with closing(events):
                self.display.begin(study.spec, study.budget(), study.trials())
                for event in events:
                    self.display.on(event)
        except KeyboardInterrupt:
            left = True
        if left or leave.asked:
            n = sum(trial.state.counts for trial in study.trials())
            kept = f"{counted(n, 'finished trial')} {'is' if n == 1 else 'are'} kept"
            self.display.close(f"interrupted; {kept}; the same call goes on from there")

    def _found(self, study: "Study") -> Search:
        return Search(self.place, study.name, self.here, self.artifacts, self.wanted)


def _check_filed(spec: "StudySpec | None") -> None:
    """Refuse other processes a study that was filed with what another process had."""
    if spec is None:
        return
    loop = spec.loop
    names = (spec.dataset.name, spec.model.name, spec.model.loss) if loop is None else (loop.name, loop.steps_per_epoch)
    if any(given.is_given(name) for name in names):
        raise UsageError(
            f"the study '{spec.name}' was filed with something that was handed over in Python, which other processes "
            f"cannot find: give another name=, to file it with what you give now, or leave workers out"
        )
