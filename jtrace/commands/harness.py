"""lm-eval with jtrace's decoder among its models.

    jtrace harness run --model jtrace --tasks arc_easy --limit 100 --model_args \\
        checkpoint=runs/models/smollm2,vector=runs/both/vectors/smollm2.safetensors,vector_set=stereoset,layer=15,strength=2

All words are those of the command `lm-eval`, which is run in this process once the model `jtrace` is known to it:
jtrace harness run --help, and jtrace harness ls tasks. Needs the extra lm-eval.
"""

import sys
from collections.abc import Sequence
from importlib import import_module

from absl import flags

from jtrace.commands import cli
from jtrace.errors import InputError

FLAGS = flags.FlagValues()


def main(words: Sequence[str]) -> int:
    cli.check_device()
    try:
        import_module("jtrace.api.lm_eval_model")
        from lm_eval.__main__ import cli_evaluate
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lm_eval":
            raise
        raise InputError(
            "lm-eval is not installed; install jtrace with its extra: pip install 'jtrace[lm-eval]'"
        ) from None
    sys.argv = ["lm-eval", *words]
    cli_evaluate()
    return 0
