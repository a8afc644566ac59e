"""Sub-benchmark `load`: from a checkpoint's files to params on the device."""

import gc
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from jtrace.benchmark.case import Agreement, Case, Floor, Measured, timed
from jtrace.benchmark.workload import BATCHED, CONTENDERS, JTRACE, PUBLISHED, Workload
from jtrace.checkpoints.formats.weights import weight_files
from jtrace.checkpoints.load import Destination, destinations, load_params, params_bytes, read_config_json
from jtrace.models.families import read_model_config
from jtrace.sweep.checkpoint import delete

STATUS = Path("/proc/self/status")
ANONYMOUS = re.compile(r"RssAnon:\s*(\d+) kB")
POLL = 0.02  # seconds between measurements of the host's memory


class Load:
    """Loading of files, which are in the page cache after the first call, onto the device; every round loads anew.

    The published peer loads float32, as published; jtrace and the batched peer load the setting's dtype. Where there is
    a `sample`, peers load once after the first time, since a large model takes them long.
    """

    name = "load"
    unit = "bytes"
    contenders: tuple[str, ...] = CONTENDERS

    def measure(self, contender: str, workload: Workload) -> Measured:
        """Measures loading; the model that is loaded last stays in the workload."""
        setting = workload.setting
        units = float(sum(path.stat().st_size for path in weight_files(setting.checkpoint)))
        if contender == JTRACE:
            return _jtrace(workload, units)
        from jtrace.benchmark.peers.loading import checksums, load_anew

        def call() -> None:
            workload.__dict__.pop("torch_model", None)
            gc.collect()
            workload.torch_model = load_anew(setting.checkpoint, "float32" if contender == PUBLISHED else setting.dtype)

        first, rounds = timed(call, setting.rounds if setting.sample is None else 1)
        sums = checksums(workload.torch_model, sorted(_tensors(workload)), setting.dtype)
        return Measured(first, rounds, units, arrays={"tensors": sums})

    def agree(self, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
        """Compares the bits of every tensor with torch's, rounded to the same dtype."""
        ours = arrays[JTRACE]
        agreements = [
            Agreement(
                f"tensors unlike {peer}", float((ours["tensors"] != arrays[peer]["tensors"]).any(axis=1).sum()), 0
            )
            for peer in (PUBLISHED, BATCHED)
            if peer in arrays
        ]
        if "beyond_params" in ours:
            agreements.append(Agreement("GiB of host memory beyond the params", float(ours["beyond_params"]) / 2**30))
        return agreements


def _jtrace(workload: Workload, units: float) -> Measured:
    folder, dtype = workload.setting.checkpoint, jnp.dtype(workload.setting.dtype)
    params_there = params_bytes(workload.config, dtype)

    def call() -> None:
        # A device may hold only one.
        delete(workload.__dict__.pop("params", {}))
        workload.params = jax.block_until_ready(load_params(folder, dtype)[1])

    first, _ = timed(call, 0)  # the memory of compiling is not counted
    delete(workload.__dict__.pop("params"))
    with HostMemory() as memory:
        rounds = timed(call, workload.setting.rounds - 1)
    tensors = [target for _, target in sorted(_tensors(workload).items())]
    sums = {path: np.asarray(_checksums(leaf)) for path, leaf in _by_path(workload.params, tensors).items()}
    checked = np.stack([sums[target.param][target.place[0] if target.place else 0] for target in tensors])
    on_host = params_there if jax.default_backend() == "cpu" else 0
    growth = {} if memory.growth is None else {"beyond_params": np.array(memory.growth - on_host)}
    # The floor is no operation, and one write of every param.
    return Measured(first, (rounds[0], *rounds[1]), units, Floor(0, params_there), {"tensors": checked, **growth})


class HostMemory:
    """The growth of this process's anonymous memory within a `with` block; pages of mapped files do not count.

    Attributes:
        growth: the most bytes it grew by; None where the system does not give them.
    """

    def __init__(self) -> None:
        self.growth: int | None = None

    def __enter__(self) -> "HostMemory":
        gc.collect()
        self._before, self._left = _anonymous_bytes(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._left.set()
        self._thread.join()

    def _watch(self) -> None:
        last = False
        while not last:
            last = self._left.wait(POLL)
            if self._before is not None and (now := _anonymous_bytes()) is not None:
                self.growth = max(self.growth or 0, now - self._before)


def _anonymous_bytes() -> int | None:
    if not STATUS.is_file():
        return None
    match = ANONYMOUS.search(STATUS.read_text())
    return 1024 * int(match[1]) if match else None


def _tensors(workload: Workload) -> dict[str, Destination]:
    """Returns the destination of each tensor of the files, by its name, which torch uses as well."""
    values = read_config_json(workload.setting.checkpoint)
    config, family = read_model_config(values, str(workload.setting.checkpoint))
    return {name: targets[0] for name, targets in destinations(config, family).items()}


def _by_path(params: Mapping[str, Any], tensors: list[Destination]) -> dict[str, Array]:
    """Returns the params that hold the tensors, [L, ...]; those outside the blocks are a stack of one."""
    stacks = {}
    for target in tensors:
        leaf: Any = params
        for key in target.param.split("/"):
            leaf = leaf[key]
        stacks[target.param] = leaf if target.place else leaf[None]
    return stacks


@jax.jit
def _checksums(stack: Array) -> UInt32[Array, "L 2"]:
    """Sums each layer's bits, plainly and weighted by odd numbers in order, modulo 2³²: exact in any order.

    A change of a single entry changes the second sum; so does an exchange of two, except by chance.
    """
    kind = jnp.dtype(f"uint{8 * stack.dtype.itemsize}")
    bits = jax.lax.bitcast_convert_type(stack, kind).reshape(stack.shape[0], -1).astype(jnp.uint32)
    weights = 2 * jnp.arange(bits.shape[1], dtype=jnp.uint32) + 1
    return jnp.stack([bits.sum(axis=1, dtype=jnp.uint32), (bits * weights).sum(axis=1, dtype=jnp.uint32)], axis=1)


CASE: Case = Load()
