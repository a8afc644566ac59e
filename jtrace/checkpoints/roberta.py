"""Loading of RoBERTa classifiers from Hugging Face folders, as strictly as decoders."""

import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.typing import DTypeLike

from jtrace.checkpoints.formats.weights import iter_weight_files, tensor_infos
from jtrace.checkpoints.load import STACKED, Destination, check_tensors, names_in_table, read_config_json
from jtrace.data.tokenizer import read_tokenizer
from jtrace.errors import InputError
from jtrace.models.classifier import Classifier, ClassifierConfig, abstract_params
from jtrace.models.config import DecoderConfig, LayerKind
from jtrace.models.decoder import Params
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import ACTIVATION_NAMES, Family

ARCHITECTURE = "RobertaForSequenceClassification"
NAMES = {
    "tokens": "roberta.embeddings.word_embeddings.weight",
    "positions": "roberta.embeddings.position_embeddings.weight",
    "token_types": "roberta.embeddings.token_type_embeddings.weight",
    **{
        f"{param}/{leaf}": f"{tensor}.{leaf}"
        for leaf in ("weight", "bias")
        for param, tensor in {
            "embedding_norm": "roberta.embeddings.LayerNorm",
            "blocks/attention/q": "roberta.encoder.layer.{}.attention.self.query",
            "blocks/attention/k": "roberta.encoder.layer.{}.attention.self.key",
            "blocks/attention/v": "roberta.encoder.layer.{}.attention.self.value",
            "blocks/attention/o": "roberta.encoder.layer.{}.attention.output.dense",
            "blocks/attention_norm": "roberta.encoder.layer.{}.attention.output.LayerNorm",
            "blocks/mlp/up": "roberta.encoder.layer.{}.intermediate.dense",
            "blocks/mlp/down": "roberta.encoder.layer.{}.output.dense",
            "blocks/mlp_norm": "roberta.encoder.layer.{}.output.LayerNorm",
            "dense": "classifier.dense",
            "out": "classifier.out_proj",
        }.items()
    },
}
# Buffers of old files, and heads of pre-training that fine-tuning leaves in the files.
IGNORED = re.compile(r"roberta\.embeddings\.(position_ids|token_type_ids)|roberta\.pooler\..*|lm_head\..*")


def load_classifier(folder: Path, dtype: DTypeLike = jnp.float32) -> Classifier:
    """Reads a classifier onto the device.

    Args:
        folder: config.json, weight files (safetensors or torch .bin, whole or sharded) and tokeniser of a
            `RobertaForSequenceClassification`, such as tomh/toxigen_roberta.
        dtype: dtype of the params, and so of the forward.

    Raises:
        InputError: the folder holds no such classifier, or has a config field that is not implemented, other tensors
            than config.json describes, NaN or infinity, or another model's tokeniser.
    """
    config, labels = read_classifier_config(read_config_json(folder), str(folder / "config.json"))
    tokenizer = read_tokenizer(folder)
    known = max(tokenizer.get_vocab().values(), default=-1) + 1
    if known > config.encoder.vocab_size:
        raise InputError(
            f"{folder}: the tokeniser knows {known} tokens, the classifier {config.encoder.vocab_size}: they do not "
            "belong together; copy the classifier's own tokeniser there"
        )
    return Classifier(config, _read_params(folder, config, jnp.dtype(dtype)), tokenizer, folder, labels)


