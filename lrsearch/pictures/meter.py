"""How far the reading of pictures is: a bar on stderr with pictures per second, or nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def meter(words: str, total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Yield what is called with the number of pictures that are done.

    Args:
        words: what is done to them.
        total: how many there are.
        shown: whether it is drawn.
    """
    if not (shown and total):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.0f} pictures/s")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True, highlight=False)) as bar:
        task = bar.add_task(words, total=total)
        yield lambda n: bar.advance(task, n)
