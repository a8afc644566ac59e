"""A run whose every name tries to be more than a name."""

import json
from pathlib import Path

from jtrace.runs.run_directory import RunDirectory
from tests.tables import metrics_table, steered, write_run, write_steering

NAME = '<script>ran=1;console.log(1)</script>"><img onerror="ran=1;console.log(2)" src=y>{{7*7}}{% raw %}'


def hostile_run(path: Path) -> RunDirectory:
    """Names of models, checkpoints, sets, labels, tasks, vectors, commands, failures, warnings and completions."""
    metrics = metrics_table([0, 1], layers=2, datasets=[NAME], model=NAME)
    run = write_run(path, metrics, checkpoints=[f"{NAME}\x1b[31m", "\udc80"])
    record = run.record()
    record["config"] = {NAME: NAME}
    record["sets"][NAME] |= {"odd": [NAME + "\x1b]0;title\x07"], "label_one": NAME, "source": NAME, "dimension": NAME}
    record["commands"][0] |= {"command": NAME + "\x9b", "device": {"kind": NAME}, "versions": {NAME: NAME}}
    (run.path / "run.json").write_text(json.dumps(record))
    (run.path / "failures.jsonl").write_text(json.dumps({"checkpoint": NAME, "error": NAME + "\r\x00"}) + "\n")
    write_steering(run, steered({0: 0.5, 1: 0.6}, target=NAME, source=NAME, dataset=NAME, task=NAME, positions=NAME))
    said = dict.fromkeys(("target", "vector_from", "vector_set", "task", "positions", "prompt", "completion"), NAME)
    lines = [said | {"index": 0, "layer": 1, "strength": strength} for strength in (0.0, 2.0)]
    (run.path / "completions").mkdir()
    (run.path / "completions/a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run
