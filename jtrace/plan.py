"""What a sweep will take, before it starts: revisions, tokens, bytes to download, disk, and time.

Sizes come from the hub, or from the suite's parameter count where the hub cannot be reached. Times are measured rates
of this machine (a piece of a real download, a matrix product of the model's shape) times what there is to do.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from tqdm import tqdm

from jtrace.checkpoints.hub import Hub, Listing, UnreachableError
from jtrace.checkpoints.refs import CheckpointRef, HubSource
from jtrace.checkpoints.suites import suites_at
from jtrace.data.packing import operations_per_slot
from jtrace.data.statements import Statements
from jtrace.errors import InputError
from jtrace.models.config import DecoderConfig
from jtrace.models.layers import precision_for
from jtrace.results import RunDirectory
from jtrace.sweep import Packer, SweepConfig, read_architecture, wanted_layers

LOOKS_AT_ONCE = 8


@dataclass(frozen=True)
class Item:
    """One checkpoint of a plan, sizes in bytes.

    Attributes:
        size: of its files; None where not known.
        missing: what of them is to be downloaded; None where not known.
        note: whether it is traced already, an estimate, or what is wrong with it.
        fails: whether it cannot be traced.
    """

    ref: CheckpointRef
    size: int | None
    missing: int | None
    note: str = ""
    fails: bool = False
    listing: Listing | None = None
    done: bool = False


@dataclass(frozen=True)
class Work:
    """What computing one checkpoint of a model takes, by what was measured on this device.

    Attributes:
        slots: distinct prefix slots of all statements.
        operations: of the forward and of the statistics, floating point.
        rate: operations per second of a matrix product of the model's shape.
    """

    slots: int
    operations: int
    rate: float


@dataclass(frozen=True)
class Plan:
    """Items in order, free disk of the cache, download rate in bytes per second, and the work of one checkpoint."""

    items: tuple[Item, ...]
    cache: Path
    free: int
    rate: float | None
    work: Work | None

    @property
    def missing(self) -> int:
        """Bytes to download, as far as known."""
        return sum(item.missing or 0 for item in self.items if not item.done)

    @property
    def to_trace(self) -> int:
        """How many checkpoints are neither traced nor failing."""
        return sum(not item.done and not item.fails for item in self.items)

    @property
    def fits(self) -> bool:
        """Whether the disk holds what is to be downloaded."""
        return self.missing <= self.free

    @property
    def feasible(self) -> bool:
        """Whether nothing stands in the way: no checkpoint fails, and the disk is large enough."""
        return self.fits and not any(item.fails for item in self.items)


def make_plan(
    refs: Sequence[CheckpointRef], sets: Sequence[Statements], config: SweepConfig, hub: Hub, out: Path
) -> Plan:
    """Ask the hub for sizes, measure a download and a matrix product, and add up. Small files only are downloaded."""
    run = RunDirectory(out)
    with ThreadPoolExecutor(LOOKS_AT_ONCE) as pool:
        looks = pool.map(lambda ref: _item(ref, hub, run), refs)
        items = tuple(tqdm(looks, desc="sizes", total=len(refs), unit=" checkpoints", leave=False, disable=None))
    todo = [item for item in items if not item.done and not item.fails]
    absent = next((item.listing for item in todo if item.listing and item.missing), None)
    work = _work(todo[0], sets, config, hub) if todo else None
    return Plan(items, hub.cache, hub.free_bytes(), hub.measured_rate(absent) if absent else None, work)


def _item(ref: CheckpointRef, hub: Hub, run: RunDirectory) -> Item:
    done = run.is_done(ref)
    note = "already traced" if done else ref.warning
    if not isinstance(ref.source, HubSource):
        return Item(ref, _folder_bytes(ref.source), 0, note, done=done)
    try:
        listing = hub.look(ref.source.repo, ref.source.revision)
        return Item(ref, listing.size, hub.missing_bytes(listing), note, listing=listing, done=done)
    except InputError as error:
        suite = next(iter(suites_at(ref.source.repo)), None)
        if isinstance(error, UnreachableError) and suite and suite.weight_bytes:
            return Item(ref, suite.weight_bytes, suite.weight_bytes, note or "size by parameter count", done=done)
        return Item(ref, None, None, str(error), fails=True)


def _work(item: Item, sets: Sequence[Statements], config: SweepConfig, hub: Hub) -> Work | None:
    """The work of one checkpoint, if its config and tokeniser can be had."""
    if isinstance(item.ref.source, HubSource) and item.listing is None:
        return None
    folder = hub.fetch_small(item.listing) if item.listing else Path(str(item.ref.source))
    architecture, tokenizer = read_architecture(folder, item.ref, config, hub)
    packed = Packer(sets)(tokenizer, architecture).packed
    read = architecture.truncated(max(wanted_layers(config.layers, architecture.depth, item.ref)) + 1)
    slots = int(packed.used.sum())
    forward = packed.rows * packed.width * operations_per_slot(read, packed.width)
    # Per layer and set: the Gram matrices of all rows, and one inverse; the probes' products are fewer.
    statistics = read.depth * sum(2 * len(s) ** 3 + 4 * len(s) ** 2 * read.width for s in sets)
    return Work(slots, forward + statistics, _matmul_rate(read, jnp.dtype(config.dtype)))


def _matmul_rate(config: DecoderConfig, dtype: DTypeLike, rows: int = 2048, seconds: float = 0.5) -> float:
    """Operations per second of the model's widest matrix product, on the device."""
    x, weight = jnp.ones((rows, config.width), dtype), jnp.ones((config.width, config.mlp_width), dtype)
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=precision_for(dtype)))
    product(x, weight).block_until_ready()
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        for _ in range(4):
            result = product(x, weight)
        result.block_until_ready()
        done += 4
    return done * 2 * rows * config.width * config.mlp_width / (time.perf_counter() - started)


