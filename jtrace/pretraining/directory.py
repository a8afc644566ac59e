"""The directory of a pre-training run: its record, log, tokeniser, kept steps and the state to go on from.

    pretrain.json   configuration, fingerprint of the documents, versions, device
    tokens/         the documents' tokens
    log.jsonl       one line per step
    tokenizer/      the tokeniser's files
    step000200/     a kept step: an Orbax checkpoint with config.json and tokeniser
    state/000200/   params, moments and step to go on from; only the latest

Folders are written aside and renamed. The log is on disk before its state, and the previous state is removed last.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import jax

from jtrace.checkpoints.orbax import load_arrays, save_arrays, save_store
from jtrace.checkpoints.pretraining_run import LOG, RECORD, kept_path, read_log
from jtrace.errors import InputError
from jtrace.hub.files import TOKENIZER_FILES
from jtrace.pretraining.step import State
from jtrace.runs.record_files import differences, holds_visible, is_new
from jtrace.runtime.atomic import atomic_folder, atomic_write
from jtrace.runtime.small_files import read_json_object

LOCK = ".lock"
ARRAYS = "arrays"


@dataclass(frozen=True)
class TrainingRun:
    """A run directory of this configuration, claimed by this process; see `open_training_run`."""

    path: Path
    log: IO[str]

    @property
    def tokenizer(self) -> Path:
        return tokenizer_folder(self.path)

    def save(self, state: State) -> None:
        """Saves the state to go on from, and removes the previous one.

        Raises:
            InputError: it cannot be written; the previous one is kept.
        """
        self.flush_log()
        earlier = _states(self.path)
        folder = self.path / "state" / f"{int(state.step):06d}"
        if folder in earlier:
            return
        with atomic_folder(folder) as aside:
            save_arrays(aside / ARRAYS, _by_number(state))
        for other in earlier:
            shutil.rmtree(other)

    def load(self, like: State) -> State | None:
        """Loads the state to go on from; None if none was saved yet.

        Args:
            like: the wanted shapes, dtypes and shardings (`jax.ShapeDtypeStruct` leaves).
        """
        states = _states(self.path)
        if not states:
            return None
        arrays = load_arrays(states[-1] / ARRAYS, _by_number(like))
        return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in sorted(arrays)])

    def keep(self, step: int, values: dict[str, Any], params: Any) -> None:
        """Writes a kept step, unless it exists.

        Raises:
            InputError: it cannot be written.
        """
        if not kept_path(self.path, step).is_dir():
            save_store(kept_path(self.path, step), values, params, self.tokenizer)

    def log_step(self, line: Mapping[str, Any]) -> None:
        with self._one_line_where_full():
            self.log.write(json.dumps(line) + "\n")

    def flush_log(self) -> None:
        """Flushes the log to disk."""
        with self._one_line_where_full():
            self.log.flush()
            os.fsync(self.log.fileno())

    @contextmanager
    def _one_line_where_full(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"{self.path / LOG}: cannot be written ({error.strerror}); free the disk") from None


def tokenizer_folder(run: Path) -> Path:
    return run / "tokenizer"


def tokens_folder(run: Path) -> Path:
    return run / "tokens"


def check_config(path: Path, config: Mapping[str, Any]) -> None:
    """Checks that a folder is new, empty, or a run of this configuration.

    Args:
        config: JSON values of all settings that decide numbers, beside the documents.

    Raises:
        InputError: the folder holds something else, or a run of another configuration; says what differs.
    """
    if is_new(path):
        return
    if not (path / RECORD).is_file():
        raise InputError(f"--out={path}: holds something that is no pre-training run; name a new folder")
    if differing := _differences(_read_record(path, "config"), config):
        raise InputError(f"--out={path}: a run of another configuration: {differing}; take another --out")


def check_documents(path: Path, documents: Mapping[str, Any]) -> None:
    """Checks that a run that has begun goes on with the same documents.

    Raises:
        InputError: these are others; says what differs.
    """
    if (path / RECORD).is_file() and (differing := _differences(_read_record(path, "documents"), documents)):
        raise InputError(f"--out={path}: a run of another text: {differing}; take another --out")


def latest_step(run: Path) -> int:
    """Returns the step that the run would go on from; -1 if it has not begun."""
    states = _states(run)
    return int(states[-1].name) if states else -1


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Claims a run directory and removes unfinished files of an earlier process; the folder goes if it stays empty.

    Raises:
        InputError: it cannot be written, or another process works on it.
    """
    new = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / LOCK).touch()
    except OSError as error:
        raise InputError(f"--out={path}: cannot be written ({error.strerror}); choose another folder") from None
    with open(path / LOCK) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"--out={path}: another process is at work on this run; wait for it") from None
        ours = (
            tokenizer_folder(path),
            tokens_folder(path),
            path / RECORD,
            path / LOG,
            path / "step*",
            path / "state/*",
        )
        for leftover in (path for one in ours for path in one.parent.glob(f".{one.name}.*.tmp")):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        try:
            yield
        finally:
            if not holds_visible(path):
                (path / LOCK).unlink(missing_ok=True)
            if new and not any(path.iterdir()):
                path.rmdir()


@contextmanager
def open_training_run(path: Path, tokenizer: Path) -> Iterator[TrainingRun]:
    """Opens the run in a directory that is `claimed` and has its record.

    Args:
        tokenizer: folder of the tokeniser's files, which are copied unless the run has them.

    Raises:
        InputError: it cannot be written.
    """
    if not tokenizer_folder(path).is_dir():
        with atomic_folder(tokenizer_folder(path)) as aside:
            for name in TOKENIZER_FILES:
                if (tokenizer / name).is_file():
                    shutil.copyfile(tokenizer / name, aside / name)
    _take_back(path)
    log = open(path / LOG, "a", encoding="utf-8")  # noqa: SIM115
    try:
        yield TrainingRun(path, log)
    finally:
        # All that counts was flushed before; where flushing failed, closing would fail again.
        with suppress(OSError):
            log.close()


def _read_record(path: Path, part: str) -> Mapping[str, Any]:
    file = path / RECORD
    try:
        value = read_json_object(file, remedy="name a new folder")[part]
    except KeyError as error:
        raise InputError(f"{file}: cannot be read ({error}); name a new folder") from None
    if not isinstance(value, dict):
        raise InputError(f"{file}: '{part}' is no object; name a new folder")
    return value


def _differences(earlier: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} is {json.dumps(is_wanted)}, was {json.dumps(was)}"
        for key, was, is_wanted in differences(earlier, wanted)
    )


def _states(run: Path) -> list[Path]:
    states = (child for child in (run / "state").glob("*") if child.name.isdecimal())
    return sorted(states, key=lambda child: int(child.name))


def _take_back(run: Path) -> None:
    """Removes log lines later than the state, since their steps are done again."""
    latest = latest_step(run)
    with atomic_write(run / LOG) as aside:
        lines = [json.dumps(line) + "\n" for line in read_log(run) if line["step"] <= latest]
        aside.write_text("".join(lines), encoding="utf-8")


def _by_number(state: State) -> dict[str, Any]:
    return {f"{i:06d}": leaf for i, leaf in enumerate(jax.tree.leaves(state))}
