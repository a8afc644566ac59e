"""The classifier: RoBERTa's numbers, whole folders or a refusal, and no text that changes another's result."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from jtrace.checkpoints.roberta import load_classifier
from jtrace.errors import InputError
from jtrace.models import classifier as models_classifier
from jtrace.models.classifier import logits, probabilities
from tests.bars import within
from tests.conftest import GOLDENS, relative_error

# No field that is read is at its default, and none of the sizes equal another.
UNUSUAL = {
    "model_type": "roberta",
    "architectures": ["RobertaForSequenceClassification"],
    "vocab_size": 270,
    "hidden_size": 36,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 52,
    "hidden_act": "gelu_new",
    "max_position_embeddings": 64,
    "type_vocab_size": 5,
    "layer_norm_eps": 1e-2,
    "pad_token_id": 4,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "id2label": {"0": "fine", "1": "rude", "2": "toxic"},
    "label2id": {"fine": 0, "rude": 1, "toxic": 2},
    "problem_type": "single_label_classification",
}
# As tomh/toxigen_roberta, but small: what is a default there is a default here.
USUAL = UNUSUAL | {
    "hidden_act": "gelu",
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "id2label": None,
    "label2id": None,
    "position_embedding_type": "absolute",
    "gradient_checkpointing": False,
    "attention_probs_dropout_prob": 0.1,
    "hidden_dropout_prob": 0.1,
}
TEXTS = ["a", "", "How are you?", "ünïcödé 🙂", "a <pad> amid", "b" * 40, "A text of one sentence, or two."]
Q = "roberta.encoder.layer.1.attention.self.query.weight"


def write_config(folder: Path, values: dict) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({k: v for k, v in values.items() if v is not None}))


def write_tokenizer(folder: Path, values: dict) -> None:
    """Byte-level BPE without merges, so that a letter is a token; texts lie between <s> and </s>, as RoBERTa's do."""
    special = ["<mask>"] * 5
    for name, token in (("bos", "<s>"), ("eos", "</s>"), ("pad", "<pad>")):
        special[values[f"{name}_token_id"]] = token
    special = [token if token != "<mask>" else f"<unused{i}>" for i, token in enumerate(special)]
    vocabulary = {token: i for i, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    ends = ("</s>", vocabulary["</s>"]), ("<s>", vocabulary["<s>"])
    tokenizer.post_processor = processors.RobertaProcessing(*ends, add_prefix_space=False)
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def random_weights(values: dict, seed: int = 0) -> dict[str, np.ndarray]:
    """Every tensor of the folder, by its name there; biases and norms are random too."""
    width, inner = values["hidden_size"], values["intermediate_size"]
    shapes = {
        "roberta.embeddings.word_embeddings.weight": (values["vocab_size"], width),
        "roberta.embeddings.position_embeddings.weight": (values["max_position_embeddings"], width),
        "roberta.embeddings.token_type_embeddings.weight": (values["type_vocab_size"], width),
    }
    norms = ["roberta.embeddings.LayerNorm"]
    dense = {"classifier.dense": (width, width), "classifier.out_proj": (len(values["id2label"] or "no"), width)}
    for layer in range(values["num_hidden_layers"]):
        prefix = f"roberta.encoder.layer.{layer}"
        dense |= {f"{prefix}.attention.self.{name}": (width, width) for name in ("query", "key", "value")}
        dense[f"{prefix}.attention.output.dense"] = (width, width)
        dense |= {f"{prefix}.intermediate.dense": (inner, width), f"{prefix}.output.dense": (width, inner)}
        norms += [f"{prefix}.attention.output.LayerNorm", f"{prefix}.output.LayerNorm"]
    for name, (out, into) in dense.items():
        shapes |= {f"{name}.weight": (out, into), f"{name}.bias": (out,)}
    shapes |= {f"{name}.{leaf}": (width,) for name in norms for leaf in ("weight", "bias")}
    random = np.random.default_rng(seed)
    return {
        name: (0.25 * random.standard_normal(shape) + name.endswith("LayerNorm.weight")).astype(np.float32)
        for name, shape in shapes.items()
    }


@pytest.fixture(params=[UNUSUAL, USUAL], ids=["unusual", "usual"])
def values(request) -> dict:
    return request.param


@pytest.fixture
def folder(tmp_path, values) -> Path:
    """A classifier with random weights."""
    path = tmp_path / "classifier"
    write_config(path, values)
    write_tokenizer(path, values)
    save_file(random_weights(values), path / "model.safetensors")
    return path


@pytest.fixture
def usual(tmp_path) -> Path:
    """One of two labels, to be damaged."""
    path = tmp_path / "classifier"
    write_config(path, USUAL)
    write_tokenizer(path, USUAL)
    save_file(random_weights(USUAL), path / "model.safetensors")
    return path


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["safetensors", "bin", "sharded"])
def test_logits_equal_torch_s(tmp_path, values, kind):
    """Ragged texts in one padded batch, one of which spells out the pad token."""
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    from transformers import RobertaConfig, RobertaForSequenceClassification

    write_tokenizer(tmp_path, values)
    known = {name: value for name, value in values.items() if value is not None}
    known["id2label"] = {int(i): name for i, name in known.get("id2label", {0: "LABEL_0", 1: "LABEL_1"}).items()}
    model = RobertaForSequenceClassification(RobertaConfig(**known)).eval()
    weights = random_weights(values)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    model.save_pretrained(tmp_path, max_shard_size="60KB" if kind == "sharded" else "1GB")
    assert (tmp_path / "model.safetensors.index.json").is_file() == (kind == "sharded")
    if kind == "bin":
        (tmp_path / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")

    ours = load_classifier(tmp_path)
    batch = ours.tokenizer(TEXTS, padding=True, return_tensors="np")
    tokens, mask = batch["input_ids"], batch["attention_mask"]
    assert len(set(mask.sum(axis=1))) == len(TEXTS)
    assert ((tokens == ours.config.pad_token) & (mask == 1)).sum() == 1
    with torch.no_grad():
        expected = model(torch.from_numpy(tokens), torch.from_numpy(mask)).logits
    found = logits(ours.params, tokens.astype(np.int32), mask.sum(axis=1).astype(np.int32), config=ours.config)
    for i in range(len(TEXTS)):
        error = relative_error(found[i], expected[i].numpy())
        within("toxicity classifier logits against torch", error, 1e-5)
    likely = torch.softmax(expected, -1).numpy()
    np.testing.assert_allclose(probabilities(ours, TEXTS), likely, atol=1e-5)


@pytest.mark.slow
def test_a_text_s_result_does_not_depend_on_the_others(folder):
    ours = load_classifier(folder)
    together = probabilities(ours, TEXTS)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-6)
    assert np.ptp(together, axis=0).min() > 0.01
    alone = np.concatenate([probabilities(ours, [text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(probabilities(ours, TEXTS[::-1] * 30)[-len(TEXTS) :], together[::-1], atol=1e-6)


def test_no_texts_have_no_probabilities(usual):
    assert probabilities(load_classifier(usual), []).shape == (0, 2)


def test_a_long_text_loses_its_end_but_not_its_last_special_token(folder):
    """A letter is a token: what fits beside <s> and </s> is the model's positions, or 512 tokens, less two."""
    ours = load_classifier(folder)
    room = (59 if ours.config.pad_token == 4 else 512) - 2
    text = "".join(np.random.default_rng(0).choice(list("abcdefgh"), 700))
    long, cut, shorter = probabilities(ours, [text, text[:room], text[: room - 1]])
    np.testing.assert_allclose(long, cut, atol=1e-6)
    assert np.abs(long - shorter).max() > 1e-5


def test_few_shapes_are_compiled_whatever_the_texts(usual, monkeypatch):
    shapes = []

    def record(params, tokens, lengths, *, config):
        shapes.append(tokens.shape)
        return jnp.zeros((len(tokens), config.labels))

    monkeypatch.setattr(models_classifier, "logits", record)
    found = probabilities(load_classifier(usual), ["x" * n for n in range(600)])
    np.testing.assert_array_equal(found, np.full((600, 2), 0.5))
    assert set(shapes) == {(128, 16), (64, 32), (32, 64), (16, 128), (8, 256), (4, 512)}


@pytest.mark.slow
def test_in_bfloat16_params_are_half_as_large_and_results_near(usual):
    exact, rough = load_classifier(usual), load_classifier(usual, jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(rough.params)} == {jnp.dtype(jnp.bfloat16)}
    difference = np.abs(probabilities(rough, TEXTS) - probabilities(exact, TEXTS)).max()
    assert 0 < difference < 0.1


def test_an_overflow_is_not_a_verdict(usual):
    edit_weights(usual, lambda w: w.update({"classifier.out_proj.weight": np.full((2, 36), 3e38, np.float32)}))
    with pytest.raises(InputError, match="classifier: the classifier's probabilities are NaN as float32"):
        probabilities(load_classifier(usual), TEXTS)


def test_labels_are_named_in_their_order(folder, values):
    names = ("fine", "rude", "toxic") if values is UNUSUAL else ("LABEL_0", "LABEL_1")
    assert load_classifier(folder).labels == names


def test_what_pre_training_left_behind_is_ignored(usual):
    extras = {
        "roberta.embeddings.position_ids": np.arange(514)[None],
        "roberta.pooler.dense.weight": np.zeros((36, 36), np.float32),
        "lm_head.bias": np.zeros(270, np.float32),
    }
    before = probabilities(load_classifier(usual), TEXTS)
    edit_weights(usual, lambda w: w.update(extras))
    np.testing.assert_array_equal(probabilities(load_classifier(usual), TEXTS), before)


def edit_weights(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as error:
        load_classifier(folder)
    message = str(error.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def test_a_language_model_is_no_classifier(usual):
    assert "model type 'llama' with architectures" in refusal(GOLDENS / "llama-full")
    write_config(usual, USUAL | {"architectures": ["RobertaForMaskedLM"]})
    assert "'RobertaForMaskedLM'] is not a classifier" in refusal(usual)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": 3}, "with architectures 3 is not a classifier"),
        ({"relative_attention": True}, "the field 'relative_attention' = True is not implemented"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key' is not implemented"),
        ({"problem_type": "multi_label_classification"}, "problem_type 'multi_label_classification'"),
        ({"is_decoder": True}, "'is_decoder' is true"),
        ({"hidden_act": "mish"}, "hidden_act 'mish' is not implemented"),
        ({"num_attention_heads": 5}, "hidden_size 36 is not a multiple of num_attention_heads 5"),
        ({"hidden_size": None}, "the field 'hidden_size' is missing"),
        ({"num_labels": 1}, "the field 'num_labels' is 1"),
        ({"id2label": {"0": "a", "2": "b"}}, "the names of labels 0 to 1 are needed"),
        ({"id2label": {"0": "a", "1": "b"}, "num_labels": 3}, "the names of labels 0 to 2 are needed"),
        ({"num_labels": 3}, "tensor 'classifier.out_proj.bias' has shape [2]; config.json asks for [3]"),
        ({"max_position_embeddings": 3}, "pad_token_id 1 leaves no room"),
        ({"pad_token_id": 270}, "pad_token_id 270 leaves no room"),
        ({"num_hidden_layers": 4}, "16 tensors ('roberta.encoder.layer.3.attention.output.LayerNorm.bias', "),
        ({"num_hidden_layers": 2}, "left over in the weight files"),
    ],
)
def test_a_config_that_is_not_understood_is_refused_by_field(usual, changes, message):
    write_config(usual, USUAL | changes)
    assert message in refusal(usual)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("classifier.out_proj.bias"), "tensor 'classifier.out_proj.bias' missing"),
        (lambda w: w.update({"roberta.extra": np.zeros(2, np.float32)}), "tensor 'roberta.extra' left over"),
        (lambda w: w.update({Q: np.zeros((36, 36), np.int32)}), f"tensor '{Q}' is int32"),
        (lambda w: w.update({Q: np.full((36, 36), np.nan, np.float32)}), f"NaN or infinite values as float32 in {Q!r}"),
    ],
)
def test_weights_are_read_strictly_both_ways(usual, change, message):
    edit_weights(usual, change)
    assert message in refusal(usual).replace("in tensor '", "in '")


def test_what_wrapped_the_classifier_in_training_is_no_part_of_the_names(usual):
    expected = load_classifier(usual).params
    weights = load_file(usual / "model.safetensors")
    save_file({f"module.{name}": value for name, value in weights.items()}, usual / "model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, load_classifier(usual).params, expected)


def test_a_damaged_folder_is_refused(usual):
    (usual / "model.safetensors").write_bytes((usual / "model.safetensors").read_bytes()[:1000])
    assert "model.safetensors" in refusal(usual)
    (usual / "config.json").write_text("{")
    assert "is not JSON" in refusal(usual)


def test_another_model_s_tokeniser_is_refused(usual):
    write_config(usual, USUAL | {"vocab_size": 200})
    assert "the tokeniser knows 261 tokens, the classifier 200" in refusal(usual)
    (usual / "tokenizer.json").unlink()
    assert "no tokeniser files" in refusal(usual)
