"""The type of a model family: a function that reads its config, and the names of its weights."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from jtrace.models.config import Activation, DecoderConfig
from jtrace.models.families.config_reader import Fields

# Hugging Face's activation name → jtrace's.
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
    """One of `count` params that a file keeps in one tensor, by head: its rows are [heads, count, head_dim].

    So does GPT-NeoX; a tensor of whole q, k and v blocks, one below the other, is another layout.
    """

    index: int
    count: int


@dataclass(frozen=True)
class Family:
    """One Hugging Face model type.

    Attributes:
        read_config: fields of a config.json → DecoderConfig.
        names: param path ("blocks/attention/q/weight") → tensor name, `{}` standing for the layer. May name more params
            than a config has.
        parts: param path → the part of its tensor that it is, where files fuse several params.
        aliases: other names that files use → the name in the table.
        ignored: tensors that old files carry and the forward does not need.
    """

    read_config: Callable[[Fields], DecoderConfig]
    names: Mapping[str, str]
    parts: Mapping[str, Part] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    ignored: re.Pattern[str] = re.compile(r".*\.rotary_emb\.inv_freq|.*\.attention\.(bias|masked_bias)")

    @property
    def block_module(self) -> str:
        """The path of a block among Hugging Face's modules, `{}` standing for the layer: `model.layers.{}`."""
        before, layer, _ = self.names["blocks/attention/o/weight"].partition("{}")
        return before + layer
