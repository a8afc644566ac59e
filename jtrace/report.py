"""The report of a run: one HTML page from its tables, its record and its log, finished or not.

The same files give the same bytes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from jtrace.dynamics import evenly_chosen, with_checkpoints
from jtrace.errors import InputError
from jtrace.figures import Drawn, draw_all
from jtrace.findings import Finding, findings
from jtrace.log import Passage, read
from jtrace.page import Section, definitions, figure, items, page, paragraph, table
from jtrace.pipeline_report import pipeline_section
from jtrace.results import RunDirectory
from jtrace.steering_report import agreement_table, steering_section
from jtrace.summary import best_layers
from jtrace.whole import written_whole

MOST_ROWS = 16  # of one set's checkpoints in a table
# From this accuracy of the text-only classifier on, a set's labels can be read off the surface.
GIVEN_AWAY = 0.9
FEW_TESTS = 100
MOST_NAMES = 6  # of missing checkpoints at the top
TRIES = 5
TERMS = (
    ("layer k", "The residual after block k, at a statement's last token, before any final norm."),
    (
        "probe accuracy",
        "A logistic probe per layer is fitted on the first 80 % of a set's rows and scored on the rest. The best layer "
        "is the one of the highest accuracy, which flatters a little: with few test rows the best of many layers is "
        "lucky too.",
    ),
    (
        "text only",
        "A logistic classifier on the words and the looks of the texts, on the same rows. What it reaches needs no "
        "model; only what lies above it was learnt.",
    ),
    ("chance", "Always guessing the label that most training rows have."),
    (
        "clearly above",
        "By more than 1.96 standard errors of the difference, test rows taken as independent. Related rows, among "
        "the test rows or on both sides of the split, make this too hopeful: compare seeds, too.",
    ),
    (
        "I(X;T), I(Y;T)",
        "Normalised HSIC of a layer T with the first layer X, and with the label Y, on training rows; no unit. There "
        "is no null to subtract: compare over checkpoints and layers, not with other measures.",
    ),
)


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run directory, and its figures anew; the run may go on meanwhile.

    Args:
        out: the file; `report.html` in the run directory if None.

    Returns:
        The file.

    Raises:
        InputError: the folder is no run, or one of its tables is damaged.
    """
    out = out or run / "report.html"
    html = _page_of_now(RunDirectory(run))
    with written_whole(out) as aside:
        aside.write_text(html, encoding="utf-8")
    return out


def _page_of_now(run: RunDirectory) -> str:
    """The page, made anew if a table vanished or was replaced between being listed and being read."""
    for _ in range(TRIES - 1):
        before = _tables(run.path)
        try:
            return _page(run)
        except (InputError, OSError):
            if _tables(run.path) == before:
                raise
    return _page(run)


def _tables(run: Path) -> set[tuple[Path, int]]:
    """The tables of a run; one that is written anew is another."""
    found = set()
    for folder in ("metrics", "projections", "steering"):
        for file in (run / folder).glob("*.parquet"):
            with suppress(FileNotFoundError):
                found.add((file, file.stat().st_mtime_ns))
    return found


def _page(directory: RunDirectory) -> str:
    record = directory.record()
    failures = directory.failures()
    metrics = directory.read_metrics()
    steering = directory.read_steering()
    figures = draw_all(directory, metrics)
    by_protocol = {str(protocol): rows for protocol, rows in metrics.groupby("protocol")}
    found = {protocol: findings(rows) for protocol, rows in by_protocol.items()}
    everything = [finding for several in found.values() for finding in several]
    warnings = [*directory.audit(), *_warnings(everything)]

    untraced = _untraced(record["checkpoints"], metrics, failures)
    sections = [
        Section("run", "What was run", _run(record, metrics, failures)),
        *_measured(by_protocol, found, figures),
        *_steered(by_protocol, steering, figures),
        *_pipeline(read(directory.log_path), figures),
        Section("problems", "Failures and warnings", _problems(failures, untraced, warnings)),
        Section("terms", "How to read this", definitions(TERMS)),
    ]
    title, head = _head(record, metrics, steering, everything, failures, untraced)
    return page(title, head, sections, _foot(record))


