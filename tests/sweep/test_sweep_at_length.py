"""A sweep of 26 checkpoints of a pre-training run over a slow network: do its stages overlap, within their budgets?

    python -m pytest -m long tests/sweep/test_sweep_at_length.py -s

pre-trains for some minutes, then sweeps twice, and says what was measured and where the overlap figures are.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from jtrace.checkpoints.export import convert_folder
from jtrace.checkpoints.pretraining_run import kept_steps
from jtrace.runs.log import overlap, read
from tests.conftest import ROOT
from tests.hub_server import serve

pytestmark = pytest.mark.long
REPO = "own/world"
STEPS, EVERY = 250, 10


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Kept steps of a run of launch/pretrain.py, as Hugging Face folders."""
    home = tmp_path_factory.mktemp("pretrained")
    flags = [
        "--text=world:documents=4000", "--preset=small", f"--steps={STEPS}", f"--keep=0-{STEPS}/{EVERY}", "--rows=8",
        "--context=64", f"--out={home}/run",
    ]  # fmt: skip
    subprocess.run([sys.executable, "launch/pretrain.py", *flags], cwd=ROOT, check=True, capture_output=True)
    found = {}
    for step, folder in kept_steps(home / "run").items():
        found[step] = home / "hf" / f"step{step}"
        convert_folder(folder, found[step], "hf")
    assert len(found) == STEPS // EVERY + 1
    return found


class Watch(threading.Thread):
    """The most bytes of weights that a cache held, and of memory that a process did, looked at ten times a second."""

    def __init__(self, cache: Path, process: subprocess.Popen) -> None:
        super().__init__(daemon=True)
        self.cache, self.process, self.disk, self.memory = cache, process, 0, 0

    def run(self) -> None:
        while self.process.poll() is None:
            weights = 0
            for path in self.cache.glob("hub/models--*/blobs/*"):
                try:
                    size = path.stat().st_size
                except FileNotFoundError:
                    continue
                weights += size if size > 10**6 else 0
            self.disk = max(self.disk, weights)
            try:
                pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
            except (OSError, IndexError):
                continue
            self.memory = max(self.memory, pages * os.sysconf("SC_PAGE_SIZE"))
            time.sleep(0.1)


@pytest.mark.parametrize(("network", "slowest"), [(4e6, "fetch"), (None, "compute")])
def test_wall_time_is_the_slowest_stage_s_and_budgets_hold(checkpoints, tmp_path, network, slowest, capsys):
    size = (checkpoints[0] / "model.safetensors").stat().st_size
    budget, memory = int(5.5 * size), int(2.5 * size)
    refs = {(REPO, f"step{step}"): folder for step, folder in checkpoints.items()}
    with serve(refs, bytes_per_second=network) as server:
        revisions = ",".join(f"step{step}" for step in checkpoints)
        command = [
            sys.executable, "launch/trace.py", f"--checkpoints={REPO}@{revisions}", "--statements=world",
            f"--out={tmp_path}/run", f"--cache_dir={tmp_path}/cache", f"--disk_budget={budget}",
            f"--memory_budget={memory}",
        ]  # fmt: skip
        environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")} | server.environment
        environment["XDG_CACHE_HOME"] = str(tmp_path)
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
            watch = Watch(tmp_path / "cache", process)
            watch.start()
            printed, _ = process.communicate(timeout=1800)
        watch.join()
    assert process.returncode == 0
    passages = read(tmp_path / "run/log.jsonl")
    found = overlap(passages)
    with capsys.disabled():
        print(
            f"\n{len(passages)} checkpoints of {size / 1e6:.1f} MB at {network or 'any'} B/s: wall {found.wall:.1f} s; "
            f"fetch {found.fetch:.1f} s, read {found.read:.1f} s, compute {found.compute:.1f} s; "
            f"wall / {found.slowest} {found.ratio:.3f}\n"
            f"disk {watch.disk / 1e6:.1f} of {budget / 1e6:.1f} MB; memory {watch.memory / 2**20:.0f} MiB, "
            f"{passages[2].memory_bytes / 2**20:.0f} MiB after the third checkpoint\n"
            f"{tmp_path}/run/figures/pipeline.png"
        )
    assert found.slowest == slowest
    assert found.ratio <= 1.1
    assert size < watch.disk <= budget
    # Memory grows a little while allocators settle, but less than half of what params would come to if they stayed.
    assert watch.memory - passages[2].memory_bytes < (len(passages) - 3) * size / 2
    assert len(set(pd.read_parquet(tmp_path / "run/metrics")["step"])) == len(checkpoints)
    assert (tmp_path / "run/figures/pipeline.png").is_file()
    assert printed.count("tokens/s") == len(checkpoints)
