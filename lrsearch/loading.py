"""Large packages, PyTorch above all, imported at a moment of the caller's choice: that takes seconds."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_is_alone = False


def alone() -> None:
    """Say that this process is lrsearch's own: what it has imported stays, and need not be looked through for garbage.

    In a process of others, a notebook say, that is not so: what they have made so far may become garbage.
    """
    global _is_alone  # noqa: PLW0603 - a fact of the process
    _is_alone = True


@contextmanager
def uncollected() -> Iterator[None]:
    """Look for no garbage meanwhile, for imports: they make little, and each look goes through all that they made.

    Without it the start of a process that trains takes longer (docs/benchmarks.md, "How long a start takes").
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if _is_alone:
            gc.freeze()
        if was_enabled:
            gc.enable()


def load_pytorch() -> None:
    """Import what trains."""
    with uncollected():
        from lrsearch import worker

    del worker
