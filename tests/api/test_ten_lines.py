"""The README's lines of Python, as written; and on a model of the invented world, beside the command's tables.

As written, on SmolLM2: `python -m pytest -m long tests/api/test_ten_lines.py` (some ten minutes on two cores).
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import jtrace
from tests.conftest import GOLDENS, ROOT, letter_tokenizer
from tests.hub_server import serve

SERVED = "EleutherAI/pythia-160m"
STEPS = [0, *(2**power for power in range(10)), *range(1000, 144_000, 1000)]


def ten_lines() -> str:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- ten lines -->\n```python\n(.*?)```", readme, re.S)
    return block


@pytest.fixture
def pythia(tmp_path, monkeypatch):
    """A hub on loopback that has a tiny model as every step of Pythia."""
    folder = shutil.copytree(GOLDENS / "gpt_neox-full", tmp_path / "served" / "model")
    letter_tokenizer(folder)
    config = json.loads((folder / "config.json").read_text())  # a statement of many letters is longer than its 128
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 1024}))
    with serve({(SERVED, f"step{step}"): folder for step in STEPS}) as server:
        server.refs[SERVED, "main"] = folder
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        # Both are made of HF_ENDPOINT as the library is imported.
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield tmp_path


@pytest.mark.real
@pytest.mark.long
def test_they_run_as_written(pythia, smollm2, shared, monkeypatch):
    (pythia / "runs" / "models").mkdir(parents=True)
    (pythia / "runs" / "models" / "smollm2").symlink_to(smollm2)
    (pythia / "data").symlink_to(shared / "data")
    monkeypatch.chdir(pythia)
    names = {}
    exec(ten_lines().replace('out="runs/pythia")', 'out="runs/pythia", cache_dir="cache")', 1), names)

    table = names["probe"].table
    assert table["metric"].eq("probe_accuracy").sum() == names["model"].architecture.depth == 30
    assert table.query("layer == 15 and metric == 'probe_accuracy'")["value"].item() > 0.8
    assert [len(texts) for texts in (names["texts"], names["logp"])] == [1, 1]
    assert names["logp"][0].shape == (2,)
    assert len(names["run"].checkpoints) > 10


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model of the invented world, trained for a moment, and its trace by the command."""
    folder = tmp_path_factory.mktemp("world")

    def jtrace(*words):
        command = [sys.executable, "-P", "-m", "jtrace", *words]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)

    jtrace("pretrain", "--text=world:documents=400", "--preset=tiny", "--steps=20", "--keep=0-20/10", "--out=mine")
    settings = ["--permutations=20", "--draws=100", "--protocol=paper,sound", "--out=traced"]
    jtrace("trace", "--checkpoints=mine@20", "--statements=world-reliability", *settings)
    return folder


@pytest.mark.slow
def test_their_numbers_are_the_command_s(world):
    model = jtrace.load_model(world / "mine@20")
    data = jtrace.load_statements("world-reliability")
    acts = model.activations(data)
    traced = jtrace.open_run(world / "traced")
    for protocol in ("paper", "sound"):
        probes = jtrace.fit_probes(acts, data, protocol=protocol, permutations=20, draws=100)
        rows = traced.metrics[traced.metrics["protocol"] == protocol].reset_index(drop=True)
        pd.testing.assert_frame_equal(probes.table, rows)
    vector, kept = jtrace.steering_vector(acts, data), traced.vectors(model.name)["world-reliability"]
    np.testing.assert_allclose(vector.values, kept.values, rtol=1e-6)

    run = jtrace.trace(world / "mine", data, out=world / "run")
    assert run.checkpoints == ["mine@step000000", "mine@step000010", "mine@step000020"]
    assert Path(run.report()).is_file()
    steer = kept.at(layer=1, strength=[0, 4.0])
    (plain,), (steered,) = model.score([("The sky is", [" blue", " green"])], steer=steer)
    assert np.isfinite(steered).all()
    assert (plain != steered).all()
