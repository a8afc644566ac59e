r"""Measure steered generation and choice scoring against the published procedure and against torch in batches.

    python launch/benchmark_steer.py --checkpoint=runs/models/smollm2 --statements=stereoset.csv --limit=64 \
        --out=runs/benchmark_steer.json

One CPU, the same weights, token ids and random steering vector, float32. The first --limit statements of the evaluation
half are continued greedily, and the answers `0` and `1` to two questions about each are scored, all under every
strength. Every contender runs in a process of its own, one after another, --rounds times; the table gives medians,
spreads, rates, ratios and peak memory. jtrace is timed at its second call; the first, which compiles, is told apart.
Completions must be the published loop's, but for ties that rounding decides; differences of log-likelihoods are told.

Needs the `torch` extra, and the machine to itself: torch becomes many times slower beside another busy process. Nearly
all of the time is the published loop's, which makes one forward for each statement, strength and new token, and four
longer ones for each statement and strength; so begin with a small --limit.
"""

import dataclasses
import json
import os
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
from jtrace.data.statements import read_statements
from jtrace.data.tokenizer import encode, read_tokenizer
from jtrace.errors import InputError
from jtrace.evaluation.discriminative import evaluation_rows, likelihood_task
from jtrace.evaluation.task import Choice
from jtrace.whole import written_whole

CONTENDERS = ("jtrace", "published", "batched")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A Hugging Face folder of the llama family.", required=True)
STATEMENTS = flags.DEFINE_string("statements", None, "A file of confaide, stereoset or sst2.", required=True)
OUT = flags.DEFINE_string("out", None, "JSON file for the measurements.", required=True)
ROUNDS = flags.DEFINE_integer("rounds", 3, "How often every contender runs; medians are reported.", lower_bound=1)
LIMIT = flags.DEFINE_integer("limit", None, "Only the first so many statements.", lower_bound=1)
NEW = flags.DEFINE_integer("max_new_tokens", 32, "Tokens of a completion, at most.", lower_bound=1)
STRENGTHS = flags.DEFINE_list("strengths", "-2,-1,0,1,2", "What the vector is multiplied by.")
LAYER = flags.DEFINE_integer("layer", None, "Whose output is steered; the middle one by default.", lower_bound=0)
CONTENDER = flags.DEFINE_enum("contender", None, CONTENDERS, "Run this one only (internal).")
QUESTIONS = flags.DEFINE_string("questions", None, "Where the questions lie (internal).")

STAGES = {"generate": "tokens", "score": "continuations"}
NORM = 15.0  # of the vector, a tenth of SmolLM2's residuals: most completions change
NEAR_TIE = 1e-3  # nats; float32 logits of two right implementations differ by less


@dataclasses.dataclass(frozen=True)
class Questions:
    """What every contender is asked: token ids, and how to steer."""

    prompts: list[list[int]]
    pairs: list[list[list[int]]]  # contexts and continuations
    strengths: list[float]
    layer: int
    max_new_tokens: int
    stop: list[int]


def prepare() -> Questions:
    """Tokenised once, so that all are asked the same, and torch's processes need not load JAX.

    Raises:
        InputError: the statements or the checkpoint cannot be read, or a flag does not fit them.
    """
    from jtrace.checkpoints.convert import read_config_json
    from jtrace.evaluation.asking import choice_pairs
    from jtrace.language_model import as_language_model
    from jtrace.models.families import read_model_config

    folder, statements = Path(CHECKPOINT.value), read_statements(STATEMENTS.value)
    values, tokenizer = read_config_json(folder), read_tokenizer(folder)
    config, _ = read_model_config(values, str(folder / "config.json"))
    layer = config.depth // 2 if LAYER.value is None else LAYER.value
    if layer >= config.depth:
        raise InputError(f"--layer={layer}: the layers of {folder} are 0 to {config.depth - 1}")
    rows = evaluation_rows(statements)[: LIMIT.value]
    prompts = encode(tokenizer, [statements.texts[row] for row in rows])
    if (longest := max(map(len, prompts)) + NEW.value) > config.context:
        raise InputError(
            f"--max_new_tokens={NEW.value}: the longest prompt makes that {longest} tokens, the model takes "
            f"{config.context}; ask for fewer"
        )
    model = as_language_model(folder.name, folder, values, config, {}, np.float32, tokenizer)
    task = likelihood_task(statements, rows, [""] * len(statements))
    pairs = choice_pairs(model, task, [item for item in task.items if isinstance(item, Choice)])
    return Questions(
        [ids.tolist() for ids in prompts],
        [[part.tolist() for part in pair] for pair in pairs],
        list(cli.parse_strengths(STRENGTHS.value)),
        layer,
        NEW.value,
        list(model.stop),
    )