def read_classifier_config(values: dict[str, Any], where: str) -> tuple[ClassifierConfig, tuple[str, ...]]:
    """Reads the classifier that a config.json describes, and the names of its labels.

    Raises:
        InputError: it is another kind of model, or a field is missing, malformed or not implemented.
    """
    fields = Fields(values, where)
    model_type, architectures = fields.take("model_type", None), fields.take("architectures", [ARCHITECTURE])
    if model_type != "roberta" or architectures != [ARCHITECTURE]:
        raise fields.refuse(
            f"model type {model_type!r} with architectures {architectures!r} is not a classifier; name a folder of a "
            f"{ARCHITECTURE}, such as tomh/toxigen_roberta"
        )
    fields.choice("position_embedding_type", {"absolute": None}, "absolute")
    fields.choice("problem_type", {"single_label_classification": None}, "single_label_classification")
    if fields.flag("is_decoder", False):
        raise fields.refuse("the field 'is_decoder' is true; a classifier's tokens see the whole text")
    fields.inert("attention_probs_dropout_prob", "classifier_dropout", "hidden_dropout_prob")
    fields.inert("finetuning_task", "output_past", "tie_word_embeddings")
    encoder, labels = _read_encoder(fields), _read_labels(fields)
    pad_token = fields.size("pad_token_id", 1, least=0)
    if pad_token >= encoder.vocab_size or encoder.context < pad_token + 3:
        raise fields.refuse(
            f"pad_token_id {pad_token} leaves no room in {encoder.vocab_size} tokens (vocab_size) or "
            f"{encoder.context} positions (max_position_embeddings)"
        )
    config = ClassifierConfig(encoder, pad_token, fields.size("type_vocab_size"), len(labels))
    fields.finish()
    return config, labels


def _read_encoder(fields: Fields) -> DecoderConfig:
    heads, width = fields.size("num_attention_heads"), fields.size("hidden_size")
    if width % heads:
        raise fields.refuse(f"hidden_size {width} is not a multiple of num_attention_heads {heads}")
    return DecoderConfig(
        vocab_size=fields.size("vocab_size"),
        width=width,
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        mlp_width=fields.size("intermediate_size"),
        context=fields.size("max_position_embeddings"),
        layers=(LayerKind(rope=None),) * fields.size("num_hidden_layers"),
        norm_eps=fields.number("layer_norm_eps", 1e-12),
        norm="layer",
        activation=fields.choice("hidden_act", ACTIVATION_NAMES, "gelu"),
        gated_mlp=False,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
    )


def _read_labels(fields: Fields) -> tuple[str, ...]:
    """Reads labels; without them, they are Hugging Face's default: LABEL_0 and LABEL_1."""
    names = fields.take("id2label", None)
    count = fields.size("num_labels", len(names) if isinstance(names, dict) else 2, least=2)
    if names is None:
        return tuple(f"LABEL_{i}" for i in range(count))
    if not isinstance(names, dict) or names.keys() != {str(i) for i in range(count)}:
        raise fields.refuse(f"the field 'id2label' is {names!r}; the names of labels 0 to {count - 1} are needed")
    return tuple(str(names[str(i)]) for i in range(count))


FAMILY = Family(_read_encoder, NAMES, ignored=IGNORED)


def _read_params(folder: Path, config: ClassifierConfig, dtype: np.dtype[Any]) -> Params:
    shapes = {param: leaf.shape for param, leaf in flatten_dict(abstract_params(config), sep="/").items()}
    expected: dict[str, list[Destination]] = {}
    for param, shape in shapes.items():
        stacked = param.startswith(STACKED)
        for place in [(layer,) for layer in range(config.encoder.depth)] if stacked else [()]:
            target = Destination(param, place, shape[len(place) :])
            expected[NAMES[param].format(*place)] = [target]
    infos = tensor_infos(folder)
    check_tensors(expected, infos, config.encoder, FAMILY, folder)
    names = names_in_table(infos, FAMILY)

    params = {param: np.empty(shape, dtype) for param, shape in shapes.items()}
    for file in iter_weight_files(folder):
        for name in (name for name in file.tensors if names[name] in expected):
            (target,) = expected[names[name]]
            # An overflow of the cast is found below, and reported by name.
            with np.errstate(over="ignore", invalid="ignore"):
                cast = file.read(name).astype(dtype)
            if not np.isfinite(cast).all():
                raise InputError(f"{folder}: NaN or infinite values as {dtype.name} in tensor '{name}'; fetch it again")
            params[target.param][target.place] = cast
    return unflatten_dict({param: jnp.asarray(value) for param, value in params.items()}, sep="/")
