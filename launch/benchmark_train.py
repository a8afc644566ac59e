"""Measure jtrace's training step against torch's: same machine, same weights, same batches, float32, AdamW.

    python launch/benchmark_train.py --preset=tiny --rows=32 --context=128 --out=runs/benchmark_train.json --rounds=3

Torch runs transformers' LlamaForCausalLM with each of its attentions and each of AdamW's implementations, every
combination as a contender of its own; the ratio is against the fastest of them. Rows are whole documents of random
tokens, so that a plain causal mask is right for both. Every contender runs in a process of its own, one after another,
--rounds times: losses of the first steps must agree to 1e-4 (relative), then the median time of a step, tokens per
second and peak memory are reported. Needs the `torch` extra, and the machine to itself.
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
from jtrace.errors import InputError
from jtrace.presets import PRESETS, find_preset
from jtrace.training import Optimisation
from jtrace.whole import written_whole

PRESET = flags.DEFINE_enum("preset", "tiny", list(PRESETS), "Size of the model.")
BATCH = flags.DEFINE_integer("rows", None, "Rows of a step; default by preset.", lower_bound=1)
CONTEXT = flags.DEFINE_integer("context", None, "Tokens of a row; default by preset.", lower_bound=2)
STEPS = flags.DEFINE_integer("steps", 10, "Steps that are timed, after those that are compared.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 3, "How often every contender runs; medians are reported.", lower_bound=1)
OUT = flags.DEFINE_string("out", None, "JSON file for the measurements.", required=True)
TORCH = [f"torch-{attention}-{adamw}" for attention in ("sdpa", "eager") for adamw in ("fused", "foreach")]
CONTENDER = flags.DEFINE_enum("contender", None, ["jtrace", *TORCH], "Run this one only (internal).")
WEIGHTS = flags.DEFINE_string("weights", None, "Where the first weights lie (internal).")

COMPARED = 5
TOLERANCE = 1e-4
OPTIMISATION = Optimisation(steps=1000, learning_rate=1e-3, warmup=10)


def batches() -> list[np.ndarray]:
    """Rows of random tokens, the same for every contender, [rows, context]."""
    preset = find_preset(PRESET.value)
    shape = (BATCH.value or preset.rows, CONTEXT.value or preset.context)
    random = np.random.default_rng(0)
    # A few tokens are frequent, so that there is something to learn.
    return [random.zipf(1.3, shape).astype(np.int64) % preset.vocab_size for _ in range(COMPARED)]


def write_weights(folder: Path) -> None:
    """The model's first weights, as a Hugging Face folder."""
    from jtrace.checkpoints.export import save_hf
    from jtrace.models.families import read_model_config
    from jtrace.training import initial_params

    preset = find_preset(PRESET.value)
    values = preset.config_json(preset.vocab_size, CONTEXT.value or preset.context, None, None)
    architecture, _ = read_model_config(values, PRESET.value)
    save_hf(folder, values, initial_params(architecture, 0))


def run_jtrace(folder: Path) -> tuple[list[float], list[float]]:
    import jax.numpy as jnp

    from jtrace.checkpoints.convert import load_params
    from jtrace.data.rows import Rows
    from jtrace.pretrain import micro_batches
    from jtrace.training import initial_state, local_mesh, to_batch, train_step
    from jtrace.training_loop import training_decoder

    preset, mesh = find_preset(PRESET.value), local_mesh()
    architecture, params = load_params(folder, jnp.float32)
    decoder = training_decoder(architecture, jnp.float32, preset.remat, mesh)
    state, step = initial_state(params, OPTIMISATION, mesh), train_step(decoder, OPTIMISATION)
    rows, losses, seconds = batches(), [], []
    parts = micro_batches(len(rows[0]), mesh.size, preset.device_rows)
    for number in range(COMPARED + STEPS.value):
        tokens = rows[number % COMPARED].astype(np.int32)
        learnt = np.ones(tokens.shape, bool)
        learnt[:, 0] = False
        whole = Rows(tokens, np.full_like(tokens, tokens.shape[1]), learnt, np.ones_like(learnt))
        started = time.perf_counter()
        state, metrics = step(state, to_batch(whole, mesh, parts))
        losses.append(float(metrics.loss))
        seconds.append(time.perf_counter() - started)
    return losses, seconds


