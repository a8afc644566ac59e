"""Plan of a sweep, before it starts: revisions, tokens, bytes to download, disk, and time.

Sizes come from the hub, or from the suite's parameter count where the hub cannot be reached. Times are measured rates
of this machine (a piece of a real download, a matrix product of the model's shape) times what there is to do.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jtrace.checkpoints.refs import CheckpointRef, HubSource
from jtrace.checkpoints.suites import suites_at
from jtrace.data.statements import Statements
from jtrace.errors import InputError
from jtrace.evaluation.task import Task
from jtrace.hub.client import Hub, UnreachableError
from jtrace.hub.files import Listing
from jtrace.inference.packing import operations_per_slot
from jtrace.inference.residuals import DeviceMemory, compiled_memory
from jtrace.models.config import DecoderConfig
from jtrace.models.layers import precision_for
from jtrace.models.sharding import Layout, check_fits
from jtrace.probing.memory import StatisticsMemory, available_bytes, check_memory, statistics_memory
from jtrace.runs.run_directory import RunDirectory
from jtrace.runtime.budget import bytes_text
from jtrace.runtime.progress import Bar
from jtrace.sweep.check import check_checkpoint, is_traced
from jtrace.sweep.config import SweepConfig
from jtrace.sweep.packer import Packer
from jtrace.sweep.run import check_disk, check_sets, look_at_all
from jtrace.sweep.work import Limits


@dataclass(frozen=True)
class CostEstimate:
    """Cost of computing one checkpoint.

    Attributes:
        slots: distinct prefix slots of all statements.
        operations: of the forward and of the statistics, floating point.
        rate: operations per second of a matrix product of the model's shape, measured on the devices
            that it is to run on.
        statistics: memory of residuals and statistics.
        memory: of each device, where it is not the host's.
    """

    slots: int
    operations: int
    rate: float
    statistics: StatisticsMemory
    memory: DeviceMemory | None = None

    @property
    def seconds(self) -> float:
        """Time at the measured rate."""
        return self.operations / self.rate


@dataclass(frozen=True)
class PlannedCheckpoint:
    """One checkpoint of a plan.

    Attributes:
        size: of its files in bytes; None where not known.
        missing: what of them is to be downloaded; None where not known.
        note: whether it is traced already, an estimate, or what is wrong with it.
        done: whether it is traced already.
        fails: whether it cannot be traced.
        work: None where it could not be counted.
    """

    ref: CheckpointRef
    size: int | None = None
    missing: int | None = None
    note: str = ""
    done: bool = False
    fails: bool = False
    work: CostEstimate | None = None


@dataclass(frozen=True)
class Plan:
    """A sweep's items in order, and what they add up to.

    Attributes:
        missing: bytes to download, a file that several checkpoints share once.
        at_once: bytes of them that have to lie on the disk at the same time, at least.
        problem: why that does not fit the disk or its budget; empty if it does.
        rate: of a download, in bytes per second, measured; None where there is none to measure.
    """

    items: tuple[PlannedCheckpoint, ...]
    cache: Path
    free: int
    missing: int
    at_once: int
    problem: str
    rate: float | None

    @property
    def todo(self) -> tuple[PlannedCheckpoint, ...]:
        """Items that are neither traced nor failing."""
        return tuple(item for item in self.items if not item.done and not item.fails)

    @property
    def feasible(self) -> bool:
        """Tell whether nothing stands in the way: no checkpoint fails, and the disk is large enough."""
        return not self.problem and not any(item.fails for item in self.items)


def make_plan(
    refs: Sequence[CheckpointRef],
    sets: Sequence[Statements],
    config: SweepConfig,
    hub: Hub,
    out: Path,
    tasks: Sequence[Task] = (),
    limits: Limits | None = None,
    layout: Layout | None = None,
) -> Plan:
    """Ask the hub for sizes, measure a download and a matrix product, and add up. Small files only are downloaded.

    Args:
        tasks: that checkpoints are asked as well; their time is not estimated.

    Raises:
        InputError: the statements cannot be traced, or the run directory holds a table of another checkpoint.
    """
    limits = limits or Limits()
    check_sets(sets, config)
    run = RunDirectory(out)
    done = {ref for ref in refs if is_traced(ref, sets, config, run, tasks)}
    todo = [ref for ref in refs if ref not in done]
    listings = dict(zip(todo, look_at_all(todo, hub), strict=True))
    works = _Works(sets, config, hub, layout)
    items = tuple(
        PlannedCheckpoint(ref, note="already traced", done=True)
        if ref in done
        else _item(ref, listings[ref], hub, works)
        for ref in Bar(refs, desc="plan", unit=" checkpoints")
    )
    listed = [listing for listing in listings.values() if isinstance(listing, Listing)]
    by_count = sum(item.missing or 0 for item in items if not isinstance(listings.get(item.ref), Listing))
    missing, problem = hub.missing_bytes(*listed) + by_count, ""
    try:
        check_disk({ref: one for ref, one in listings.items() if isinstance(one, Listing)}, limits, hub)
    except InputError as error:
        problem = str(error)
    largest = max((hub.missing_bytes(one) for one in listed), default=0)
    at_once = missing if limits.keep_downloads else max(largest, by_count and max(item.missing or 0 for item in items))
    return Plan(items, hub.cache, hub.free_bytes(), missing, at_once, problem, _download_rate(listed, hub))


def _item(ref: CheckpointRef, listing: Listing | InputError | None, hub: Hub, works: "_Works") -> PlannedCheckpoint:
    if isinstance(listing, InputError):
        suite = next(iter(suites_at(ref.source.repo)), None) if isinstance(ref.source, HubSource) else None
        if isinstance(listing, UnreachableError) and suite and suite.weight_bytes:
            note = "; ".join(filter(None, (ref.warning, "size by parameter count")))
            return PlannedCheckpoint(ref, suite.weight_bytes, suite.weight_bytes, note)
        return PlannedCheckpoint(ref, note=str(listing), fails=True)
    size, missing = (listing.size, hub.missing_bytes(listing)) if listing else (_folder_bytes(Path(str(ref.source))), 0)
    try:
        return PlannedCheckpoint(ref, size, missing, ref.warning, work=works.cost(ref, listing))
    except InputError as error:
        return PlannedCheckpoint(ref, size, missing, str(error), fails=True)


class _Works:
    """Counts the work of checkpoints; those of one model have the same."""

    def __init__(self, sets: Sequence[Statements], config: SweepConfig, hub: Hub, layout: Layout | None) -> None:
        self._sets, self._config, self._hub, self._layout = sets, config, hub, layout
        self._packer = Packer(sets, config.special_tokens)
        self._known: dict[str, CostEstimate] = {}

    def cost(self, ref: CheckpointRef, listing: Listing | None) -> CostEstimate:
        """The work of one checkpoint.

        Raises:
            InputError: its config or tokeniser cannot be had, or does not serve; the mesh does not divide the model; or
                residuals and statistics take more memory than there is.
        """
        if ref.model in self._known:
            return self._known[ref.model]
        checked = check_checkpoint(ref, listing, self._config, self._hub)
        packed = self._packer(checked.tokenizer, checked.architecture).packed
        layers, read = checked.layers, checked.read
        forward = packed.rows * packed.width * operations_per_slot(read, packed.width)
        # Per layer and set: the Gram matrices of all rows, and one inverse; the probes' products are fewer. What
        # protocol sound adds is not counted: for short statements some ten times as much, and a forward per model.
        statistics = len(layers) * sum(2 * len(s) ** 3 + 4 * len(s) ** 2 * read.width for s in self._sets)
        dtype, layout = jnp.dtype(self._config.dtype), self._layout
        if layout is not None:
            check_fits(layout, read, ref.name)
        held = statistics_memory(read, self._sets, dtype, layout, self._config.most_in_matrices)
        check_memory(ref.name, held)
        rate = _matmul_rate(read, dtype, layout)
        memory = None
        if layout is not None or jax.default_backend() != "cpu":
            memory = compiled_memory(read, packed, dtype=dtype, layout=layout)
        work = CostEstimate(int(packed.used.sum()), forward + statistics, rate, held, memory)
        return self._known.setdefault(ref.model, work)


def _download_rate(listings: Sequence[Listing], hub: Hub) -> float | None:
    """Bytes per second, if there is something to download and the hub lets it be measured."""
    absent = next((listing for listing in listings if hub.missing_bytes(listing)), None)
    try:
        return hub.measured_rate(absent) if absent else None
    except InputError:
        return None


def _matmul_rate(
    config: DecoderConfig, dtype: DTypeLike, layout: Layout | None, rows: int = 2048, seconds: float = 0.5
) -> float:
    """Operations per second of the model's widest matrix product, on the device, or on all of a mesh at once."""
    rows *= 1 if layout is None else layout.mesh.size
    x, weight = jnp.ones((rows, config.width), dtype), jnp.ones((config.width, config.mlp_width), dtype)
    if layout is not None:
        x, weight = layout.place(x, layout.each), layout.place(weight, layout.replicated)
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=precision_for(dtype)))
    product(x, weight).block_until_ready()
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        for _ in range(4):
            result = product(x, weight)
        result.block_until_ready()
        done += 4
    return done * 2 * rows * config.width * config.mlp_width / (time.perf_counter() - started)


