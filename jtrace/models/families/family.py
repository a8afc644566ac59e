"""What a model family is: a way to read its config, and the names of its weights."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from jtrace.models.config import Activation, DecoderConfig
from jtrace.models.families.config_reader import Fields

# Hugging Face's activation names and ours.
ACTIVATION_NAMES: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


@dataclass(frozen=True)
class Part:
    """One of the `of` params that a file keeps in one tensor, head by head: its rows are [heads, of, head_dim]."""

    index: int
    of: int


@dataclass(frozen=True)
class Family:
    """One Hugging Face model type.

    Attributes:
        read_config: fields of a config.json → DecoderConfig.
        names: param path ("blocks/attention/q/weight") → tensor name, `{}` standing for the layer. May name more params
            than a config has.
        parts: param path → which part of its tensor, where files fuse several params.
        aliases: other names that files use → the name in the table.
        ignored: tensors that old files carry and the forward does not need.
    """

    read_config: Callable[[Fields], DecoderConfig]
    names: Mapping[str, str]
    parts: Mapping[str, Part] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    ignored: re.Pattern[str] = re.compile(r".*\.rotary_emb\.inv_freq|.*\.attention\.(bias|masked_bias)")
