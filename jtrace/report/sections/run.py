"""The report's sections on the run itself: what was run, on what, how far it got, and what to be wary of."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from jtrace.report.findings import Finding
from jtrace.report.page import Block, Definitions, Details, Paragraph, Table, Warnings
from jtrace.runtime.names import checkpoint_name, file_name

# From this accuracy of the text-only classifier on, a set's labels can be read off the surface.
GIVEN_AWAY = 0.9
# Below, intervals lean on how groups are distributed, and one odd group moves them.
FEW_GROUPS = 30
MOST_MISSING = 20  # names of checkpoints that are not traced yet


def run_blocks(record: Mapping[str, Any], metrics: pd.DataFrame, failures: Mapping[str, Any]) -> Iterator[Block]:
    """Show configuration, device, commands, statement sets and checkpoints of a run."""
    yield Definitions([(key.replace("_", " "), _plain(value)) for key, value in record["config"].items()
                       if value is not None])  # fmt: skip
    if past := commands(record):
        yield Definitions(_device(past[-1]))
        rows = [[command.get("time"), len(command.get("checkpoints", [])), command.get("command")] for command in past]
        yield Table("Commands, in order", ["started", "checkpoints", "command"], rows)
    if steering := record.get("steering_commands"):
        rows = [[command.get("time"), ", ".join(command.get("checkpoints", [])), command.get("command")]
                for command in steering]  # fmt: skip
        yield Table("Steering commands, in order", ["started", "target", "command"], rows)
    yield _sets(record, metrics)
    yield _checkpoints(record, metrics, failures)


def commands(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """List the commands that traced and that steered, in the order of their times."""
    past = [*record["commands"], *record.get("steering_commands", ())]
    return sorted(past, key=lambda command: str(command.get("time", "")))


def _device(command: Mapping[str, Any]) -> list[tuple[str, str]]:
    device = command.get("device", {})
    versions = ", ".join(f"{name} {version}" for name, version in command.get("versions", {}).items() if version)
    return [
        ("device", f"{device.get('count', '?')} × {device.get('kind', '?')} ({device.get('platform', '?')})"),
        ("versions", versions),
    ]


def _sets(record: Mapping[str, Any], metrics: pd.DataFrame) -> Table:
    tests = metrics[metrics["metric"] == "probe_accuracy"].groupby("dataset")["n"].first()
    dimensions = metrics.groupby("dataset")["dimension"].first()
    rows: list[list[object]] = []
    for name, fingerprint in record["data"].items():
        about = record.get("sets", {}).get(name, {})
        share = about["label_one_rows"] / about["rows"] if about.get("rows") and "label_one_rows" in about else None
        rows.append(
            [
                name,
                about.get("dimension") or dimensions.get(name) or None,
                about.get("rows"),
                int(tests[name]) if name in tests else None,
                None if share is None else f"{share:.1%}",
                about.get("label_one"),
                about.get("source"),
                str(fingerprint)[:12],
            ]
        )
    columns = ["set", "dimension", "rows", "test rows", "label 1", "label 1 means", "source", "SHA-256"]
    return Table("Statement sets", columns, rows)


def _checkpoints(record: Mapping[str, Any], metrics: pd.DataFrame, failures: Mapping[str, Any]) -> Details:
    traced = _traced(metrics)
    rows: list[list[object]] = []
    for name in record["checkpoints"]:
        state = "traced" if name in traced else "failed" if name in failures else "not traced yet"
        rows.append([name, *traced.get(name, (None, None)), state])
    summary = f"All {len(rows)} checkpoints" if len(rows) != 1 else "The checkpoint"
    return Details(summary, [Table("Checkpoints", ["checkpoint", "step", "tokens", "state"], rows)])


def _traced(metrics: pd.DataFrame) -> dict[str, tuple[int | None, int | None]]:
    """Step and tokens of each traced checkpoint, named as `CheckpointRef.name`."""
    places = {}
    for row in metrics.drop_duplicates(["model", "revision"]).to_dict("records"):
        name = file_name(checkpoint_name(row["model"], row["revision"]))
        places[name] = count(row["step"]), count(row["tokens"])
    return places


def untraced(wanted: Sequence[str], metrics: pd.DataFrame, failures: Mapping[str, Any]) -> list[str]:
    """List the checkpoints that are still to come."""
    traced = _traced(metrics)
    return [name for name in wanted if name not in traced and name not in failures]


def count(value: Any) -> int | None:
    """Read a count of a table, None for one that is missing."""
    return None if pd.isna(value) else int(value)


def problem_blocks(
    failures: Mapping[str, Mapping[str, str]], missing: Sequence[str], warnings: Sequence[str]
) -> Iterator[Block]:
    """Show what failed, what is missing and what to be wary of; a word for it where there is nothing."""
    if failures:
        rows = [[name, note.get("error"), note.get("time")] for name, note in failures.items()]
        yield Table("Checkpoints that could not be traced", ["checkpoint", "reason", "time"], rows)
    if missing:
        more = f" and {len(missing) - MOST_MISSING} more" if len(missing) > MOST_MISSING else ""
        names = ", ".join(missing[:MOST_MISSING]) + more
        yield Paragraph(f"Not traced yet: {names}. The same command goes on with what is missing.")
    if warnings:
        yield Warnings(warnings)
    if not (failures or missing or warnings):
        yield Paragraph("None.")


def warnings(findings: Sequence[Finding]) -> Iterator[str]:
    """Say what a reader of the numbers should know; once per set."""
    for finding in {finding.dataset: finding for finding in reversed(findings)}.values():
        if finding.text is not None and finding.text >= GIVEN_AWAY:
            yield (
                f"{finding.dataset}: a text-only classifier reaches {finding.text:.2f}; its labels can be read off the "
                "surface, and a probe's accuracy says little of the model"
            )
        groups = finding.n if finding.groups is None else finding.groups
        if groups < FEW_GROUPS:
            yield (
                f"{finding.dataset}: its {finding.n} held-out rows say as much as {groups:.0f} groups of one size, "
                f"fewer than {FEW_GROUPS}; the gain over the baselines is uncertain by ±{finding.margin:.2f}, or more"
            )


def oddities(record: Mapping[str, Any]) -> Iterator[str]:
    """Say what was odd in the statement sets before they were traced."""
    for name, about in record.get("sets", {}).items():
        yield from (f"{name}: {line}" for line in about.get("odd", ()))


def foot(record: Mapping[str, Any]) -> str:
    """Say what made the page, and where the method is from."""
    past = commands(record)
    version = past[-1].get("versions", {}).get("jtrace", "") if past else ""
    return f"Made by jtrace {version} from the tables of this run. Method: arXiv 2402.19465."


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
