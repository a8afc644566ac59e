"""A tiny checkpoint of random weights, a tokeniser of letters and fifty statements, to measure in seconds."""

from pathlib import Path

import numpy as np

from jtrace.benchmark.shapes import SHAPES, write_shape
from jtrace.benchmark.workload import Setting
from tests.conftest import LETTERS, letter_tokenizer


def setting_of(folder: Path, dtype: str = "float32", sample: int | None = None, rounds: int = 1) -> Setting:
    """What to measure, written to the folder."""
    write_shape(folder / "tiny", SHAPES["tiny"])
    letter_tokenizer(folder / "tiny")
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(list(LETTERS[:26]), 2 + i % 7)) + (" yes" if i % 2 else " no") for i in range(50)]
    rows = "".join(f"{text},{i % 2}\n" for i, text in enumerate(texts))
    (folder / "mine.csv").write_text("statement,label\n" + rows)
    return Setting(
        checkpoint=folder / "tiny",
        tokenizer=folder / "tiny",
        statements=(str(folder / "mine.csv"),),
        data_dir=None,
        dtype=dtype,
        rounds=rounds,
        limit=None,
        sample=sample,
        new_tokens=4,
        prompts=4,
    )
