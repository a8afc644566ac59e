"""Convert a checkpoint, or steering vectors for other tools.

    jtrace convert --checkpoint=runs/models/smollm2 --to=orbax --out=runs/models/smollm2-orbax
    jtrace convert --checkpoint=runs/models/smollm2-orbax --to=hf --out=runs/models/smollm2-back
    jtrace convert --vectors=runs/both/vectors/smollm2.safetensors --vector_set=stereoset --layers=1-29 \\
        --to=gguf --out=stereoset.gguf

A checkpoint: Hugging Face folder or hub revision → Orbax Flax params, and back. Takes about as long as reading and
writing the files once. Either form can be traced; the second folder loads in transformers, with identical logits.
--dtype converts on the way. The same command again finds its work done, and says so.

Vectors: the vector of one set, in the format of another tool: gguf (llama.cpp, repeng), lm-eval (--model steered),
safetensors and npz (an array for each layer). jtrace steer --vectors reads all of them.
"""

from pathlib import Path
from typing import cast

from absl import flags

from jtrace.checkpoints.export import convert_folder, is_converted
from jtrace.checkpoints.refs import HubSource, parse_one
from jtrace.commands import cli
from jtrace.commands.flags import parse_layers, parse_vector_layers
from jtrace.errors import InputError
from jtrace.hub.client import hub_in
from jtrace.probing.vector_export import vector_content, write_vector
from jtrace.probing.vector_formats import FORMATS, format_to_write
from jtrace.runtime.small_files import read_small
from jtrace.steering.chosen_vector import chosen_vector
from jtrace.steering.target_vectors import SCALES, Scale, VectorChoice
from jtrace.steering.vector import layer_ranges

OF_CHECKPOINTS = ("orbax", "hf")

FLAGS = flags.FlagValues()
CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    None,
    "A Hugging Face folder, an Orbax checkpoint, or a hub revision (org/name@revision).",
    flag_values=FLAGS,
)
VECTORS = flags.DEFINE_string(
    "vectors", None, "Instead of a checkpoint, a file of steering vectors: of RUN/vectors, or any.", flag_values=FLAGS
)
OUT = flags.DEFINE_string(
    "out", None, "What to write: a new or empty folder, or a new file of vectors.", required=True, flag_values=FLAGS
)
TO = flags.DEFINE_enum(
    "to",
    None,
    [*OF_CHECKPOINTS, *FORMATS],
    "Of a checkpoint: orbax (Flax params, the default) or hf (a Hugging Face folder). Of vectors: "
    f"{', '.join(FORMATS)}; by default what the suffix of --out says.",
    flag_values=FLAGS,
)
DTYPE = flags.DEFINE_enum(
    "dtype",
    "auto",
    ["auto", "float32", "float16", "bfloat16"],
    "Type of a checkpoint to write; auto as stored, or float32 where tensors differ. Vectors are float32.",
    flag_values=FLAGS,
)
VECTOR_SET = flags.DEFINE_string(
    "vector_set",
    None,
    "Whose vector: a statement set, or a sum as stereoset+-0.5*toxigen. May be left out where the file holds one.",
    flag_values=FLAGS,
)
LAYERS = flags.DEFINE_string(
    "layers",
    "all",
    "Layers of the vector: all, or numbers and ranges as 1-29. Most tools add the vector of every layer of the file.",
    flag_values=FLAGS,
)
STRENGTH = flags.DEFINE_float(
    "strength",
    1.0,
    "What the vector is multiplied by: strength times it is written. In lm-eval's file it is the coefficient.",
    flag_values=FLAGS,
)
VECTOR_SCALE = flags.DEFINE_enum(
    "vector_scale", "std", SCALES, "What strength 1 adds, as in jtrace steer: std, or plain.", flag_values=FLAGS
)
VECTOR_LAYERS = flags.DEFINE_string(
    "vector_layers",
    "",
    "Which layers the rows of --vectors are of, where the file does not say, as in jtrace steer.",
    flag_values=FLAGS,
)
CACHE_DIR = flags.DEFINE_string(
    "cache_dir",
    None,
    "Where downloads are kept, laid out as HF_HOME; by default Hugging Face's own.",
    flag_values=FLAGS,
)


def main() -> int:
    if bool(CHECKPOINT.value) == bool(VECTORS.value):
        raise InputError("give one of --checkpoint=… and --vectors=…; see --help")
    return _convert_vectors(VECTORS.value) if VECTORS.value else _convert_checkpoint(CHECKPOINT.value or "")


def _convert_checkpoint(spec: str) -> int:
    to = TO.value or OF_CHECKPOINTS[0]
    if to not in OF_CHECKPOINTS:
        raise InputError(f"--to={to} is for --vectors; a checkpoint becomes {' or '.join(OF_CHECKPOINTS)}")
    cli.check_device()
    hub = hub_in(CACHE_DIR.value)
    source, out = parse_one(spec, hub.revisions, "--checkpoint").source, Path(OUT.value)
    if isinstance(source, HubSource):
        source = hub.fetch(hub.look(source.repo, source.revision), progress=str(source))
    if is_converted(source, out, to, DTYPE.value):
        print(f"{out} holds it already ({to})")
        return 0
    dtype = convert_folder(source, out, to, DTYPE.value)
    print(f"wrote {out} ({to}, {dtype.name})")
    return 0


def _convert_vectors(spec: str) -> int:
    out, to = Path(OUT.value), TO.value
    if to in OF_CHECKPOINTS:
        raise InputError(f"--to={to} is for --checkpoint; vectors become {', '.join(FORMATS)}")
    format_to_write(out, to)
    sets = (VECTOR_SET.value,) if VECTOR_SET.value else ()
    rows, scale = parse_vector_layers(VECTOR_LAYERS.value), cast(Scale, VECTOR_SCALE.value)
    choice = VectorChoice((spec,), sets, layers=rows, scale=scale)
    files = choice.read()
    if len(files) != 1:
        raise InputError(f"--vectors={spec} names {len(files)} files; name one")
    ((path, held),) = files
    (expression,) = choice.sets_of(files, ())
    vector = chosen_vector(held, path, expression, parse_layers(LAYERS.value))
    if out.exists():
        _check_same(out, vector_content(out, vector, to, STRENGTH.value))
        print(f"{out} holds it already")
        return 0
    write_vector(out, vector, to, STRENGTH.value)
    print(f"wrote {out} ({STRENGTH.value:g} times {expression}, layers {layer_ranges(vector.layers)})")
    return 0


def _check_same(path: Path, content: bytes) -> None:
    """Raises InputError unless a file has this very content."""
    if not path.is_file() or path.stat().st_size != len(content) or read_small(path, len(content)) != content:
        raise InputError(f"{path}: exists already; name a new file")
