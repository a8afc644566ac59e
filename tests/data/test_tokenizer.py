"""Tokenisers: the checkpoint's own ids and special tokens."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from jtrace.data.loading import read_all
from jtrace.data.registry import BUILTIN
from jtrace.data.tokenizer import (
    appends_tokens,
    check_embedded,
    class_disagreement,
    encode,
    read_tokenizer,
    tokenizer_fingerprint,
)
from jtrace.errors import InputError

BYTES, BLANK = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), "▁"
# Pre-tokenisers as real checkpoints have them, each beside a class that transformers 5 has its own idea of.
KINDS = {
    "digits, as GPT2Tokenizer": (pre_tokenizers.Digits(individual_digits=True), "GPT2Tokenizer"),
    "digits, as LlamaTokenizer": (pre_tokenizers.Digits(individual_digits=True), "LlamaTokenizer"),
    "groups of three digits, as Qwen2Tokenizer": (
        pre_tokenizers.Split(Regex(r" ?[^\s\d]+|\d{1,3}|\s+"), "isolated"),
        "Qwen2Tokenizer",
    ),
    "words, as GPTNeoXTokenizer": (pre_tokenizers.ByteLevel(add_prefix_space=False), "GPTNeoXTokenizer"),
    "no split, as LlamaTokenizer": (None, "LlamaTokenizer"),
}
TEXTS = ["In 1984 there were 6411 people, 63 of them aged 15.", "don't  stop\n\tnow", "naïve 北京"]


def write_kind(folder: Path, kind: str) -> Tokenizer:
    """A BPE of 400 tokens that begins every text with <s>; the tokeniser that its tokenizer.json holds."""
    pre_tokenizer, name = KINDS[kind]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    if pre_tokenizer is None:
        blanks = [normalizers.Prepend(BLANK), normalizers.Replace(" ", BLANK)]
        tokenizer.normalizer = normalizers.Sequence(blanks)
        tokenizer.decoder = decoders.Metaspace()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizer, BYTES])
        tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sentences = [f"In {year} there were {7 * year} people, they didn't stop." for year in range(1900, 2000)]
    tokenizer.train_from_iterator(sentences, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": name, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    config["chat_template"] = "{{ bos_token }}{{ messages[0]['content'] }}{{ eos_token }}"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture
def byte_level(tmp_path):
    """A byte-level BPE with one merge, that begins every text with <s>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<s>", *alphabet, "ab"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>").save_pretrained(tmp_path / "model")
    return tmp_path / "model", vocabulary


def test_special_tokens_are_those_the_tokeniser_adds_itself(byte_level):
    folder, vocabulary = byte_level
    ids = encode(read_tokenizer(folder), ["ab", "b a"])
    assert [row.tolist() for row in ids] == [
        [0, vocabulary["ab"]],
        [0, vocabulary["b"], vocabulary["Ġ"], vocabulary["a"]],
    ]
    assert ids[0].dtype == np.int32


def test_texts_of_any_bytes_come_back(byte_level):
    tokenizer = read_tokenizer(byte_level[0])
    for text in (" trailing ", "tab\tand\nnewline", "_x000D_", "ünïcödé 🙂", "<s>x"):
        (ids,) = encode(tokenizer, [text])
        assert tokenizer.decode(ids, skip_special_tokens=False) == "<s>" + text


def test_the_fingerprint_follows_the_files_not_the_folder(byte_level, tmp_path):
    folder, _ = byte_level
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert tokenizer_fingerprint(copy) == tokenizer_fingerprint(folder)
    path = copy / "tokenizer.json"
    path.write_text(path.read_text().replace('"ab"', '"ba"'))
    assert tokenizer_fingerprint(copy) != tokenizer_fingerprint(folder)


def test_a_missing_or_damaged_tokeniser_names_the_folder(byte_level, tmp_path):
    with pytest.raises(InputError, match="no tokeniser files"):
        read_tokenizer(tmp_path)
    (byte_level[0] / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"model: the tokeniser cannot be read"):
        read_tokenizer(byte_level[0])


