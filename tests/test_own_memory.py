"""A hundred trainings in one process leave nothing behind: no memory, no process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import clean_environment
from ones_own import make_pictures

pytestmark = pytest.mark.slow

PROGRAM = """
import json, os, sys
import psutil
from lrsearch import cores
cores.wait_passively()
from lrsearch import run
from lrsearch.events import TrialEnded
from lrsearch.spec import file as study_file
from lrsearch.store.places import parse_place

settings = [("dataset.name", f"folder:{sys.argv[1]}"), ("model.name", "resnet9"), ("budget.trials", 100), ("epochs", 1),
            ("space.batch_size", [8, 16]), ("pruner", "none"), ("name", "many"), ("sampler", "random")]
spec = study_file.resolved(*study_file.read("digits"), settings)
me, memory = psutil.Process(), []
with run.filed(spec, parse_place("many.db"), run.Here("cpu", threads=1, progress=False)) as session:
    for event in session.attend():
        if isinstance(event, TrialEnded):
            memory.append(me.memory_info().rss)
print(json.dumps({"memory": memory, "children": len(me.children(recursive=True))}))
"""


def test_a_hundred_trials_of_resnet9_leave_memory_flat_and_no_process(tmp_path: Path) -> None:
    pictures = make_pictures(tmp_path / "pics")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(pictures)],
        cwd=tmp_path,
        env=clean_environment(
            tmp_path, LRSEARCH_CACHE=str(tmp_path / "cache"), PYTHONPATH=os.environ.get("PYTHONPATH", "")
        ),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    memory = found["memory"]
    assert len(memory) == 100
    assert found["children"] == 0
    after_20, last = memory[19], memory[-20:]
    assert max(last) <= 1.02 * after_20, [round(m / 2**20) for m in memory]
