"""Reading a Hugging Face `config.json` without overlooking a field."""

from collections.abc import Mapping, Sequence
from typing import Any

from jtrace.errors import InputError

# Settings of generation and of task heads: transformers 4 wrote these for every model (`PretrainedConfig`).
GENERATION = frozenset(
    {
        "bad_words_ids",
        "begin_suppress_tokens",
        "decoder_start_token_id",
        "diversity_penalty",
        "do_sample",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "exponential_decay_length_penalty",
        "finetuning_task",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "length_penalty",
        "max_length",
        "max_new_tokens",
        "min_length",
        "min_new_tokens",
        "no_repeat_ngram_size",
        "num_beam_groups",
        "num_beams",
        "num_return_sequences",
        "output_scores",
        "prefix",
        "remove_invalid_values",
        "repetition_penalty",
        "return_dict_in_generate",
        "sep_token_id",
        "suppress_tokens",
        "task_specific_params",
        "temperature",
        "tf_legacy_loss",
        "top_k",
        "top_p",
        "typical_p",
    }
)
# Fields that say nothing about the forward: provenance, training, tokens and serving.
INERT = frozenset(
    {
        "_attn_implementation",
        "_attn_implementation_autoset",
        "_commit_hash",
        "_flash_attn_2_enabled",
        "_name_or_path",
        "architectures",
        "attention_dropout",
        "auto_map",
        "bos_token_id",
        "chunk_size_feed_forward",
        "dtype",
        "eos_token_id",
        "id2label",
        "initializer_range",
        "is_llama_config",
        "keys_to_ignore_at_inference",
        "label2id",
        "max_sequence_length",
        "model_type",
        "name_or_path",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "pretraining_tp",
        "problem_type",
        "return_dict",
        "tokenizer_class",
        "torch_dtype",
        "transformers.js_config",
        "transformers_version",
        "unsloth_version",
        "use_cache",
    }
)
# Fields whose listed values change nothing; any other value asks for something that is not implemented.
HARMLESS_VALUES: dict[str, tuple[Any, ...]] = {
    "is_decoder": (False, True),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "rope_interleaved": (False,),
    "tie_encoder_decoder": (False,),
    "torchscript": (False,),
    "use_mrope": (False,),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "use_sliding_window": (False,),
    "partial_rotary_factor": (1.0,),
    "gradient_checkpointing": (False, True),
    "use_bfloat16": (False, True),
    "pruned_heads": ({},),
    "_remove_final_layer_norm": (False,),
    "alibi": (False,),
    "apply_residual_connection_post_layernorm": (False,),
    "block_type": ("sequential",),
    "decoder_sparse_step": (1,),
    "do_layer_norm_before": (True,),
    "embedding_layer_norm": (False,),
    "include_bias": (False,),
    "mlp_only_layers": ([],),
    "norm_after": (False,),
    "qk_layernorm": (False,),
    "rope": (True,),
    "scale_emb_init": (False,),
    "scale_logits": (False,),
    "use_bidirectional_attention": (False,),
}
# The most that a size may be: some eight times what the largest known models have, dense ones of half a trillion params
# among them, so that a damaged config is refused before anything of its size is made.
MOST = {
    "vocab_size": 1 << 23,  # XLM-V: 901,629
    "hidden_size": 1 << 17,  # Llama 3.1 405B: 16,384; Megatron-Turing: 20,480
    "intermediate_size": 1 << 20,  # Llama 3.1 405B: 53,248
    "num_hidden_layers": 1 << 12,  # DeepNet: 1,000
    "num_attention_heads": 1 << 11,  # Llama 3.1 405B: 128
    "num_key_value_heads": 1 << 11,
    "head_dim": 1 << 12,  # 512
    "max_position_embeddings": 1 << 27,  # Llama 4 Scout: 10,485,760
    "num_experts": 1 << 14,  # 512
    "num_local_experts": 1 << 14,
    "num_labels": 1 << 16,  # of a classifier
    "type_vocab_size": 1 << 16,
}
# Other names of the same sizes.
MOST |= {
    name: MOST[usual]
    for usual, names in {
        "hidden_size": ("n_embd", "n_embed", "d_model", "word_embed_proj_dim"),
        "intermediate_size": ("n_inner", "ffn_dim", "mlp_hidden_size", "moe_intermediate_size"),
        "num_hidden_layers": ("n_layer", "n_layers"),
        "num_attention_heads": ("n_head", "n_heads"),
        "num_key_value_heads": ("n_kv_heads",),
        "max_position_embeddings": ("n_positions", "seq_length", "max_sequence_length"),
        "vocab_size": ("embedding_size",),
        "num_experts": ("num_experts_per_tok",),
    }.items()
    for name in names
}
MOST["mlp_ratio"] = 1 << 8  # 4
MOST_OF_ANY_SIZE = 1 << 30
# A rotary base is 1e11 at most, and an epsilon 1e-12 at least; float32 goes from 1e-38 to 3e38.
SMALLEST_NUMBER, LARGEST_NUMBER = 1e-30, 1e30
_REQUIRED = object()