@pytest.mark.real
def test_smollm2_ids_are_the_known_ones(shared):
    tokenizer = read_tokenizer(shared / "models" / "smollm2_tokenizer")
    (ids,) = encode(tokenizer, ["The capital of France is Paris."])
    assert ids.tolist() == [504, 3575, 282, 4649, 314, 7042, 30]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_the_file_whatever_class_is_declared(kind, tmp_path):
    own = write_kind(tmp_path, kind)
    assert [row.tolist() for row in encode(read_tokenizer(tmp_path), TEXTS)] == [own.encode(text).ids for text in TEXTS]


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_the_file_on_the_authors_texts(kind, shared, tmp_path):
    own, data = write_kind(tmp_path, kind), shared / "data"
    texts = [text for statements in read_all(list(BUILTIN), data) for text in statements.texts]
    with open(data / "truthfulqa_test.csv", encoding="utf-8-sig", newline="") as file:
        texts += [row["Question"] for row in csv.DictReader(file)]
    assert len(texts) == 17_124
    found = encode(read_tokenizer(tmp_path), texts)
    assert [row.tolist() for row in found] == [encoding.ids for encoding in own.encode_batch(texts)]


def test_of_a_declared_class_names_and_template_are_kept(tmp_path):
    write_kind(tmp_path, "digits, as GPT2Tokenizer")
    tokenizer = read_tokenizer(tmp_path)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, len(tokenizer)) == (
        0,
        1,
        len(json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]),
    )
    said = tokenizer.apply_chat_template([{"role": "user", "content": "In 1984"}], tokenize=False)
    assert said == "<s>In 1984</s>"


def test_a_name_that_the_file_does_not_know_adds_no_token(byte_level):
    folder, vocabulary = byte_level
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": "</s>", "pad_token": "ab"}))
    tokenizer = read_tokenizer(folder)
    assert (len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id) == (len(vocabulary), None, vocabulary["ab"])
    # Were `ab` made special by its name, it would be cut out of `cabs` before merges are applied.
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert encode(tokenizer, ["cabs</s>"])[0].tolist() == own.encode("cabs</s>").ids


def test_a_class_that_reads_texts_otherwise_is_told(tmp_path, byte_level):
    write_kind(tmp_path / "digits", "digits, as GPT2Tokenizer")
    assert "as GPT2Tokenizer" in class_disagreement(tmp_path / "digits")
    assert "1 of 2 texts would have other tokens" in class_disagreement(tmp_path / "digits", ["1984", "there were"])
    assert class_disagreement(byte_level[0]) == ""


def appending(folder: Path) -> Path:
    """The folder's tokeniser ends every text with `b`, as with add_eos_token."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    template = processors.TemplateProcessing(
        "<s> $A b", special_tokens=[("<s>", 0), ("b", content["model"]["vocab"]["b"])]
    )
    content["post_processor"] = json.loads(template.__getstate__())
    path.write_text(json.dumps(content))
    return folder


def test_special_tokens_behind_a_text_are_left_out_unless_asked_for(byte_level):
    folder, vocabulary = byte_level
    assert not appends_tokens(read_tokenizer(folder), "a")
    tokenizer = read_tokenizer(appending(folder))
    assert appends_tokens(tokenizer, "a")
    texts, a, b = ["a", "", "bb"], vocabulary["a"], vocabulary["b"]
    assert [row.tolist() for row in encode(tokenizer, texts)] == [[0, a], [0], [0, b, b]]
    assert [row.tolist() for row in encode(tokenizer, texts, appended=True)] == [[0, a, b], [0, b], [0, b, b, b]]


def test_special_tokens_in_a_text_are_parsed_or_taken_as_text(byte_level):
    folder, vocabulary = byte_level
    (parsed,), (text,) = (encode(read_tokenizer(folder, how), ["a<s>"]) for how in ("parse", "text"))
    assert parsed.tolist() == [0, vocabulary["a"], 0]
    assert text.tolist() == [0, *(vocabulary[character] for character in "a<s>")]


def test_a_token_without_an_embedding_is_refused():
    rows = [np.array([0, 7], np.int32), np.array([], np.int32)]
    check_embedded(rows, 8, "x")
    with pytest.raises(InputError, match=r"^x: the tokeniser gives token 7, the model knows 7 only; "):
        check_embedded(rows, 7, "x")
