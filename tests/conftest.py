"""What several tests need: real inputs where they are present, a tiny tokeniser, tiny checkpoints."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.bars import MEASURED

ROOT = Path(__file__).resolve().parent.parent
GOLDENS = ROOT / "tests" / "goldens"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real statement sets and references that lies beside a developer's checkout."""
    folder = Path(os.environ.get("JTRACE_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set JTRACE_SHARED")
    return folder


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct as a Hugging Face folder."""
    folder = Path(os.environ.get("JTRACE_SMOLLM2", ROOT / "runs" / "models" / "smollm2"))
    if not (folder / "config.json").is_file():
        pytest.skip(f"no SmolLM2 at {folder}; make it with examples/smollm2.py or set JTRACE_SMOLLM2")
    return folder


@pytest.fixture(scope="session", params=sorted(path.name for path in GOLDENS.iterdir() if path.is_dir()))
def golden(request: pytest.FixtureRequest) -> Path:
    """A tiny checkpoint with what transformers' torch model computes from it; see goldens/make_goldens.py."""
    return GOLDENS / request.param


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was measured against the bars of the design."""
    if MEASURED:
        terminalreporter.section("measured against the bars")
        for what, (value, bar) in sorted(MEASURED.items()):
            terminalreporter.write_line(f"{what:62}{value:10.1e}   bar {bar:.0e}")


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Relative Frobenius error, in float64."""
    expected = np.asarray(expected, np.float64)
    return float(np.linalg.norm(np.asarray(found, np.float64) - expected) / np.linalg.norm(expected))