def steering_vector(width: int) -> np.ndarray:
    """A random direction, float32 [width]: what is added changes no timing."""
    drawn = np.random.default_rng(0).normal(size=width)
    return (NORM * drawn / np.linalg.norm(drawn)).astype(np.float32)


def pushes(questions: Questions, width: int) -> np.ndarray:
    """What is added to the residual under each strength, float32 [strength, width]."""
    return np.array(questions.strengths, np.float32)[:, None] * steering_vector(width)


def as_arrays(questions: Questions) -> tuple[list[np.ndarray], list[tuple[np.ndarray, np.ndarray]]]:
    """Prompts and pairs, int32."""
    prompts = [np.array(ids, np.int32) for ids in questions.prompts]
    return prompts, [(np.array(before, np.int32), np.array(after, np.int32)) for before, after in questions.pairs]


def run_jtrace(folder: Path, questions: Questions) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    import jax.numpy as jnp

    from jtrace.checkpoints.convert import load_params
    from jtrace.generate import Sampling, generate
    from jtrace.scoring import score
    from jtrace.steering import Condition, SteeringVector, edit_of

    config, params = load_params(folder, jnp.float32)
    prompts, pairs = as_arrays(questions)
    values = np.zeros((config.depth, config.width), np.float32)
    values[questions.layer] = steering_vector(config.width)
    vector = SteeringVector(values, (questions.layer,), source="random", dataset="random")
    steered = [strength for strength in questions.strengths if strength != 0]
    edit = edit_of(vector, [Condition((questions.layer,), strength) for strength in steered])
    conditions = [1 + steered.index(strength) if strength != 0 else 0 for strength in questions.strengths]
    sampling = Sampling(questions.max_new_tokens, tuple(questions.stop))
    timings: dict[str, float] = {}
    for suffix in ("_first", ""):
        started = time.perf_counter()
        made = dict(generate(params, config, prompts, sampling, edit, conditions=conditions))
        generated = time.perf_counter()
        scores = score(params, config, pairs, edit, conditions=conditions)
        timings |= {f"generate{suffix}": generated - started, f"score{suffix}": time.perf_counter() - generated}
    tokens = np.full((len(conditions), len(prompts), questions.max_new_tokens), -1, np.int32)
    for number, completions in made.items():
        for at, completion in enumerate(completions):
            tokens[at, number, : len(completion)] = completion
    return timings, {"tokens": tokens, "scores": scores}


def run_torch(batched: bool, folder: Path, questions: Questions) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    import peers

    model = peers.load(folder)
    prompts, pairs = as_arrays(questions)
    pushed = pushes(questions, model.config.hidden_size)
    at_once = peers.BATCH_PROMPTS if batched else 1
    score = peers.score_batched if batched else peers.score_one_by_one
    layer, stop = questions.layer, questions.stop
    peers.generate(model, prompts[:2], layer, pushed[:1], 2, stop, at_once)
    score(model, pairs[:2], layer, pushed[:1])
    started = time.perf_counter()
    tokens = peers.generate(model, prompts, layer, pushed, questions.max_new_tokens, stop, at_once)
    generated = time.perf_counter()
    scores = score(model, pairs, layer, pushed)
    timings = {"generate": generated - started, "score": time.perf_counter() - generated}
    return timings, {"tokens": tokens, "scores": scores}


