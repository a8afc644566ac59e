"""OLMo 3 (arXiv 2512.13961): OLMo 2's block; three of four layers have a window, only the others stretch positions."""

from jtrace.models.config import DecoderConfig, LayerKind
from jtrace.models.families import olmo2
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import Family
from jtrace.models.families.layer_config import LAYER_TYPES, read_ropes_by_layer_type, read_windows

THETA = 500_000.0


def read_config(fields: Fields) -> DecoderConfig:
    depth = fields.size("num_hidden_layers")
    window = fields.size_or_none("sliding_window", 4096)
    windows = read_windows(fields, window, [(i + 1) % 4 != 0 for i in range(depth)])
    ropes = read_ropes_by_layer_type(fields, THETA)
    layers = tuple(LayerKind(ropes[LAYER_TYPES[window is None]], window) for window in windows)
    return olmo2.olmo2_config(fields, layers)


FAMILY = Family(read_config, olmo2.NAMES)
