"""Checkpoints of a tiny model for sweeps from a hub on loopback, and what such sweeps leave behind."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from jtrace.checkpoints.refs import parse_specs
from jtrace.commands.trace import trace_into
from jtrace.data.loading import read_all
from jtrace.hub.client import Hub
from jtrace.sweep.config import SweepConfig
from jtrace.sweep.work import Limits
from tests.conftest import GOLDENS, LETTERS, letter_tokenizer
from tests.hub_server import HubServer

REPO = "org/tiny"
WEIGHTS = "model.safetensors"


def write_steps(folder: Path, steps: Sequence[int]) -> Path:
    """A folder `stepN` for each step, their weights apart, and a statement set `mine.csv` of 40 rows."""
    for step in steps:
        path = folder / f"step{step}"
        shutil.copytree(GOLDENS / "llama-full", path)
        (path / "expected.npz").unlink()
        weights = load_file(path / WEIGHTS)
        save_file({name: value * np.float32(1 + step / 200) for name, value in weights.items()}, path / WEIGHTS)
        letter_tokenizer(path)
    random = np.random.default_rng(0)
    rows = [("".join(random.choice(list(LETTERS[:26]), 6)) + (" yes" if i % 2 else " no"), i % 2) for i in range(40)]
    (folder / "mine.csv").write_text("statement,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return folder


def served(folder: Path) -> dict[tuple[str, str], Path]:
    """The steps as revisions of `REPO`."""
    return {(REPO, path.name): path for path in folder.glob("step*")}


def spec(server: HubServer) -> str:
    """All revisions, in the order of training."""
    return f"{REPO}@{','.join(sorted((name for _, name in server.refs), key=lambda name: int(name[4:])))}"


def trace(
    out: Path,
    steps: Path,
    server: HubServer,
    cache: Path,
    waits: Sequence[float] = (),
    config: SweepConfig | None = None,
    **limits: int | bool,
) -> int:
    """Trace all that a server serves, in this process; returns the exit status."""
    hub = Hub(cache, server.url, waits)
    refs = parse_specs([spec(server)], hub.revisions)
    sets = read_all([str(steps / "mine.csv")])
    return trace_into(out, refs, sets, config or SweepConfig(dtype="float32"), hub, limits=Limits(**limits))


def results(run: Path) -> dict[str, bytes]:
    """Every table, vector file and table of projections of a run."""
    folders = (run / name for name in ("metrics", "vectors", "projections"))
    return {str(path.relative_to(run)): path.read_bytes() for folder in folders for path in folder.glob("[!.]*.*")}


def traced(run: Path) -> list[str]:
    """The steps that a run holds tables of."""
    names = (path.stem.split("@")[1] for path in (run / "metrics").glob("*.parquet"))
    return sorted(names, key=lambda name: int(name[4:]))


def weights_in(cache: Path) -> list[Path]:
    """Weight files of a cache, unfinished ones too: what is named by a SHA-256."""
    # No rglob: it trips over folders that come and go while others work in the cache.
    places = (*cache.glob("models--*/blobs/*"), *cache.glob("hub/models--*/blobs/*"))
    return [path for path in places if len(path.name.split(".")[0]) == 64]


def strays(run: Path) -> list[Path]:
    """Files that were written aside and never put into place."""
    return list(run.rglob(".*.tmp"))