def as_text(plan: Plan) -> str:
    """The plan as aligned columns, and what it adds up to."""
    rows = [("checkpoint", "step", "tokens", "size", "to fetch", "")]
    for item in plan.items:
        step, tokens = (("–" if n is None else f"{n:,}") for n in (item.ref.step, item.ref.tokens))
        missing = 0 if item.done else item.missing
        rows.append((item.ref.name, step, tokens, _bytes(item.size), _bytes(missing), item.note))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        (f"{row[0]:{widths[0]}}  " + "  ".join(f"{cell:>{w}}" for cell, w in zip(row[1:5], widths[1:], strict=True)))
        + (f"  {row[5]}" if row[5] else "")
        for row in rows
    ]
    return "\n".join([*lines, "", *_totals(plan)])


def _totals(plan: Plan) -> Iterator[str]:
    seconds = 0.0
    unknown = sum(item.missing is None for item in plan.items)
    yield f"checkpoints  {plan.to_trace} to trace of {len(plan.items)}"
    download = f"download     {_bytes(plan.missing)}" + (f", and {unknown} of unknown size" if unknown else "")
    if plan.rate:
        seconds += plan.missing / plan.rate
        download += f"; at the measured {_bytes(plan.rate)}/s about {_time(plan.missing / plan.rate)}"
    yield download
    too_small = "" if plan.fits else "; TOO SMALL, choose another disk with --cache_dir"
    yield f"disk         {_bytes(plan.missing)} needed in {plan.cache}, {_bytes(plan.free)} free{too_small}"
    if plan.work is None:
        yield "compute      not estimated: config and tokeniser cannot be had without the hub"
        return
    each = plan.work.operations / plan.work.rate
    seconds += each * plan.to_trace
    yield (
        f"compute      {plan.work.slots:,} slots and {plan.work.operations / 1e12:,.1f} TFLOP per checkpoint; "
        f"at the measured {plan.work.rate / 1e9:,.0f} GFLOP/s about {_time(each)} each"
    )
    yield f"in all       about {_time(seconds)}, reading files and compiling aside"


def _folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _bytes(count: float | None) -> str:
    if count is None:
        return "?"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"