def plan_text(plan: Plan) -> str:
    """The plan as aligned columns, and what it adds up to."""
    rows = [("checkpoint", "step", "tokens", "size", "to fetch", "")]
    for item in plan.items:
        step, tokens = (("–" if n is None else f"{n:,}") for n in (item.ref.step, item.ref.tokens))
        missing = 0 if item.done else item.missing
        rows.append((item.ref.name, step, tokens, bytes_text(item.size), bytes_text(missing), item.note))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        (f"{row[0]:{widths[0]}}  " + "  ".join(f"{cell:>{w}}" for cell, w in zip(row[1:5], widths[1:], strict=True)))
        + (f"  {row[5]}" if row[5] else "")
        for row in rows
    ]
    return "\n".join([*lines, "", *_totals(plan)])


def _totals(plan: Plan) -> Iterator[str]:
    unknown = sum(item.missing is None for item in plan.todo)
    yield f"checkpoints  {len(plan.todo)} to trace of {len(plan.items)}"
    download = f"download     {bytes_text(plan.missing)}" + (f", and {unknown} of unknown size" if unknown else "")
    if plan.rate:
        download += f"; at the measured {bytes_text(plan.rate)}/s about {_time(plan.missing / plan.rate)}"
    elif plan.missing:
        download += "; no download could be measured"
    yield download
    yield f"disk         {bytes_text(plan.at_once)} needed at once in {plan.cache}, {bytes_text(plan.free)} free"
    if plan.problem:
        yield f"TOO SMALL    {plan.problem}"
    counted = [item.work for item in plan.todo if item.work]
    if len(counted) < len(plan.todo):
        yield "compute      not estimated: config and tokeniser cannot be had without the hub"
    elif counted:
        least, most = (pick(counted, key=lambda work: work.seconds) for pick in (min, max))
        each = _time(most.seconds) if least == most else f"{_time(least.seconds)} to {_time(most.seconds)}"
        yield (
            f"compute      {most.slots:,} slots and {most.operations / 1e12:,.1f} TFLOP per checkpoint; "
            f"at the measured {most.rate / 1e9:,.0f} GFLOP/s about {each} each"
        )
        if (memory := most.memory) is not None:
            yield (
                f"memory       {bytes_text(memory.total)} on each device, {bytes_text(memory.params)} of it params, as "
                "compiled for the forward; statistics come after it"
            )
        yield (
            f"statistics   {bytes_text(most.statistics.bytes)} of memory for residuals and the matrices of "
            f"{most.statistics.rows:,} rows, {bytes_text(available_bytes())} are there"
        )
        if plan.rate or not plan.missing:
            seconds = max(plan.missing / plan.rate if plan.rate else 0, sum(work.seconds for work in counted))
            yield f"in all       about {_time(seconds)}, as downloads and compute overlap; reading and compiling aside"


def _folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"
