"""The trainer against published accuracies on all of MNIST; the whole table is in docs/benchmarks.md."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("LRSEARCH_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "MNIST" / "raw").is_dir(), reason=f"no MNIST under {DATA.name}; see LRSEARCH_TEST_DATA")
def test_three_settings_reach_the_published_accuracies() -> None:
    settings = ["adam-1e-3", "sgd-0.1", "sgd-10"]
    argv = [sys.executable, "benchmarks/reference_mnist.py", "--data", str(DATA), "--json", "--settings", *settings]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    rows = {row["setting"]: row for row in json.loads(done.stdout)["rows"]}
    assert list(rows) == settings
    assert done.returncode == 0, rows
    assert abs(rows["adam-1e-3"]["mean"] - 0.9775) <= 0.003
    assert abs(rows["sgd-0.1"]["mean"] - 0.9773) <= 0.003
    assert not rows["sgd-10"]["finite"]
