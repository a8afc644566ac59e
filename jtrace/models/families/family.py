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


def weights_and_biases(tensors: Mapping[str, str]) -> dict[str, str]:
    """Names the weight and the bias of every param, of names without their last part."""
    return {f"{param}/{leaf}": f"{tensor}.{leaf}" for leaf in ("weight", "bias") for param, tensor in tensors.items()}


@dataclass(frozen=True)
class Family:
    """One Hugging Face model type.

    Attributes:
        read_config: fields of a config.json → DecoderConfig.
        names: param path ("blocks/attention/q/weight") → tensor name, `{}` standing for the layer, and a second one for
            the expert. May name more params than a config has. Params of one name lie in one tensor, one below the
            other in this order.
        fused_by_head: params of one tensor are fused head by head instead: its rows are [heads, params, head_dim].
        transposed: tensors that files keep as [in, out].
        prefix: the names' first part, which files of a model without its head leave out.
        aliases: other names that files use → the name in the table.
        ignored: tensors that old files carry and the forward does not need.
    """

    read_config: Callable[[Fields], DecoderConfig]
    names: Mapping[str, str]
    fused_by_head: bool = False
    transposed: re.Pattern[str] | None = None
    prefix: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict)
    ignored: re.Pattern[str] = re.compile(r".*\.rotary_emb\.inv_freq|.*\.attention\.(bias|masked_bias)")

    @property
    def block_module(self) -> str:
        """The path of a block among Hugging Face's modules, `{}` standing for the layer: `model.layers.{}`."""
        before, layer, _ = self.names["blocks/attention/o/weight"].partition("{}")
        return before + layer