def run_torch(folder: Path, attention: str, adamw: str) -> tuple[list[float], list[float]]:
    import peers

    rates = [float(OPTIMISATION.rate(step)) for step in range(COMPARED + STEPS.value)]
    device_rows = find_preset(PRESET.value).device_rows
    return peers.train(folder, attention, adamw, OPTIMISATION, rates, batches(), device_rows)


def run_contender(contender: str, folder: Path) -> int:
    """In a process of its own: losses, seconds and peak memory as a line of JSON."""
    losses, seconds = run_jtrace(folder) if contender == "jtrace" else run_torch(folder, *contender.split("-")[1:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    step = float(np.median(seconds[COMPARED:]))
    print(json.dumps({"losses": losses, "first_step": seconds[0], "step": step, "peak_gib": peak}))
    return 0


def measure(contender: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, f"--contender={contender}", f"--weights={folder}", f"--out={OUT.value}"]
    command += [f"--preset={PRESET.value}", f"--steps={STEPS.value}"]
    command += [f"--rows={BATCH.value}"] if BATCH.value else []
    command += [f"--context={CONTEXT.value}"] if CONTEXT.value else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"the contender '{contender}' failed: {(done.stderr.strip() or 'killed').splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> int:
    if CONTENDER.value:
        return run_contender(CONTENDER.value, Path(WEIGHTS.value or ""))
    rounds: dict[str, list[dict[str, Any]]] = {contender: [] for contender in ("jtrace", *TORCH)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "weights"
        write_weights(folder)
        for number in range(ROUNDS.value):
            for contender, runs in rounds.items():
                runs.append(measure(contender, folder))
                print(f"round {number + 1}/{ROUNDS.value}  {contender:20} {runs[-1]['step']:.3f} s a step", flush=True)
    report = summarise(rounds)
    with written_whole(Path(OUT.value)) as aside:
        aside.write_text(json.dumps(report, indent=2) + "\n")
    print_report(report)
    return 0


def summarise(rounds: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians over the rounds, the ratio to the fastest torch, and how far the losses are apart.

    Raises:
        InputError: the contenders do not compute the same.
    """
    medians = {
        contender: {key: float(np.median([run[key] for run in runs])) for key in ("step", "first_step", "peak_gib")}
        for contender, runs in rounds.items()
    }
    ours = np.array(rounds["jtrace"][0]["losses"][:COMPARED])
    apart = {
        contender: float(np.abs(np.array(rounds[contender][0]["losses"][:COMPARED]) / ours - 1).max())
        for contender in TORCH
    }
    if (worst := max(apart, key=lambda contender: apart[contender])) and apart[worst] > TOLERANCE:
        raise InputError(f"losses of {worst} are {apart[worst]:.1e} from jtrace's, {TOLERANCE:.0e} at most are allowed")
    fastest = min(TORCH, key=lambda contender: medians[contender]["step"])
    ratio = medians[fastest]["step"] / medians["jtrace"]["step"]
    return {"rounds": rounds, "medians": medians, "losses_apart": apart, "fastest_torch": fastest, "ratio": ratio}


def print_report(report: dict[str, Any]) -> None:
    tokens = batches()[0].size
    print(f"\n{'':20}{'seconds a step, median (min–max)':>36}{'tokens/s':>12}{'peak memory':>16}")
    for contender, medians in report["medians"].items():
        steps = [run["step"] for run in report["rounds"][contender]]
        cell = f"{medians['step']:.3f} ({min(steps):.3f}–{max(steps):.3f})"
        print(f"{contender:20}{cell:>36}{tokens / medians['step']:>12,.0f}{medians['peak_gib']:>12.2f} GiB")
    print(f"\njtrace trains {report['ratio']:.2f} × as fast as {report['fastest_torch']};")
    print(
        f"losses of the first {COMPARED} steps differ by {max(report['losses_apart'].values()):.1e} at most (relative)"
    )


if __name__ == "__main__":
    cli.run(main)
