"""What several tests need: real inputs where they are present, a tiny tokeniser, tiny checkpoints."""

import gc
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import hypothesis
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from jtrace.runtime.compilation import EVERYTHING, release_programs
from tests.bars import MEASURED
from tests.goldens.variants import COVERING, VARIANTS
from tests.hub_server import HubServer, serve
from tests.quick_compile import quick_flags

# Half of the tests' time goes into compiling. Code that is compiled faster runs slower, a gain for tiny models;
# `.ci/run` gives XLA_FLAGS, empty ones, where much is computed.
if "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = quick_flags()
# Threads of torch's and scikit-learn's libraries would wait for each other on cores that two workers share.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# An example's time is the machine's, not the code's.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")
ROOT = Path(__file__).resolve().parent.parent
GOLDENS = ROOT / "tests" / "goldens"
LETTERS = "abcdefghijklmnopqrstuvwxyz "
CHUNK = 1024  # bytes that the hub's client reads at once in tests


# Files with a test that takes minutes come first: no worker is left with one at the end.
LONGEST = ("test_notebook.py", "test_readme.py", "test_quickstart.py", "test_whole_command.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of `LONGEST` first; the others keep their order."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def with_devices(count: int) -> str:
    """XLA_FLAGS of a process with so many CPU devices that compiles as this one does."""
    return f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}".strip()


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Commands that tests start keep compiled programs, and whatever else, together and out of the user's home."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # its processes share one
        base = base.parent
    os.environ["XDG_CACHE_HOME"] = str(base / "caches")


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Processes that tests start heed SIGINT, also where the test run itself was started in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A program that an earlier test of this process has compiled is loaded."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    for name, value in EVERYTHING.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module", autouse=True)
def young_heap() -> None:
    """What earlier modules have left is not looked through again whenever Python, or a sweep, collects garbage."""
    release_programs()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands draw no figures, which take most of a small sweep's time, unless a test is marked `draws`."""
    if request.node.get_closest_marker("draws") is None:
        for command, draw in (("trace", "draw_all"), ("steer", "draw_steered")):
            if module := sys.modules.get(f"jtrace.commands.{command}"):
                monkeypatch.setattr(module, draw, lambda run, metrics: [])


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


GOLDEN_PARAMS = [pytest.param(name, marks=() if name in COVERING else pytest.mark.slow) for name in sorted(VARIANTS)]


@pytest.fixture(scope="session", params=GOLDEN_PARAMS)
def golden(request: pytest.FixtureRequest) -> Path:
    """A tiny checkpoint with what transformers' torch model computes from it; see goldens/make_goldens.py."""
    return GOLDENS / request.param


def letter_tokenizer(folder: Path) -> None:
    """One token per letter, so that the tiny goldens' 61 embeddings suffice."""
    vocabulary = {letter: i for i, letter in enumerate(LETTERS)} | {"?": len(LETTERS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?").save_pretrained(folder)


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    """Three checkpoints of one tiny model, their weights apart, and a statement set `mine.csv` of 40 rows."""
    for number in (2, 10, 100):
        folder = tmp_path / "tiny" / f"step{number}"
        shutil.copytree(GOLDENS / "llama-full", folder)
        (folder / "expected.npz").unlink()
        weights = {
            name: value * np.float32(1 + number / 200)
            for name, value in load_file(folder / "model.safetensors").items()
        }
        save_file(weights, folder / "model.safetensors")
        letter_tokenizer(folder)
    random = np.random.default_rng(0)
    rows = [("".join(random.choice(list(LETTERS[:26]), 6)) + (" yes" if i % 2 else " no"), i % 2) for i in range(40)]
    (tmp_path / "mine.csv").write_text("statement,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return tmp_path


@pytest.fixture
def server(steps: Path) -> Iterator[HubServer]:
    """A hub on loopback with the three checkpoints as revisions of `org/tiny`."""
    with serve({("org/tiny", f"step{n}"): steps / "tiny" / f"step{n}" for n in (2, 10, 100)}) as server:
        yield server


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """For the processes that a test starts: what is left of them is killed at its end."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def hub_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The client as a fresh install has it: no token, no proxy, online; it does not wait and reads in small pieces."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_XET": False,
        "HF_TOKEN_PATH": str(tmp_path / "no token"),
        "DOWNLOAD_CHUNK_SIZE": CHUNK,
    }.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    impatient = SimpleNamespace(sleep=lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.file_download.time", impatient)
    monkeypatch.setattr("huggingface_hub.utils._http.time", impatient)
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


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
