"""Measure jtrace against the published procedure and against torch batched by length.

    python launch/benchmark.py --checkpoint=runs/models/smollm2 --statements=statements.csv --out=runs/benchmark.json

Same machine, same weights, same statements, float32. Every contender runs in a process of its own, one after another,
--rounds times; the table gives medians, spreads, ratios and peak memory, and checks that the residuals and the
statistics agree. `--contender=jtrace --out=arrays.npz` prints jtrace's own times alone, those of protocol `sound` too.
Needs the `torch` extra, and the machine to itself. About 25 minutes on two CPU cores for SmolLM2-135M and 1,952
statements in three rounds.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from jtrace import cli
from jtrace.data.statements import Statements, read_statements
from jtrace.data.tokenizer import encode, read_tokenizer
from jtrace.errors import InputError
from jtrace.whole import written_whole

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A Hugging Face folder of the llama family.", required=True)
STATEMENTS = flags.DEFINE_string("statements", None, "A CSV, JSONL or Parquet file.", required=True)
OUT = flags.DEFINE_string("out", None, "JSON file for the measurements.", required=True)
ROUNDS = flags.DEFINE_integer("rounds", 3, "How often every contender runs; medians are reported.", lower_bound=1)
LIMIT = flags.DEFINE_integer("limit", None, "Only the first so many statements.", lower_bound=20)
CONTENDER = flags.DEFINE_enum("contender", None, ["jtrace", "published", "batched"], "Run this one only (internal).")

STAGES = ("extract", "statistics")
METRICS = ("probe_accuracy", "mi_xt", "mi_yt")


def limited(statements: Statements) -> tuple[list[str], np.ndarray]:
    stop = LIMIT.value or len(statements)
    return list(statements.texts[:stop]), statements.labels[:stop]


def run_jtrace(
    folder: Path, statements: Statements, tokens: list[np.ndarray]
) -> tuple[dict[str, float], dict[str, Any]]:
    import dataclasses

    import jax
    import jax.numpy as jnp

    from jtrace.activations import extract, pack_sets
    from jtrace.checkpoints.convert import load_params
    from jtrace.trace import paper_trace

    stop = len(tokens)
    statements = dataclasses.replace(
        statements,
        texts=statements.texts[:stop],
        labels=statements.labels[:stop],
        groups=None,
        rows=statements.rows[:stop],
    )
    config, params = load_params(folder, jnp.float32)

    def extract_all() -> tuple[jax.Array, np.ndarray]:
        sets = pack_sets({"set": tokens}, config)
        return extract(params, config, sets.packed, dtype=jnp.float32).block_until_ready(), sets.members["set"]

    timings: dict[str, float] = {}
    for warm in (False, True):
        suffix = "" if warm else "_first"
        started = time.perf_counter()
        residuals, members = extract_all()
        extracted = time.perf_counter()
        trace = paper_trace(residuals, members, statements, range(config.depth))
        timings |= {f"extract{suffix}": extracted - started, f"statistics{suffix}": time.perf_counter() - extracted}
        timings |= {f"{stage}{suffix}": count for stage, count in time_sound(residuals, members, statements).items()}
    found = {m: np.array([row.value for row in trace.metrics if row.metric == m]) for m in METRICS}
    return timings, {"activations": np.asarray(residuals)[:, members]} | found


def time_sound(residuals: Any, members: np.ndarray, statements: Statements) -> dict[str, float]:
    """Protocol `sound` on the same activations, and its baselines, which a sweep needs once; seconds."""
    from jtrace.baselines import text_scores
    from jtrace.sound import SoundConfig, probe_scores, sound_set, sound_trace

    layers = range(residuals.shape[0])
    started = time.perf_counter()
    of = sound_set(statements, SoundConfig())
    text = text_scores(statements, of.folds)
    texts = time.perf_counter()
    # As long as for random params, whose activations have the same shape.
    scores = probe_scores(residuals, members, of, layers)
    probes = time.perf_counter()
    sound_trace(residuals, members, of, text, scores, layers)
    return {"sound": time.perf_counter() - probes, "sound_text": texts - started, "sound_random": probes - texts}


def run_torch(
    batched: bool, folder: Path, labels: np.ndarray, tokens: list[np.ndarray]
) -> tuple[dict[str, float], dict[str, Any]]:
    import peers

    model = peers.load(folder)
    extract = peers.extract_batched if batched else peers.extract_one_by_one
    extract(model, tokens[:4])
    started = time.perf_counter()
    activations = extract(model, tokens)
    timings = {"extract": time.perf_counter() - started}
    if batched:
        return timings, {"activations": activations}
    peers.published_statistics(activations[:1], labels)
    started = time.perf_counter()
    found = peers.published_statistics(activations, labels)
    return timings | {"statistics": time.perf_counter() - started}, {"activations": activations} | found


def run_contender(contender: str) -> int:
    """In a process of its own: timings and peak memory as a line of JSON, arrays as a file at --out."""
    folder, statements = Path(CHECKPOINT.value), read_statements(STATEMENTS.value)
    texts, labels = limited(statements)
    tokens = encode(read_tokenizer(folder), texts)
    if contender == "jtrace":
        timings, found = run_jtrace(folder, statements, tokens)
    else:
        timings, found = run_torch(contender == "batched", folder, labels, tokens)
    np.savez(OUT.value, **found)
    timings["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(timings))
    return 0


def measure(contender: str, arrays: Path) -> dict[str, float]:
    command = [sys.executable, __file__, f"--contender={contender}", f"--out={arrays}"]
    command += [f"--checkpoint={CHECKPOINT.value}", f"--statements={STATEMENTS.value}"]
    command += [f"--limit={LIMIT.value}"] if LIMIT.value else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"the contender '{contender}' failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> int:
    if CONTENDER.value:
        return run_contender(CONTENDER.value)
    contenders = ("jtrace", "published", "batched")
    rounds: dict[str, list[dict[str, float]]] = {contender: [] for contender in contenders}
    arrays: dict[str, dict[str, np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS.value):
            for contender in contenders:
                path = Path(folder) / f"{contender}.npz"
                rounds[contender].append(measure(contender, path))
                arrays[contender] = dict(np.load(path))
                times = "  ".join(f"{key} {value:.2f}" for key, value in rounds[contender][-1].items())
                print(f"round {number + 1}/{ROUNDS.value}  {contender:10}{times}", flush=True)
    report = summarise(rounds, arrays)
    with written_whole(Path(OUT.value)) as aside:
        aside.write_text(json.dumps(report, indent=2) + "\n")
    print_report(report)
    return 0


def summarise(rounds: dict[str, list[dict[str, float]]], arrays: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    medians = {
        contender: {key: float(np.median([times[key] for times in runs])) for key in runs[0]}
        for contender, runs in rounds.items()
    }
    ours = arrays["jtrace"]
    agreement = {}
    for peer in ("published", "batched"):
        theirs = arrays[peer]["activations"]
        errors = np.linalg.norm(ours["activations"] - theirs, axis=(1, 2)) / np.linalg.norm(theirs, axis=(1, 2))
        agreement[f"residuals_{peer}"] = float(errors.max())
    for metric in METRICS:
        agreement[metric] = float(np.abs(ours[metric] - arrays["published"][metric]).max())
    ratios = {
        f"{stage}_{peer}": medians[peer][stage] / medians["jtrace"][stage]
        for peer in ("published", "batched")
        for stage in STAGES
        if stage in medians[peer]
    }
    return {"rounds": rounds, "medians": medians, "ratios": ratios, "agreement": agreement}


def print_report(report: dict[str, Any]) -> None:
    print(f"\n{'seconds, median (min–max)':28}{'extract':>24}{'statistics':>24}{'peak memory':>16}")
    for contender, medians in report["medians"].items():
        line = f"{contender:28}"
        for stage in STAGES:
            values = [times[stage] for times in report["rounds"][contender] if stage in times]
            cell = f"{medians[stage]:.1f} ({min(values):.1f}–{max(values):.1f})" if values else "–"
            line += f"{cell:>24}"
        print(f"{line}{medians['peak_gib']:>12.2f} GiB")
    ratios = report["ratios"]
    print(f"\njtrace extracts {ratios['extract_published']:.1f} × as fast as the published loop, ", end="")
    print(f"{ratios['extract_batched']:.2f} × as fast as torch batched by length;")
    print(f"probes and information {ratios['statistics_published']:.1f} × as fast as published.")
    print("\nlargest differences: " + ", ".join(f"{key} {value:.1e}" for key, value in report["agreement"].items()))


if __name__ == "__main__":
    cli.run(main)