def _head(
    record: Mapping[str, Any],
    metrics: pd.DataFrame,
    steering: pd.DataFrame,
    found: Sequence[Finding],
    failures: Mapping[str, Any],
    untraced: Sequence[str],
) -> tuple[str, str]:
    traced_models = [*(finding.model for finding in found if finding.courses), *metrics["model"]]
    models = list(dict.fromkeys(traced_models or steering["target"]))
    of = ", ".join(models[:3]) + (f" and {len(models) - 3} more models" if len(models) > 3 else "")
    title = f"Trustworthiness in {of}" if models else "A run without results yet"
    traced, wanted = metrics[["model", "revision"]].drop_duplicates().shape[0], len(record["checkpoints"])
    progress = "so far" if untraced else "traced"
    state = f"{traced} of {wanted} checkpoints {progress}" + (f", {len(failures)} failed" if failures else "")
    commands = _commands(record)
    day = f" · {commands[-1]['time'][:10]}" if commands and "time" in commands[-1] else ""
    parts = [f'<p class="kicker">jtrace report{escape(day)} · {escape(state)}</p>', f"<h1>{escape(title)}</h1>"]
    if untraced and traced:
        names = _listed(untraced) if len(untraced) <= MOST_NAMES else f"{len(untraced)} checkpoints"
        parts.append(paragraph(f"Unfinished: {state}; not traced yet: {names}. What follows is of the traced ones."))
    if found:
        parts.append(f'<p class="lead">{escape(_lead(found))}</p>')
        parts.append('<ul class="findings">' + "".join(_finding_items(found)) + "</ul>")
    elif len(steering) and not wanted:
        parts.append('<p class="lead">No checkpoint was traced here; what steering did is below.</p>')
    elif untraced or not wanted:
        parts.append('<p class="lead">No checkpoint has been traced yet, so there is nothing to show.</p>')
    else:
        parts.append('<p class="lead">No checkpoint could be traced; the reasons are below.</p>')
    return f"{title} · jtrace", "\n".join(parts)


def _lead(found: Sequence[Finding]) -> str:
    """How many sets a probe tells apart at the end, and which; of the first model."""
    of_first = [finding for finding in found if finding.model == found[0].model]
    clear = [_called(finding) for finding in of_first if finding.clear]
    others = [_called(finding) for finding in of_first if not finding.clear]
    best = "the text-only classifier and chance" if all(finding.text is not None for finding in of_first) else "chance"
    last = of_first[0]
    where = f"At the last checkpoint ({last.last_at})" if last.first_at else f"In {last.last_at}"
    if not clear:
        return f"{where}, no probe is clearly more accurate than {best}."
    tail = f", not on {_listed(others)}" if others else ""
    count = "all" if not others else f"{len(clear)}"
    sets = f"{count} of {len(of_first)} sets" if others else "every set" if len(clear) > 1 else "the one set"
    return f"{where}, linear probes are clearly more accurate than {best} on {sets}: {_listed(clear)}{tail}."


def _finding_items(found: Sequence[Finding]) -> Iterator[str]:
    """An item per set of each curve; beside curves, one for all sets of a model that was traced once."""
    curves = [finding for finding in found if finding.first_at]
    several = len({finding.model for finding in curves}) > 1
    for finding in curves or found:
        words = [finding.in_words()]
        words += [
            course.in_words(name) + "."
            for metric, name in (("mi_xt", "I(X;T)"), ("mi_yt", "I(Y;T)"))
            if (course := finding.courses.get(metric))
        ]
        model = f" ({finding.model})" if several else ""
        yield f"<li><b>{escape(_called(finding) + model)}</b>: {escape(' '.join(words))}</li>\n"
    for model in dict.fromkeys(finding.model for finding in found if curves and not finding.first_at):
        of_model = [finding for finding in found if finding.model == model]
        words = [f"{_called(f)} {f.last:.2f}" + (" (clearly above)" if f.clear else "") for f in of_model]
        yield f"<li><b>{escape(model)}</b>, traced beside it: {escape(', '.join(words))}.</li>\n"


def _called(finding: Finding) -> str:
    return finding.dimension or finding.dataset


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _run(record: Mapping[str, Any], metrics: pd.DataFrame, failures: Mapping[str, Any]) -> str:
    config, commands = record["config"], _commands(record)
    pairs = [(key.replace("_", " "), _plain(value)) for key, value in config.items() if value is not None]
    parts = [definitions(pairs)]
    if commands:
        latest = commands[-1]
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
        rows = [[c.get("time"), len(c.get("checkpoints", [])), c.get("command")] for c in commands]
        parts.append(table("Commands, in order", ["started", "checkpoints", "command"], rows))
    if steered := record.get("steering_commands"):
        rows = [[c.get("time"), ", ".join(c.get("checkpoints", [])), c.get("command")] for c in steered]
        parts.append(table("Steering commands, in order", ["started", "target", "command"], rows))
    parts.append(table("Statement sets", *_sets(record, metrics)))
    parts.append(_checkpoints(record, metrics, failures))
    return "".join(parts)