class Fields:
    """A config dict that remembers what was read, so that `finish` can refuse the rest by name.

    Args:
        values: the parsed config.json.
        where: its path, for error messages.
    """

    def __init__(self, values: dict[str, Any], where: str) -> None:
        self._values, self.where, self._read = values, where, set(INERT | GENERATION)

    def refuse(self, what: str) -> InputError:
        """Returns an error that names this config."""
        return InputError(f"{self.where}: {what}")

    def take(self, name: str, default: Any = _REQUIRED) -> Any:
        """Returns the field's value, or the default where it is absent or null."""
        self._read.add(name)
        value = self._values.get(name)
        if value is None and default is _REQUIRED:
            raise self.refuse(f"the field '{name}' is missing; it is needed to build the model")
        return default if value is None else value

    def is_null(self, name: str) -> bool:
        """Returns whether the field is present and null, which some families read in another way than an absent one."""
        return name in self._values and self._values[name] is None

    def size(self, name: str, default: Any = _REQUIRED, least: int = 1) -> int:
        """Returns a field that must be a whole number of at least `least`, and at most what `MOST` says."""
        value, most = self.take(name, default), MOST.get(name, MOST_OF_ANY_SIZE)
        if type(value) is not int or value < least:
            raise self.refuse(f"the field '{name}' is {value!r}; a whole number of at least {least} is needed")
        if value > most:
            raise self.refuse(f"the field '{name}' is {value}, and no known model's above {most}; copy the file again")
        return value

    def size_of_either(self, name: str, other: str, default: Any = _REQUIRED) -> int:
        """Returns a size that goes by one of two names; where both are given they must agree."""
        both = [self.size(key) for key in (name, other) if self.take(key, None) is not None]
        if len(set(both)) > 1:
            raise self.refuse(f"the fields '{name}' and '{other}' differ; keep one")
        return both[0] if both else self.size(name, default)

    def number(self, name: str, default: Any = _REQUIRED) -> float:
        """Returns a field that must be a positive finite number."""
        return self.positive(name, self.take(name, default))

    def positive(self, name: str, value: Any) -> float:
        """Returns a given value of a field, or of a setting inside one, that must be a positive finite number."""
        # A whole number may be too large for a float.
        known = isinstance(value, int | float) and not isinstance(value, bool)
        if not known or not SMALLEST_NUMBER <= value <= LARGEST_NUMBER:
            raise self.refuse(f"the field '{name}' is {value!r}; a positive number is needed")
        return float(value)

    def size_or_none(self, name: str, default: int | None = None) -> int | None:
        """Returns a size; None where the field is null, and the default where it is absent."""
        return None if self.is_null(name) or self.take(name, default) is None else self.size(name, default)

    def number_or_none(self, name: str, default: float | None = None) -> float | None:
        """Returns a positive number; None where the field is null, and the default where it is absent."""
        return None if self.is_null(name) or self.take(name, default) is None else self.number(name, default)

    def flag(self, name: str, default: bool) -> bool:
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise self.refuse(f"the field '{name}' is {value!r}; true or false is needed")
        return value

    def flags(self, name: str, length: int, default: Sequence[bool]) -> list[bool]:
        """Returns the first `length` values of a field that must be a list of 0 and 1."""
        value = self.take(name, list(default))
        if not isinstance(value, list) or len(value) < length or any(entry not in (0, 1) for entry in value):
            raise self.refuse(f"the field '{name}' is {value!r}; a list of {length} values 0 or 1 is needed")
        return [bool(entry) for entry in value[:length]]

    def inert(self, *names: str) -> None:
        """Names fields that this family's forward does not read."""
        self._read.update(names)

    def choice(self, name: str, choices: Mapping[str, Any], default: str) -> Any:
        """Returns what a field's value stands for; the value must be a key of `choices`, the implemented ones."""
        value = self.take(name, default)
        if not isinstance(value, str) or value not in choices:
            raise self.refuse(f"{name} '{value}' is not implemented; known are {', '.join(sorted(choices))}")
        return choices[value]

    def finish(self) -> None:
        """Refuses every field that nobody read, unless it is null or has a value that changes nothing."""
        for name, value in self._values.items():
            if name in self._read or value is None or value in HARMLESS_VALUES.get(name, ()):
                continue
            raise self.refuse(f"the field '{name}' = {value!r} is not implemented")
