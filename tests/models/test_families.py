"""Configs: what a field means where it is absent is what transformers takes it for."""

import pytest
from transformers import AutoConfig

from jtrace.models.families import FAMILIES, read_model_config

SIZES = {
    "vocab_size": 500,
    "hidden_size": 256,
    "intermediate_size": 300,
    "num_hidden_layers": 30,
    "num_attention_heads": 32,
    "max_position_embeddings": 1024,
}


@pytest.mark.parametrize("model_type", FAMILIES)
def test_absent_fields_mean_what_transformers_takes_them_for(model_type):
    values = SIZES | {"model_type": model_type}
    written_out = AutoConfig.for_model(**values).to_dict()
    assert len(written_out) > len(values)
    assert read_model_config(values, "absent")[0] == read_model_config(written_out, "written out")[0]


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3", "smollm3"])
def test_a_window_that_is_asked_for_lies_where_transformers_puts_it(model_type):
    values = SIZES | {"model_type": model_type, "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 9}
    layer_types = AutoConfig.for_model(**values).layer_types
    config, _ = read_model_config(values, "asked for")
    assert [layer.window for layer in config.layers] == [7 if "sliding" in kind else None for kind in layer_types]
