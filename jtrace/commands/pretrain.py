"""Pre-train a Llama-style decoder, or go on from a checkpoint, and keep a checkpoint of every step you name.

    jtrace pretrain --text=corpus.txt --preset=tiny --steps=1000 --keep=log,0-1000/100 --out=runs/mine
    jtrace pretrain --text=chats.jsonl --init_from=runs/mine@1000 --steps=200 --out=runs/mine-chat
    jtrace trace --checkpoints=runs/mine --statements=mine.csv --out=runs/mine-traced

A .txt file holds one document per line; a .jsonl file one object per line, `text`, or `messages` with `role` and
`content`, of which what the assistant says is learnt. hub:org/name is a dataset of the hub; options follow as
:config=NAME, :split=NAME (train), :column=NAME (text, or messages) and :limit=COUNT. The text is tokenised once, into
OUT/tokens; a tokeniser is trained on its first 200 million characters. Every kept step is a folder OUT/step000200 that
can be traced, converted to Hugging Face's form (jtrace convert), or trained on. The same command goes on after a
kill, and ends with the params of an uninterrupted run.

log.jsonl in OUT has a line per step: loss and validation_loss (nats per token), learning_rate, grad_norm, tokens.
"""

from pathlib import Path

from absl import flags

from jtrace.checkpoints.load import read_config_json
from jtrace.checkpoints.refs import HubSource, parse_one
from jtrace.commands import cli
from jtrace.commands.flags import parse_keep
from jtrace.data.corpus.readers import read_documents
from jtrace.errors import InputError
from jtrace.hub.client import hub_in
from jtrace.models.families import read_model_config
from jtrace.models.presets import PRESETS, find_preset
from jtrace.pretraining.run import PretrainConfig, pretrain
from jtrace.pretraining.step import Optimisation
from jtrace.runtime.devices import computing_dtype

FLAGS = flags.FlagValues()
TEXT = flags.DEFINE_multi_string(
    "text",
    None,
    "What to learn: .txt and .jsonl files, folders or globs of them, hub:org/name, world; several with commas, or "
    "the flag repeated.",
    required=True,
    flag_values=FLAGS,
)
OUT = flags.DEFINE_string("out", None, "Run directory: new, empty, or this run's.", required=True, flag_values=FLAGS)
STEPS = flags.DEFINE_integer("steps", None, "Updates of the whole training.", required=True, flag_values=FLAGS)
PRESET = flags.DEFINE_string("preset", None, f"Size of a new model: {', '.join(PRESETS)}.", flag_values=FLAGS)
INIT_FROM = flags.DEFINE_string(
    "init_from",
    None,
    "Go on from a checkpoint instead: a folder, RUN@STEP, or a hub revision (org/name@revision).",
    flag_values=FLAGS,
)
KEEP = flags.DEFINE_string(
    "keep",
    "log",
    "Steps to keep: log (0 and the powers of two), numbers, ranges A-B or A-B/S; the last always is.",
    flag_values=FLAGS,
)
TOKENIZER = flags.DEFINE_string(
    "tokenizer",
    None,
    "Folder of the tokeniser; by default one is trained on the text, or the checkpoint's is taken.",
    flag_values=FLAGS,
)
VOCAB_SIZE = flags.DEFINE_integer(
    "vocab_size", None, "Tokens of a tokeniser that is trained; default by preset.", flag_values=FLAGS
)
CONTEXT = flags.DEFINE_integer(
    "context", None, "Tokens of a row; default by preset, or the checkpoint's context.", flag_values=FLAGS
)
ROWS = flags.DEFINE_integer(
    "rows", None, "Rows of a step; default by preset, or 32 from a checkpoint.", flag_values=FLAGS
)
LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", None, "The peak; default by preset, or 2e-4 from a checkpoint.", flag_values=FLAGS
)
WARMUP = flags.DEFINE_integer(
    "warmup", None, "Steps of linear warm-up; by default 2 % of all, 100 at least.", flag_values=FLAGS
)
FINAL_FRACTION = flags.DEFINE_float(
    "final_fraction", 0.1, "Of the peak learning rate, at the end of the cosine.", flag_values=FLAGS
)
BETA1 = flags.DEFINE_float("beta1", 0.9, "AdamW's decay of the mean gradient.", flag_values=FLAGS)
BETA2 = flags.DEFINE_float("beta2", 0.95, "AdamW's decay of the mean squared gradient.", flag_values=FLAGS)
WEIGHT_DECAY = flags.DEFINE_float(
    "weight_decay", 0.1, "AdamW's; not on norms, biases and the embedding.", flag_values=FLAGS
)
CLIP = flags.DEFINE_float("clip", 1.0, "Largest global norm of the gradient.", flag_values=FLAGS)
DTYPE = flags.DEFINE_enum(
    "dtype",
    "auto",
    ["auto", "float32", "bfloat16"],
    "Type of the forward; auto is bfloat16 on GPU and TPU, float32 on CPU. Params and moments are float32 always.",
    flag_values=FLAGS,
)
SEED = flags.DEFINE_integer(
    "seed", 0, "Of the first params, the order of rows, and the held-out documents.", lower_bound=0, flag_values=FLAGS
)
SAVE_EVERY = flags.DEFINE_integer(
    "save_every", 500, "Steps between states that a killed run goes on from.", flag_values=FLAGS
)
VALIDATE_EVERY = flags.DEFINE_integer(
    "validate_every", 100, "Steps between validation losses; kept steps have one too.", flag_values=FLAGS
)
DEVICE_ROWS = flags.DEFINE_integer(
    "device_rows", None, "Rows that a device computes at once; default by preset, or 8.", flag_values=FLAGS
)
REMAT = flags.DEFINE_boolean(
    "remat",
    None,
    "Compute blocks again for their gradient, to save memory; by default for 160m, 1b and checkpoints.",
    flag_values=FLAGS,
)
CACHE_DIR = flags.DEFINE_string(
    "cache_dir",
    None,
    "Where downloads are kept, laid out as HF_HOME; by default Hugging Face's own.",
    flag_values=FLAGS,
)


