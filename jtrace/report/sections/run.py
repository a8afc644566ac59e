"""The report's sections on the run itself: what was run, on what, how far it got, and what to be wary of."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from jtrace.report.findings import Finding
from jtrace.report.html import definitions, items, paragraph, table
from jtrace.runtime.names import checkpoint_name, file_name

# From this accuracy of the text-only classifier on, a set's labels can be read off the surface.
GIVEN_AWAY = 0.9
# Below, intervals lean on how groups are distributed, and one odd group moves them.
FEW_GROUPS = 30


def run_section(record: Mapping[str, Any], metrics: pd.DataFrame, failures: Mapping[str, Any]) -> str:
    config, told = record["config"], commands(record)
    pairs = [(key.replace("_", " "), _plain(value)) for key, value in config.items() if value is not None]
    parts = [definitions(pairs)]
    if told:
        latest = told[-1]
        device = latest.get("device", {})
        parts.append(
            definitions(
                [
                    (
                        "device",
                        f"{device.get('count', '?')} × {device.get('kind', '?')} ({device.get('platform', '?')})",
                    ),
                    ("versions", ", ".join(f"{k} {v}" for k, v in latest.get("versions", {}).items() if v)),
                ]
            )
        )
        rows = [[c.get("time"), len(c.get("checkpoints", [])), c.get("command")] for c in told]
        parts.append(table("Commands, in order", ["started", "checkpoints", "command"], rows))
    if steered := record.get("steering_commands"):
        rows = [[c.get("time"), ", ".join(c.get("checkpoints", [])), c.get("command")] for c in steered]
        parts.append(table("Steering commands, in order", ["started", "target", "command"], rows))
    parts.append(table("Statement sets", *_sets(record, metrics)))
    parts.append(_checkpoints(record, metrics, failures))
    return "".join(parts)


def commands(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """That traced and that steered, in the order of their times."""
    return sorted([*record["commands"], *record.get("steering_commands", ())], key=lambda c: str(c.get("time", "")))


def _sets(record: Mapping[str, Any], metrics: pd.DataFrame) -> tuple[list[str], list[list[object]]]:
    tests = metrics[metrics["metric"] == "probe_accuracy"].groupby("dataset")["n"].first()
    dimensions = metrics.groupby("dataset")["dimension"].first()
    rows: list[list[object]] = []
    for name, fingerprint in record["data"].items():
        about = record.get("sets", {}).get(name, {})
        share = about["label_one_rows"] / about["rows"] if about.get("rows") else None
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
    return ["set", "dimension", "rows", "test rows", "label 1", "label 1 means", "source", "SHA-256"], rows


def _checkpoints(record: Mapping[str, Any], metrics: pd.DataFrame, failures: Mapping[str, Any]) -> str:
    traced = _traced(metrics)
    rows: list[list[object]] = []
    for name in record["checkpoints"]:
        state = "traced" if name in traced else "failed" if name in failures else "not traced yet"
        rows.append([name, *traced.get(name, (None, None)), state])
    summary = f"All {len(rows)} checkpoints" if len(rows) != 1 else "The checkpoint"
    body = table("Checkpoints", ["checkpoint", "step", "tokens", "state"], rows)
    return f"<details><summary>{summary}</summary>{body}</details>"


def _traced(metrics: pd.DataFrame) -> dict[str, tuple[int | None, int | None]]:
    """Step and tokens of each traced checkpoint, named as `CheckpointRef.name`."""
    found = {}
    for row in metrics.drop_duplicates(["model", "revision"]).to_dict("records"):
        name = file_name(checkpoint_name(row["model"], row["revision"]))
        found[name] = count(row["step"]), count(row["tokens"])
    return found


def untraced(wanted: Sequence[str], metrics: pd.DataFrame, failures: Mapping[str, Any]) -> list[str]:
    traced = _traced(metrics)
    return [name for name in wanted if name not in traced and name not in failures]


def count(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def problems(failures: Mapping[str, Mapping[str, str]], untraced: Sequence[str], warnings: Sequence[str]) -> str:
    parts = []
    if failures:
        rows = [[name, note.get("error"), note.get("time")] for name, note in failures.items()]
        parts.append(table("Checkpoints that could not be traced", ["checkpoint", "reason", "time"], rows))
    if untraced:
        shown = ", ".join(untraced[:20]) + (f" and {len(untraced) - 20} more" if len(untraced) > 20 else "")
        parts.append(paragraph(f"Not traced yet: {shown}. The same command goes on with what is missing."))
    if warnings:
        parts.append(items(warnings, "warnings"))
    return "".join(parts) or paragraph("None.")


def warnings(found: Sequence[Finding]) -> Iterator[str]:
    """What a reader of the numbers should know; once per set."""
    for finding in {f.dataset: f for f in reversed(found)}.values():
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
    """What was found odd in the statement sets before they were traced."""
    for name, about in record.get("sets", {}).items():
        yield from (f"{name}: {line}" for line in about.get("odd", ()))


def foot(record: Mapping[str, Any]) -> str:
    told = commands(record)
    versions = told[-1].get("versions", {}) if told else {}
    return paragraph(
        f"Made by jtrace {versions.get('jtrace') or ''} from the tables of this run. Method: arXiv 2402.19465."
    )


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
