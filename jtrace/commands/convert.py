"""Convert a checkpoint: Hugging Face folder or hub revision → Orbax Flax params, and back.

    python launch/convert.py --checkpoint=runs/models/smollm2 --to=orbax --out=runs/models/smollm2-orbax
    python launch/convert.py --checkpoint=runs/models/smollm2-orbax --to=hf --out=runs/models/smollm2-back

Takes about as long as reading and writing the files once. Either form can be traced; the second folder loads in
transformers, with identical logits. --dtype converts on the way.
"""

from pathlib import Path

from absl import flags

from jtrace.checkpoints.export import convert_folder
from jtrace.checkpoints.refs import HubSource
from jtrace.commands import cli
from jtrace.commands.flags import hub_of, parse_checkpoint

FLAGS = flags.FlagValues()
CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    None,
    "A Hugging Face folder, an Orbax checkpoint, or a hub revision (org/name@revision).",
    required=True,
    flag_values=FLAGS,
)
OUT = flags.DEFINE_string("out", None, "Folder to write: new or empty.", required=True, flag_values=FLAGS)
TO = flags.DEFINE_enum(
    "to", "orbax", ["orbax", "hf"], "What to write: Orbax Flax params, or a Hugging Face folder.", flag_values=FLAGS
)
DTYPE = flags.DEFINE_enum(
    "dtype",
    "auto",
    ["auto", "float32", "float16", "bfloat16"],
    "Type to write; auto as stored, or float32 where tensors differ.",
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
    hub = hub_of(CACHE_DIR.value)
    source, out = parse_checkpoint(CHECKPOINT.value, "--checkpoint", hub).source, Path(OUT.value)
    if isinstance(source, HubSource):
        source = hub.fetch(hub.look(source.repo, source.revision), progress=str(source))
    dtype = convert_folder(source, out, TO.value, DTYPE.value)
    print(f"wrote {out} ({TO.value}, {dtype.name})")
    return 0
