"""The report's section on the sweep itself: what each stage took, and how well the stages overlapped."""

from collections.abc import Sequence
from statistics import median

from jtrace.report.html import definitions, table
from jtrace.runs.log import SPANS, CheckpointTiming, busy, bytes_per_second, duration, overlap, tokens_per_second


def pipeline_section(passages: Sequence[CheckpointTiming], overlaps: str) -> str:
    """HTML; empty without a log.

    Args:
        overlaps: the figure of the stages over time, as HTML.
    """
    if (found := overlap(passages)) is None:
        return ""
    rows: list[list[object]] = []
    for stage in (*SPANS, "compute"):
        spans = [span for passage in passages if (span := passage.span(stage)) is not None]
        if spans:
            total = busy(passages, stage)
            rate = {
                "fetch": bytes_per_second(sum(p.fetched_bytes for p in passages), total),
                "read": bytes_per_second(sum(p.read_bytes for p in passages), total),
                "extract": tokens_per_second(sum(p.tokens for p in passages), total),
            }.get(stage)
            each = duration(median(span.seconds for span in spans))
            rows.append([stage, len(spans), duration(total), each, rate or None, found.wall / total if total else None])
    processes = len({passage.process for passage in passages})
    summed = f", summed over {processes} processes" if processes > 1 else ""
    facts = [
        ("wall time", f"{duration(found.wall)}{summed}; pauses between commands are not counted"),
        (
            "wall / slowest",
            f"{found.ratio:.2f}; the slowest stage is {found.slowest}, 1 is the best that overlap can do",
        ),
        ("peak memory", f"{max(p.memory_bytes for p in passages) / 2**30:.1f} GiB"),
        ("peak disk", f"{max(p.disk_bytes for p in passages) / 2**30:.1f} GiB of downloads"),
    ]
    stages = table(
        "Stages of the pipeline; compute is extract, statistics and behaviour together",
        ["stage", "checkpoints", "total time", "median per checkpoint", "rate", "wall / total"],
        rows,
    )
    return overlaps + definitions(facts) + stages