def _commands(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
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
        name = (f"{row['model']}@{row['revision']}" if row["revision"] else row["model"]).replace("/", "--")
        found[name] = _count(row["step"]), _count(row["tokens"])
    return found


def _count(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def _measured(
    by_protocol: Mapping[str, pd.DataFrame], found: Mapping[str, Sequence[Finding]], figures: Sequence[Drawn]
) -> Iterator[Section]:
    if not by_protocol:
        return
    probes, information = [], []
    for protocol, rows in by_protocol.items():
        probes.append(_probe_table(found[protocol], protocol))
        probes.append(_best_tables(rows, protocol))
        information.append(_information_table(found[protocol], protocol))
    yield Section("probes", "Probe accuracy", _figures(figures, "probes") + "".join(probes))
    yield Section("information", "Information", _figures(figures, "information") + "".join(information))
    drawn = _figures(figures, "projections")
    if drawn:
        yield Section("projections", "Activations", drawn)


def _probe_table(found: Sequence[Finding], protocol: str) -> str:
    rows = [
        [f.dataset, f.model, f.layer, f.first if f.first_at else None, f.last, f.text, f.chance, f.gain, f.margin, f.n]
        for f in found
    ]
    return table(
        f"Probe accuracy at the first and last checkpoint, protocol {protocol}; ± is half a 95 % interval of the gain "
        "over the better of text only and chance",
        ["set", "model", "layer", "first", "last", "text only", "chance", "gain", "±", "test rows"],
        rows,
    )


def _best_tables(rows: pd.DataFrame, protocol: str) -> str:
    """One table per set: the best layer at each checkpoint, or at evenly chosen ones."""
    best = best_layers(rows, protocol)
    ordered = with_checkpoints(rows)
    each = ordered.drop_duplicates("checkpoint").to_dict("records")
    places = {str(row["checkpoint"]): (_count(row["step"]), _count(row["tokens"])) for row in each}
    parts = []
    for dataset, of_set in best.groupby("dataset", sort=False):
        lines = []
        for row in of_set.to_dict("records"):
            name = str(row["checkpoint"])
            numbers = [float(row[column]) for column in ("accuracy", "AUROC", "I(X;T)", "I(Y;T)")]
            lines.append([name, *places[name], int(row["best layer"]), *numbers])
        chosen = evenly_chosen(lines, MOST_ROWS)
        some = f"; {len(chosen)} of {len(lines)} checkpoints, evenly chosen" if len(chosen) < len(lines) else ""
        parts.append(
            f"<details open><summary>{escape(str(dataset))}</summary>"
            + table(
                f"The layer of the highest probe accuracy at each checkpoint, protocol {protocol}{some}",
                ["checkpoint", "step", "tokens", "best layer", "accuracy", "AUROC", "I(X;T)", "I(Y;T)"],
                chosen,
            )
            + "</details>\n"
        )
    return "<h3>Best layer of each checkpoint</h3>\n" + "".join(parts)


def _information_table(found: Sequence[Finding], protocol: str) -> str:
    rows = [
        [f.dataset, f.model, f.layer, name, course.first, course.peak, course.peak_at, course.last]
        for f in found
        for metric, name in (("mi_xt", "I(X;T)"), ("mi_yt", "I(Y;T)"))
        if (course := f.courses.get(metric))
    ]
    if not rows:
        return ""
    return table(
        f"Information over pre-training at the layer of the best probe, protocol {protocol}",
        ["set", "model", "layer", "measure", "first", "highest", "highest at", "last"],
        rows,
    )


def _steered(
    by_protocol: Mapping[str, pd.DataFrame], steering: pd.DataFrame, figures: Sequence[Drawn]
) -> Iterator[Section]:
    steered = steering_section(steering, _figures(figures, "comparison"), _figures(figures, "steering"))
    if steered:
        yield Section("steering", "Steering", steered)
    correlated = agreement_table(by_protocol.values(), steering)
    if correlated:
        yield Section("agreement", "Probes and behaviour", _figures(figures, "agreement") + correlated)


def _pipeline(passages: Sequence[Passage], figures: Sequence[Drawn]) -> Iterator[Section]:
    if html := pipeline_section(passages, _figures(figures, "pipeline")):
        yield Section("pipeline", "The sweep itself", html)


def _problems(failures: Mapping[str, Mapping[str, str]], untraced: Sequence[str], warnings: Sequence[str]) -> str:
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


def _warnings(found: Sequence[Finding]) -> Iterator[str]:
    """What a reader of the numbers should know; once per set."""
    for finding in {f.dataset: f for f in reversed(found)}.values():
        if finding.text is not None and finding.text >= GIVEN_AWAY:
            yield (
                f"{finding.dataset}: a text-only classifier reaches {finding.text:.2f}; its labels can be read off the "
                "surface, and a probe's accuracy says little of the model"
            )
        if finding.n < FEW_TESTS:
            margin = (
                f"the gain over the baselines is uncertain by ±{finding.margin:.2f}, or more where rows are related"
            )
            yield f"{finding.dataset}: {finding.n} test rows only; {margin}"


def _untraced(wanted: Sequence[str], metrics: pd.DataFrame, failures: Mapping[str, Any]) -> list[str]:
    traced = _traced(metrics)
    return [name for name in wanted if name not in traced and name not in failures]


def _figures(figures: Sequence[Drawn], section: str) -> str:
    return "".join(
        figure(f"figure-{number}", drawn.path, drawn.title, drawn.alt, drawn.caption)
        for number, drawn in enumerate(figures, 1)
        if drawn.section == section
    )


def _foot(record: Mapping[str, Any]) -> str:
    commands = _commands(record)
    versions = commands[-1].get("versions", {}) if commands else {}
    return paragraph(
        f"Made by jtrace {versions.get('jtrace') or ''} from the tables of this run. Method: arXiv 2402.19465."
    )


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
