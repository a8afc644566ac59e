"""Configs: what a field means where it is absent is what transformers takes it for."""

import pytest
from transformers import AutoConfig

from jtrace.errors import InputError
from jtrace.models.families import FAMILIES, read_model_config
from tests.goldens.variants import COVERING, VARIANTS

TRANSFORMERS = [name for name in FAMILIES if name != "hf_olmo"]  # which it has no model of
SIZES = {
    "vocab_size": 500,
    "hidden_size": 256,
    "intermediate_size": 300,
    "num_hidden_layers": 30,
    "num_attention_heads": 32,
    "max_position_embeddings": 1024,
}


def sizes(model_type):
    """The least that says how large a model is; these three know no MLP's width by Llama's name."""
    without = {"intermediate_size"} if model_type in ("gpt2", "opt", "bloom") else set()
    return {name: value for name, value in SIZES.items() if name not in without} | {"model_type": model_type}


@pytest.mark.parametrize("model_type", TRANSFORMERS)
def test_absent_fields_mean_what_transformers_takes_them_for(model_type):
    values = sizes(model_type)
    written_out = AutoConfig.for_model(**values).to_dict()
    assert len(written_out) > len(values)
    assert read_model_config(values, "absent")[0] == read_model_config(written_out, "written out")[0]


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3", "smollm3"])
def test_a_window_that_is_asked_for_lies_where_transformers_puts_it(model_type):
    values = SIZES | {"model_type": model_type, "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 9}
    layer_types = AutoConfig.for_model(**values).layer_types
    config, _ = read_model_config(values, "asked for")
    assert [layer.window for layer in config.layers] == [7 if "sliding" in kind else None for kind in layer_types]


def test_qwen_3_s_mixtures_have_their_window_on_every_layer():
    values = sizes("qwen3_moe") | {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 9}
    assert {layer.window for layer in read_model_config(values, "asked for")[0].layers} == {7}


def test_gpt_2_s_attention_may_be_scaled_layer_by_layer():
    config, _ = read_model_config(sizes("gpt2") | {"scale_attn_by_inverse_layer_idx": True}, "asked for")
    assert [layer.scale for layer in config.layers[:3]] == [8**-0.5 / layer for layer in (1, 2, 3)]


@pytest.mark.parametrize(
    ("model_type", "more"),
    [
        ("apertus", {"qk_norm": True, "post_norm": False, "hidden_dropout": 0.0}),
        ("gpt2", {"n_special": 0, "predict_special_tokens": True, "output_past": True, "_num_labels": 1}),
        ("gemma2", {"sliding_window_size": 4096, "_attn_implementation": "eager"}),
    ],
)
def test_what_released_files_say_beside_it_changes_nothing(model_type, more):
    values = sizes(model_type)
    assert read_model_config(values | more, "released")[0] == read_model_config(values, "plain")[0]


@pytest.mark.parametrize(
    ("model_type", "change", "cause"),
    [
        ("apertus", {"post_norm": True}, "qk_norm false or post_norm true is not implemented"),
        ("gpt2", {"n_head": 5}, "'n_head' and 'num_attention_heads' differ"),
        ("gpt2", {"num_attention_heads": 5}, "256 is not a multiple of n_head 5"),
        ("gpt2", {"add_cross_attention": True}, "'add_cross_attention' = True is not implemented"),
        ("opt", {"do_layer_norm_before": False}, "'do_layer_norm_before' = False is not implemented"),
        ("opt", {"word_embed_proj_dim": 128}, "embeddings of another width (word_embed_proj_dim)"),
        ("bloom", {"apply_residual_connection_post_layernorm": True}, "post_layernorm' = True is not implemented"),
        ("gemma2", {"use_bidirectional_attention": True}, "'use_bidirectional_attention' = True is not implemented"),
        ("gemma2", {"attn_logit_softcapping": -1.0}, "'attn_logit_softcapping' is -1.0; a positive number is needed"),
        ("phi3", {"rope_scaling": {"type": "yarn", "factor": 2.0}}, "'yarn' is not implemented for this model type"),
        ("phi3", {"rope_scaling": {"type": "longrope"}}, "rope type 'longrope' is not implemented"),
        ("stablelm", {"qk_layernorm": True}, "'qk_layernorm' = True is not implemented"),
        ("olmoe", {"num_experts_per_tok": 65}, "num_experts_per_tok 65 is more than the 64 experts"),
        ("olmoe", {"shared_expert_intermediate_size": 64}, "'shared_expert_intermediate_size' = 64 is not implemented"),
        ("qwen3_moe", {"mlp_only_layers": [0]}, "'mlp_only_layers' = [0] is not implemented"),
        ("qwen3_moe", {"decoder_sparse_step": 2}, "'decoder_sparse_step' = 2 is not implemented"),
    ],
)
def test_what_a_family_s_forward_does_not_do_here_is_refused_by_name(model_type, change, cause):
    with pytest.raises(InputError) as error:
        read_model_config(sizes(model_type) | change, "config.json")
    assert cause in str(error.value)


HF_OLMO = VARIANTS["hf_olmo-full"]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"include_bias": True}, "biases of linear maps (include_bias"),
        ({"include_bias": None}, "biases of linear maps (include_bias, true where it is absent)"),
        ({"layer_norm_with_affine": True}, "norms of kind 'layer' with layer_norm_with_affine True"),
        ({"attention_layer_norm": True}, "attention_layer_norm is implemented with layer_norm_type 'rms' alone"),
        ({"activation_type": "gelu"}, "activation_type 'gelu' is not implemented"),
        ({"alibi": True}, "'alibi' = True is not implemented"),
        ({"norm_after": True}, "'norm_after' = True is not implemented"),
        ({"n_kv_heads": 3}, "n_heads 4 is not a multiple of n_kv_heads 3"),
        ({"n_heads": 5}, "d_model 24 does not give 5 heads of an even size"),
    ],
)
def test_what_olmo_s_first_files_may_ask_for_and_is_not_here_is_refused_by_name(change, cause):
    with pytest.raises(InputError) as error:
        read_model_config(HF_OLMO | change, "config.json")
    assert cause in str(error.value)


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


@pytest.mark.parametrize("model_type", TRANSFORMERS)
def test_how_to_generate_says_nothing_of_the_forward(model_type):
    values = sizes(model_type)
    assert read_model_config(values | GENERATION, "dumped")[0] == read_model_config(values, "plain")[0]


def test_a_variant_of_every_family_is_tested_by_default():
    assert {name.split("-")[0] for name in COVERING} == {values["model_type"] for values in VARIANTS.values()}
    assert set(COVERING) <= VARIANTS.keys()
