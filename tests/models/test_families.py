"""Configs: what a field means where it is absent is what transformers takes it for."""

import pytest
from transformers import AutoConfig

from jtrace.models.families import FAMILIES, read_model_config
from tests.goldens.variants import COVERING, VARIANTS

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


# What transformers 4 wrote into every config.json, of a model that generates in some way of its own.
GENERATION = {
    "max_length": 4096,
    "min_length": 1,
    "do_sample": True,
    "early_stopping": True,
    "num_beams": 2,
    "num_beam_groups": 2,
    "diversity_penalty": 0.1,
    "temperature": 0.6,
    "top_k": 5,
    "top_p": 0.9,
    "typical_p": 0.9,
    "repetition_penalty": 1.1,
    "length_penalty": 0.9,
    "no_repeat_ngram_size": 3,
    "encoder_no_repeat_ngram_size": 3,
    "bad_words_ids": [[1]],
    "num_return_sequences": 2,
    "output_scores": True,
    "return_dict_in_generate": True,
    "forced_bos_token_id": 1,
    "forced_eos_token_id": 2,
    "remove_invalid_values": True,
    "exponential_decay_length_penalty": [5, 1.1],
    "suppress_tokens": [3],
    "begin_suppress_tokens": [3],
    "finetuning_task": "chat",
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "prefix": "once",
    "sep_token_id": 4,
    "decoder_start_token_id": 1,
    "tf_legacy_loss": False,
}


@pytest.mark.parametrize("model_type", FAMILIES)
def test_how_to_generate_says_nothing_of_the_forward(model_type):
    values = SIZES | {"model_type": model_type}
    assert read_model_config(values | GENERATION, "dumped")[0] == read_model_config(values, "plain")[0]


def test_a_variant_of_every_family_is_tested_by_default():
    assert {name.split("-")[0] for name in COVERING} == {values["model_type"] for values in VARIANTS.values()}
    assert set(COVERING) <= VARIANTS.keys()
