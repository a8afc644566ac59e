"""Checkpoints of random weights in the shape of a known model: as large as its files, from few drawn numbers."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder of the llama family."""

    depth: int
    width: int
    mlp_width: int
    heads: int
    vocab_size: int
    context: int = 2048


SHAPES = {
    "amber-7b": Shape(depth=32, width=4096, mlp_width=11008, heads=32, vocab_size=32000),
    "tiny": Shape(depth=4, width=64, mlp_width=176, heads=4, vocab_size=512),
}


def write_shape(folder: Path, shape: Shape, seed: int = 0) -> None:
    """Writes a Hugging Face folder in float32 without a tokeniser, one shard per layer, with two layers in memory.

    Every kind of tensor is drawn once, with deviation fan-in^−½. Each layer has that tensor rolled by its number, so
    that no two layers are equal and none costs another draw.

    Args:
        folder: the folder to make; its files are overwritten.
    """
    random = np.random.default_rng(seed)

    def drawn(rows: int, columns: int) -> np.ndarray:
        return random.standard_normal((rows, columns), np.float32) / np.float32(columns**0.5)

    width, mlp = shape.width, shape.mlp_width
    kinds = {f"self_attn.{part}_proj": drawn(width, width) for part in "qkvo"}
    kinds |= {"mlp.gate_proj": drawn(mlp, width), "mlp.up_proj": drawn(mlp, width), "mlp.down_proj": drawn(width, mlp)}
    one = np.ones(width, np.float32)
    norms = {f"{name}_layernorm": one for name in ("input", "post_attention")}

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_config(shape), indent=2) + "\n")
    count, size = shape.depth + 1, 0
    placed: dict[str, str] = {}
    for number in range(count):
        if number < shape.depth:
            rolled = {name: np.roll(tensor, number) for name, tensor in kinds.items()} | norms
            shard = {f"model.layers.{number}.{name}.weight": tensor for name, tensor in rolled.items()}
        else:
            ends = {"model.embed_tokens": drawn(shape.vocab_size, width), "lm_head": drawn(shape.vocab_size, width)}
            shard = {f"{name}.weight": tensor for name, tensor in (ends | {"model.norm": one}).items()}
        file = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        placed |= dict.fromkeys(shard, file)
        size += sum(tensor.nbytes for tensor in shard.values())
    index = {"metadata": {"total_size": size}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _config(shape: Shape) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.width,
        "intermediate_size": shape.mlp_width,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "max_position_embeddings": shape.context,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