def run_contender(contender: str, questions: Questions) -> int:
    """In a process of its own: timings and peak memory as a line of JSON, answers as a file at --out."""
    folder = Path(CHECKPOINT.value)
    if contender == "jtrace":
        timings, found = run_jtrace(folder, questions)
    else:
        timings, found = run_torch(contender == "batched", folder, questions)
    np.savez(OUT.value, tokens=found["tokens"], scores=found["scores"])
    timings["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(timings))
    return 0


def measure(contender: str, questions: Path, arrays: Path) -> dict[str, float]:
    command = [sys.executable, __file__, f"--contender={contender}", f"--questions={questions}", f"--out={arrays}"]
    command += [f"--checkpoint={CHECKPOINT.value}", f"--statements={STATEMENTS.value}"]
    # The peers run on the CPU, whatever there is beside it.
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise InputError(f"the contender '{contender}' failed: {(done.stderr.strip() or 'killed').splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> int:
    if CONTENDER.value:
        return run_contender(CONTENDER.value, Questions(**json.loads(Path(QUESTIONS.value or "").read_text())))
    questions = prepare()
    rounds: dict[str, list[dict[str, float]]] = {contender: [] for contender in CONTENDERS}
    answers: dict[str, dict[str, np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "questions.json"
        asked.write_text(json.dumps(dataclasses.asdict(questions)))
        for number in range(ROUNDS.value):
            for contender in CONTENDERS:
                path = Path(folder) / f"{contender}.npz"
                rounds[contender].append(measure(contender, asked, path))
                answers[contender] = dict(np.load(path))
                times = "  ".join(f"{key} {value:.2f}" for key, value in rounds[contender][-1].items())
                print(f"round {number + 1}/{ROUNDS.value}  {contender:10}{times}", flush=True)
    report = summarise(questions, rounds, answers)
    with written_whole(Path(OUT.value)) as aside:
        aside.write_text(json.dumps(report, indent=2) + "\n")
    print_report(report)
    if not report["agreement"]["likelier_by"] <= NEAR_TIE:
        raise InputError(f"completions part from the published loop's by more than {NEAR_TIE:.0e} nats: a fault")
    return 0


def summarise(
    questions: Questions, rounds: dict[str, list[dict[str, float]]], answers: dict[str, dict[str, np.ndarray]]
) -> dict[str, Any]:
    medians = {
        contender: {key: float(np.median([times[key] for times in runs])) for key in runs[0]}
        for contender, runs in rounds.items()
    }
    rates = {
        contender: {
            "tokens": int((answers[contender]["tokens"] >= 0).sum()) / times["generate"],
            "continuations": answers[contender]["scores"].size / times["score"],
        }
        for contender, times in medians.items()
    }
    ratios = {
        f"{stage}_{peer}": medians[peer][stage] / medians["jtrace"][stage]
        for peer in CONTENDERS[1:]
        for stage in STAGES
    }
    ours = answers["jtrace"]
    agreement: dict[str, float] = {"completions": ours["tokens"][..., 0].size}
    for peer in CONTENDERS[1:]:
        theirs = answers[peer]
        agreement[f"differ_{peer}"] = int((ours["tokens"] != theirs["tokens"]).any(axis=-1).sum())
        agreement[f"scores_{peer}"] = float(np.abs(ours["scores"] / theirs["scores"] - 1).max())
    agreement["likelier_by"] = likelier_by(questions, ours["tokens"], answers["published"]["tokens"])
    asked = {key: getattr(questions, key) for key in ("strengths", "layer", "max_new_tokens")}
    asked |= {"prompts": len(questions.prompts), "pairs": len(questions.pairs)}
    measured = {"rounds": rounds, "medians": medians, "per_second": rates, "ratios": ratios}
    return {"asked": asked, **measured, "agreement": agreement}


def likelier_by(questions: Questions, ours: np.ndarray, theirs: np.ndarray) -> float:
    """How much likelier torch holds its own token to be where completions part, nats, at most; 0 where none does."""
    parted = np.argwhere((ours != theirs).any(axis=-1))
    if not len(parted):
        return 0.0
    import peers

    model, (prompts, _) = peers.load(Path(CHECKPOINT.value)), as_arrays(questions)
    pushed = pushes(questions, model.config.hidden_size)
    gaps = []
    for at, number in parted:
        one, other = theirs[at, number], ours[at, number]
        stop = int(np.argmax(one != other)) + 1
        pairs = [(prompts[number], one[:stop]), (prompts[number], other[:stop])]
        (found,) = peers.score_one_by_one(model, pairs, questions.layer, pushed[at : at + 1])
        gaps.append(float(found[0] - found[1]))
    return max(gaps)


def print_report(report: dict[str, Any]) -> None:
    print(f"\n{'seconds, median (min–max)':28}{'generate':>24}{'tokens/s':>12}", end="")
    print(f"{'score':>24}{'continuations/s':>18}{'peak memory':>16}")
    for contender, medians in report["medians"].items():
        line = f"{contender:28}"
        for (stage, unit), width in zip(STAGES.items(), (12, 18), strict=True):
            values = [times[stage] for times in report["rounds"][contender]]
            line += f"{f'{medians[stage]:.1f} ({min(values):.1f}–{max(values):.1f})':>24}"
            line += f"{report['per_second'][contender][unit]:>{width},.1f}"
        print(f"{line}{medians['peak_gib']:>12.2f} GiB")
    ratios, first, agreement = report["ratios"], report["medians"]["jtrace"], report["agreement"]
    print(f"\njtrace generates {ratios['generate_published']:.1f} × as fast as the published loop, ", end="")
    print(f"{ratios['generate_batched']:.2f} × as fast as torch in batches;")
    print(f"it scores {ratios['score_published']:.1f} × and {ratios['score_batched']:.2f} × as fast.")
    print(f"Its first calls, which compile, take {first['generate_first']:.1f} s and {first['score_first']:.1f} s.")
    print(
        f"\nOf {agreement['completions']} completions {agreement['differ_published']} differ from published", end=", "
    )
    print(f"{agreement['differ_batched']} from batched; where they part, published holds its own token to be")
    print(f"{agreement['likelier_by']:.1e} nats likelier at most. Log-likelihoods differ from published by ", end="")
    print(f"{agreement['scores_published']:.1e}, from batched by {agreement['scores_batched']:.1e} (largest, relative)")


if __name__ == "__main__":
    cli.run(main)