def main() -> int:
    cli.check_device()
    if (PRESET.value is None) == (INIT_FROM.value is None):
        raise InputError(f"give either --preset ({', '.join(PRESETS)}), for a new model, or --init_from")
    preset = find_preset(PRESET.value) if PRESET.value else None
    init_from = _checkpoint(INIT_FROM.value) if INIT_FROM.value else None
    if preset:
        context, rows, rate, device_rows, remat = (
            preset.context,
            preset.rows,
            preset.learning_rate,
            preset.device_rows,
            preset.remat,
        )
    else:
        assert init_from is not None
        architecture, _ = read_model_config(read_config_json(init_from), str(init_from / "config.json"))
        context, rows, rate, device_rows, remat = architecture.context, 32, 2e-4, 8, True
    steps = STEPS.value
    if steps < 1:
        raise InputError(f"--steps={steps}: a number above 0 is needed")
    dtype = computing_dtype(DTYPE.value)
    config = PretrainConfig(
        Optimisation(
            steps=steps,
            learning_rate=rate if LEARNING_RATE.value is None else LEARNING_RATE.value,
            warmup=min(steps, max(100, steps // 50)) if WARMUP.value is None else WARMUP.value,
            final_fraction=FINAL_FRACTION.value,
            beta1=BETA1.value,
            beta2=BETA2.value,
            weight_decay=WEIGHT_DECAY.value,
            clip=CLIP.value,
        ),
        keep=parse_keep(KEEP.value, steps),
        context=context if CONTEXT.value is None else CONTEXT.value,
        rows=rows if ROWS.value is None else ROWS.value,
        preset=PRESET.value,
        init_from=init_from,
        tokenizer=Path(TOKENIZER.value) if TOKENIZER.value else None,
        vocab_size=VOCAB_SIZE.value,
        dtype=dtype,
        seed=SEED.value,
        validate_every=VALIDATE_EVERY.value,
        save_every=SAVE_EVERY.value,
        device_rows=device_rows if DEVICE_ROWS.value is None else DEVICE_ROWS.value,
        remat=remat if REMAT.value is None else REMAT.value,
    )
    out = Path(OUT.value)
    pretrain(out, read_documents([spec for text in TEXT.value for spec in text.split(",")], _cache_dir()), config)
    print(f"kept {len(config.keep)} steps in {out}; trace them with --checkpoints={out}")
    return 0


def _cache_dir() -> Path | None:
    return Path(CACHE_DIR.value) if CACHE_DIR.value else None


def _checkpoint(spec: str) -> Path:
    """The folder that --init_from names, downloaded if need be."""
    hub = hub_in(CACHE_DIR.value)
    source = parse_one(spec, hub.revisions, "--init_from").source
    if isinstance(source, HubSource):
        return hub.fetch(hub.look(source.repo, source.revision), progress=str(source))
    return source
