"""Write the golden checkpoints: random tiny weights, and every residual and logit that torch computes from them.

    pip install -e ".[torch]" && python tests/goldens/make_goldens.py

Needs torch and takes a few seconds. Run it again only when a variant is added; the files are committed.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from variants import VARIANTS  # noqa: E402


def random_model(values: dict, seed: int) -> PreTrainedModel:
    """A float32 model whose every weight matters: no zero bias, no unit norm, logits of order one."""
    config = AutoConfig.for_model(**values)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            centre = 1.0 if "norm" in name else 0.0
            weight.copy_(centre + 0.25 * torch.randn(weight.shape, generator=generator))
    return model


def residuals_and_logits(model: PreTrainedModel, tokens: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Output of every block [layer, row, slot, width], before the final norm, and logits [row, slot, vocabulary]."""
    caught: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, out: caught.append(out[0] if isinstance(out, tuple) else out))
        for layer in model.base_model.layers
    ]
    with torch.no_grad():
        logits = model(tokens, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    return torch.stack(caught).numpy(), logits.numpy()


def main() -> None:
    for seed, (name, values) in enumerate(VARIANTS.items()):
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        model = random_model(values, seed)
        tokens = torch.randint(0, values["vocab_size"], (2, 40), generator=torch.Generator().manual_seed(seed))
        residuals, logits = residuals_and_logits(model, tokens)
        tied = {"lm_head.weight"} if values["tie_word_embeddings"] else set()
        weights = {key: value.contiguous() for key, value in model.state_dict().items() if key not in tied}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n")
        np.savez_compressed(
            folder / "expected.npz", tokens=tokens.numpy().astype(np.int32), residuals=residuals, logits=logits
        )
        print(f"{name}: {sum(weight.numel() for weight in weights.values())} weights")


if __name__ == "__main__":
    main()
