"""A tiny model that answers 0 or 1, a statement set that it is asked about, and vectors to steer it with."""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from jtrace.probing.vector_files import VECTORS_KEY
from tests.conftest import GOLDENS

# As many words as the golden model has embeddings; it stops at the third.
SPECIAL = ["0", "1", "</s>", "?", ".", "No", "Yes", "A", "B"]
WORDS = [f"{first}{last}" for first in "bdfgklmnprstv" for last in "aeiou"][: 61 - len(SPECIAL)]
ROWS, DEPTH, WIDTH = 24, 3, 24
ABOUT_MODEL = {"model_type": "llama", "width": WIDTH, "depth": DEPTH}


def word_tokenizer(folder: Path) -> None:
    """One token per word or sign; what it does not know is `?`."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(SPECIAL + WORDS)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {"unk_token": "?", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)


def write_chat(folder: Path, context: int = 512, golden: str = "llama-full", seed: int = 6) -> Path:
    """A model whose likeliest words are 0 and 1, which one being up to the prompt and to steering."""
    shutil.copytree(GOLDENS / golden, folder)
    (folder / "expected.npz").unlink()
    config = json.loads((folder / "config.json").read_text()) | {"max_position_embeddings": context}
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    head = weights["lm_head.weight" if "lm_head.weight" in weights else "embed_out.weight"]
    answer = np.random.default_rng(seed).normal(size=head.shape[1]).astype(np.float32)
    head[:2] = 8 * np.stack([answer, -answer]) * np.abs(head).mean()
    save_file(weights, folder / "model.safetensors")
    word_tokenizer(folder)
    return folder


def write_set(path: Path, rows: int = ROWS) -> Path:
    """Statements in groups of two. Row 12, the first to evaluate on, is of the first group, which the vector knows."""
    random = np.random.default_rng(1)
    first = random.integers(2, size=rows // 2 + 1)
    lines = ["statement,label,group"]
    for row in range(rows):
        words = " ".join(random.choice(WORDS, 5, replace=False))
        lines.append(f"{words} .,{(row + first[row // 2]) % 2},{0 if row == 12 else row // 2}")
    path.write_text("\n".join(lines) + "\n")
    return path


def write_vectors(path: Path, checkpoint: str = "base_step7", seed: int = 3, scale: float = 3.0, **about) -> Path:
    """Vectors of two sets, of the first of which label 1 is good, as `jtrace trace` leaves them."""
    random = np.random.default_rng(seed)
    width = about.pop("width", WIDTH)
    arrays = {
        name: (scale * random.normal(size=(DEPTH, width))).astype(np.float32) for name in ("stereoset", "toxigen")
    }
    made = {
        "checkpoint": checkpoint,
        "kind": "mass_mean",
        "layers": list(range(DEPTH)),
        "label_one_is_good": {"stereoset": True, "toxigen": False},
        "model": ABOUT_MODEL | {"width": width},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(arrays, path, metadata={VECTORS_KEY: json.dumps(made | about)})
    return path
