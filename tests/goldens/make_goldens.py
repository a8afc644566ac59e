"""Write the golden checkpoints: random tiny weights, and every residual and logit that torch computes from them.

    pip install -e ".[torch]" && python tests/goldens/make_goldens.py [VARIANT …]

Needs torch and takes a few seconds. Without names it writes the variants that are not there; the files are committed.
"""

import copy
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from variants import COVERING, VARIANTS, in_transformers  # noqa: E402


def random_model(values: dict, seed: int) -> PreTrainedModel:
    """A float32 model whose every weight matters: no zero bias, no unit norm, logits of order one."""
    config = AutoConfig.for_model(**copy.deepcopy(in_transformers(values)))  # it writes into nested settings
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            is_norm = ("norm" in name or ".ln_" in name) and "gemma" not in values["model_type"]
            centre = 1.0 if is_norm else 0.0
            weight.copy_(centre + 0.25 * torch.randn(weight.shape, generator=generator))
    return model


def blocks(model: PreTrainedModel) -> torch.nn.ModuleList:
    """The model's blocks, by whatever name its family has for them."""
    for path in ("layers", "h", "decoder.layers"):
        try:
            return model.base_model.get_submodule(path)
        except AttributeError:
            continue
    raise AttributeError(f"no blocks in {type(model.base_model).__name__}")


def residuals_and_logits(model: PreTrainedModel, tokens: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Output of every block [layer, row, slot, width], before the final norm, and logits [row, slot, vocabulary]."""
    caught: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, out: caught.append(out[0] if isinstance(out, tuple) else out))
        for layer in blocks(model)
    ]
    with torch.no_grad():
        logits = model(tokens, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    return torch.stack(caught).numpy(), logits.numpy()


class Places(NamedTuple):
    """Modules of a block: whose outputs are added to the residual, and whose input the heads write."""

    attention: str
    mlp: str
    output_projection: str


LIKE_LLAMA = Places("self_attn", "mlp", "self_attn.o_proj")
POST_NORMS = Places("post_attention_layernorm", "post_feedforward_layernorm", "self_attn.o_proj")
PLACES = {
    "gpt_neox": Places("attention.dense", "mlp", "attention.dense"),
    "gpt2": Places("attn.c_proj", "mlp", "attn.c_proj"),
    "opt": Places("self_attn", "fc2", "self_attn.out_proj"),
    "bloom": Places("self_attention.dense", "mlp.dense_4h_to_h", "self_attention.dense"),
    **dict.fromkeys(("olmo2", "olmo3", "gemma2", "gemma3_text"), POST_NORMS),
}


def sites(model: PreTrainedModel, tokens: torch.Tensor) -> dict[str, np.ndarray]:
    """Values that a block's attention and MLP add, and that its heads read [layer, row, slot, width]."""
    places = PLACES.get(model.config.model_type, LIKE_LLAMA)
    scale = getattr(model.config, "residual_multiplier", 1.0)
    caught: dict[str, list[torch.Tensor]] = {"attn": [], "mlp": [], "heads": []}

    def keep(site: str, values: Any, scale: float = 1.0) -> None:
        values = values[0] if isinstance(values, tuple) else values
        caught[site].append(scale * values.reshape(*tokens.shape, -1))

    hooks = []
    for block in blocks(model):
        attention, mlp, projection = (block.get_submodule(path) for path in places)
        hooks += [
            attention.register_forward_hook(lambda _, __, out: keep("attn", out, scale)),
            mlp.register_forward_hook(lambda _, __, out: keep("mlp", out, scale)),
            projection.register_forward_pre_hook(lambda _, given: keep("heads", given)),
        ]
    with torch.no_grad():
        model(tokens, use_cache=False)
    for hook in hooks:
        hook.remove()
    return {site: torch.stack(values).numpy() for site, values in caught.items()}


def weights_in_files(model: PreTrainedModel, values: dict) -> dict[str, torch.Tensor]:
    """The weights by the names that the family's files have."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        weights = load_file(Path(folder) / "model.safetensors")
    return as_hf_olmo(weights) if values["model_type"] == "hf_olmo" else weights


def as_hf_olmo(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Renames and fuses the weights of an `olmo` or `llama` model as OLMo's first files hold them."""
    outside = {"model.embed_tokens": "wte", "lm_head": "ff_out", "model.norm": "ln_f"}
    renamed = {
        f"model.transformer.{new}.weight": weights[f"{old}.weight"]
        for old, new in outside.items()
        if f"{old}.weight" in weights
    }
    inside = {
        "att_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "attn_out": ("self_attn.o_proj",),
        "ff_proj": ("mlp.up_proj", "mlp.gate_proj"),
        "ff_out": ("mlp.down_proj",),
        "attn_norm": ("input_layernorm",),
        "ff_norm": ("post_attention_layernorm",),
    }
    for layer in {name.split(".")[2] for name in weights if name.startswith("model.layers.")}:
        for new, old in inside.items():
            parts = [weights.get(f"model.layers.{layer}.{name}.weight") for name in old]
            if None not in [part if part is None else 0 for part in parts]:
                renamed[f"model.transformer.blocks.{layer}.{new}.weight"] = torch.cat(parts)
    return renamed


def main() -> None:
    def is_there(name: str) -> bool:
        files = ["expected.npz", "sites.npz"] if name in COVERING else ["expected.npz"]
        return all((HERE / name / file).is_file() for file in files)

    wanted = sys.argv[1:] or [name for name in VARIANTS if not is_there(name)]
    for seed, (name, values) in enumerate(VARIANTS.items()):
        if name not in wanted:
            continue
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        model = random_model(values, seed)
        vocabulary = model.config.vocab_size
        tokens = torch.randint(0, vocabulary, (2, 40), generator=torch.Generator().manual_seed(seed))
        residuals, logits = residuals_and_logits(model, tokens)
        weights = weights_in_files(model, values)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n")
        np.savez_compressed(
            folder / "expected.npz", tokens=tokens.numpy().astype(np.int32), residuals=residuals, logits=logits
        )
        if name in COVERING:
            np.savez_compressed(folder / "sites.npz", **sites(model, tokens))
        print(f"{name}: {sum(weight.numel() for weight in weights.values())} weights")


if __name__ == "__main__":
    main()
