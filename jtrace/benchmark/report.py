"""The benchmark's report as lines of text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jtrace.benchmark.workload import JTRACE

HEAD = ("case", "contender", "seconds (min–max)", "units/s", "ratio (of turns)", "TFLOP/s", "GB/s")
FLOOR = ("floor s: ops", "bytes", "share")
MEMORY = ("host GiB", "device GiB")


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yields lines of a report of `jtrace.benchmark.runner`: results, agreements with their bars, the device's pace.

    `ratio` is the contender's seconds per unit over jtrace's. Operations and bytes
    per second are those of the floor; memory is the process's peak so far.
    """
    yield from _aligned([(*HEAD, *FLOOR, *MEMORY), *(_cells(row) for row in report["results"])])
    yield ""
    for row in report["agreements"]:
        bar = "" if row["bar"] is None else f"   bar {row['bar']:.3g}{'' if row['holds'] else '   NOT HELD'}"
        yield f"{row['case']:12} {row['name']:52} {number(row['value'])}{bar}"
    yield ""
    devices = dict.fromkeys(row["device"] for row in report["results"] if row["contender"] != JTRACE)
    for dtype, pace in report["pace"].items():
        peers = f"; peers on {', '.join(devices)}" if devices else ""
        made = f"{pace['operations'] / 1e12:.3g} TFLOP/s {dtype}, {pace['bytes'] / 1e9:.3g} GB/s"
        sheet = ""
        if pace["sheet_operations"]:
            sheet = f" (data sheet: {pace['sheet_operations'] / 1e12:.3g}, {pace['sheet_bytes'] / 1e9:.3g})"
        yield f"device {pace['device']}: {made}{sheet}{peers}"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    standing = row.get("standing")
    stands = ("", "", "", "", "")
    if standing:
        sheet = "" if standing["sheet_share"] is None else f" (sheet {standing['sheet_share']:.0%})"
        stands = (
            f"{standing['operations'] / 1e12:.3g}",
            f"{standing['bytes'] / 1e9:.3g}",
            f"{standing['operations_seconds']:.3g}",
            f"{standing['bytes_seconds']:.3g}",
            f"{standing['share']:.0%}{sheet}",
        )
    return (
        row["case"],
        row["contender"],
        f"{row['seconds']:.3g} ({row['least']:.3g}–{row['most']:.3g})",
        f"{row['units_per_second']:,.4g} {row['unit']}",
        _ratio(row),
        *stands,
        _gib(row["host_bytes"]),
        _gib(row["device_bytes"]),
    )


def number(value: float | None) -> str:
    """Writes a number; None stands for NaN and infinities, which JSON lacks."""
    return "none" if value is None else f"{value:.3g}"


def _ratio(row: Mapping[str, Any]) -> str:
    if "ratio" not in row:
        return ""
    turns = f" ({row['least_ratio']:.2f}–{row['most_ratio']:.2f})" if len(row["turns"]) > 1 else ""
    return f"{row['ratio']:.2f}{turns if row['contender'] != JTRACE else ''}"


def _gib(count: int | None) -> str:
    return "" if count is None else f"{count / 2**30:.2f}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        named, numbers = row[:2], row[2:]
        cells = [cell.ljust(width) for cell, width in zip(named, widths, strict=False)]
        cells += [cell.rjust(width) for cell, width in zip(numbers, widths[2:], strict=True)]
        yield "  ".join(cells).rstrip()
