"""The whole command on tiny weights and two sets, of the first of which vectors take every row."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jtrace.benchmark.runner import USUAL
from tests.conftest import ROOT, letter_tokenizer


@pytest.mark.torch
@pytest.mark.slow
def test_every_case_is_measured_and_every_bar_holds(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    letter_tokenizer(tmp_path)
    random = np.random.default_rng(0)
    for name in ("truthfulqa_train.csv", "mine.csv"):
        rows = [f"{''.join(random.choice(list('abcdefg'), 3))} {('no', 'yes')[i % 2]},{i % 2}\n" for i in range(40)]
        (tmp_path / name).write_text("statement,label\n" + "".join(rows))
    command = [
        sys.executable, "launch/benchmark.py", "--shape=tiny", f"--tokenizer={tmp_path}", f"--data_dir={tmp_path}",
        f"--statements=truthfulqa,{tmp_path}/mine.csv", "--dtype=bfloat16", "--sample=8", "--rounds=1",
        "--prompts=4", "--max_new_tokens=4", f"--work={tmp_path}", f"--out={tmp_path}/report.json",
    ]  # fmt: skip
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert {row["case"] for row in report["results"]} == set(USUAL) - {"attention"}  # which needs a GPU
    assert all("standing" in row for row in report["results"] if row["contender"] == "jtrace")
    assert {row["case"] for row in report["agreements"] if row["bar"]} >= {"extract", "probe", "generate", "score"}
    assert not any(path.is_dir() for path in tmp_path.iterdir()), "the weights of the shape are still there"
