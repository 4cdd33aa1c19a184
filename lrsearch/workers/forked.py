"""What workers are forked off with: imported by the process that ``preloaded`` starts, and by nobody else."""

from lrsearch import loading

loading.alone()
with loading.uncollected():
    from lrsearch import run, worker

__all__ = ["run", "worker"]
