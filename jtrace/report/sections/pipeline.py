"""The report's section on the sweep itself: what each stage took, and how well the stages overlapped."""

from collections.abc import Iterator, Sequence
from statistics import median

from jtrace.report.page import Block, Definitions, Figure, Table
from jtrace.runs.log import SPANS, CheckpointTiming, busy, bytes_per_second, duration, overlap, tokens_per_second


def pipeline_blocks(passages: Sequence[CheckpointTiming], figures: Sequence[Figure]) -> Iterator[Block]:
    """Show the stages over time; nothing without a log.

    Args:
        figures: of the stages over time.
    """
    if (overlapped := overlap(passages)) is None:
        return
    processes = len({passage.process for passage in passages})
    summed = f", summed over {processes} processes" if processes > 1 else ""
    slowest = f"{overlapped.ratio:.2f}; the slowest stage is {overlapped.slowest}, 1 is the best that overlap can do"
    yield from figures
    yield Definitions(
        [
            ("wall time", f"{duration(overlapped.wall)}{summed}; pauses between commands are not counted"),
            ("wall / slowest", slowest),
            ("peak memory", f"{max(passage.memory_bytes for passage in passages) / 2**30:.1f} GiB"),
            ("peak disk", f"{max(passage.disk_bytes for passage in passages) / 2**30:.1f} GiB of downloads"),
        ]
    )
    yield _stages(passages, overlapped.wall)


def _stages(passages: Sequence[CheckpointTiming], wall: float) -> Table:
    rows: list[list[object]] = []
    for stage in (*SPANS, "compute"):
        spans = [span for passage in passages if (span := passage.span(stage)) is not None]
        if spans:
            total = busy(passages, stage)
            rate = {
                "fetch": bytes_per_second(sum(passage.fetched_bytes for passage in passages), total),
                "read": bytes_per_second(sum(passage.read_bytes for passage in passages), total),
                "extract": tokens_per_second(sum(passage.tokens for passage in passages), total),
            }.get(stage)
            middle = duration(median(span.seconds for span in spans))
            rows.append([stage, len(spans), duration(total), middle, rate or None, wall / total if total else None])
    return Table(
        "Stages of the pipeline; compute is extract, statistics and behaviour together",
        ["stage", "checkpoints", "total time", "median per checkpoint", "rate", "wall / total"],
        rows,
    )
