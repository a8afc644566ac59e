"""The whole way, to a report: pre-train a small model, fine-tune it to chat, trace every kept step, steer, report.

    jtrace quickstart

Needs no network and no accelerator: the text is of an invented world whose truths and prejudices are known
(jtrace/data/world). Takes five to six minutes and 1.3 GB on two CPU cores, and ends with the address of the report:
whether, when and in which layers what is true and what is a prejudice come to be represented, beside what the bare
texts give away, and what vectors of early and late checkpoints do to the chat model. docs/pretraining.md says what was
found over seeds.

Every stage prints the command that it runs; these are the commands that real models are traced with. Stages that are
done are not done again, and a killed one goes on where it was.
"""

import shlex
import subprocess
import sys
import time
from pathlib import Path

from absl import flags

# A terminal or a scheduler stops stages as well; one that goes on for longer has not been told.
TOLD_SECONDS = 5
FLAGS = flags.FlagValues()
OUT = flags.DEFINE_string("out", "runs/quickstart", "Folder for everything that is made.", flag_values=FLAGS)
SEED = flags.DEFINE_integer(
    "seed", 0, "Of the world, the first params, and the order of the text.", lower_bound=0, flag_values=FLAGS
)
STEPS = flags.DEFINE_integer(
    "steps", 1800, "Updates of the pre-training; the fine-tuning has a 20th of them.", lower_bound=20, flag_values=FLAGS
)


def stages(out: Path, seed: int, steps: int) -> dict[str, list[str]]:
    """Stages in order: a heading, and a command with its flags."""
    tenth, chat_steps = steps // 10, steps // 20
    pretrain, chat, trace = (str(out / name) for name in ("pretrain", "chat", "trace"))
    sources = [f"pretrain@step{step:06d}" for step in (tenth, steps // 2, steps)] + [f"chat@step{chat_steps:06d}"]
    training = ["--rows=16", "--context=64", f"--seed={seed}", f"--save_every={tenth}", f"--validate_every={tenth}"]
    return {
        "Pre-train a model of 1 M parameters on text of the world": [
            "pretrain",
            f"--text=world:seed={seed}:documents={40 * steps}",
            "--preset=tiny",
            "--vocab_size=1280",
            f"--steps={steps}",
            "--learning_rate=1.5e-3",
            "--beta2=0.98",
            f"--keep=0,{tenth // 4},{tenth // 2},{tenth}-{steps}/{tenth}",
            *training,
            f"--out={pretrain}",
        ],
        "Fine-tune it on conversations": [
            "pretrain",
            f"--text=world-chat:seed={seed}:documents={2 * steps}",
            f"--init_from={pretrain}@{steps}",
            f"--steps={chat_steps}",
            "--learning_rate=3e-4",
            f"--warmup={chat_steps // 10}",
            f"--keep={chat_steps}",
            *training,
            f"--out={chat}",
        ],
        "Trace every kept step on five dimensions": [
            "trace",
            f"--checkpoints={pretrain};{chat}",
            f"--statements=world:seed={seed}",
            "--protocol=paper",
            f"--behaviour=world-reliability:seed={seed},world-fairness:seed={seed}",
            f"--out={trace}",
        ],
        "Steer the chat model with vectors of pre-training": [
            "steer",
            f"--target={chat}@{chat_steps}",
            f"--vectors={','.join(f'{trace}/vectors/{source}.safetensors' for source in sources)}",
            "--vector_set=world-reliability,world-fairness",
            f"--tasks=world-reliability:seed={seed},world-fairness:seed={seed},perplexity",
            f"--text=world:seed={seed}",
            "--layers=2",
            "--strengths=-4,-2,0,2,4",
            "--random=1",
            f"--out={trace}",
        ],
        "Report": ["report", f"--run={trace}"],
    }


def run_stage(command: list[str]) -> int:
    """The exit status of a stage. Where it is stopped together with this process, it alone says so."""
    with subprocess.Popen(command) as stage:
        try:
            return stage.wait()
        except KeyboardInterrupt:
            try:
                status = stage.wait(TOLD_SECONDS)
            except subprocess.TimeoutExpired:
                stage.terminate()
                status = stage.wait()
            if status < 0:  # it ended before it could say anything
                raise
            return status


def main() -> int:
    began, out = time.monotonic(), Path(OUT.value)
    for number, (heading, command) in enumerate(stages(out, SEED.value, STEPS.value).items(), 1):
        print(f"\n{number}. {heading}\n   jtrace {shlex.join(command)}\n", flush=True)
        # -P: what lies in the folder that it is called from is not imported.
        status = run_stage([sys.executable, "-P", "-m", "jtrace", *command])
        if status:
            return status
    report = out / "trace" / "report.html"
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    print(f"\nDone in {minutes} min {seconds} s. Open {report.absolute().as_uri()}")
    return 0
