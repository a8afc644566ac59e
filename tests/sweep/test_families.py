"""A checkpoint of every family goes the whole way of a trace, and answers as a target."""

import shutil

import numpy as np
import pytest

import jtrace
from tests.conftest import GOLDENS, letter_tokenizer
from tests.goldens.variants import COVERING

RANDOM = np.random.default_rng(0)
TEXTS = tuple("".join(RANDOM.choice(list("abcdefgh "), 7)) + "xy"[i % 2] for i in range(200))
# Variants that go another way than most: fused, transposed, of experts, with norms of embeddings.
FIRST = ("gpt2-by-layer-untied", "bloom-six-heads-untied", "olmoe-grouped-tied-clipped")
NEXT = ("gemma2-full", "phi3-partial-grouped-tied-window", "apertus-multiquery-bias", "hf_olmo-grouped-rms")


def marks(name):
    return () if name in FIRST else pytest.mark.slow if name in NEXT else pytest.mark.long


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in sorted(COVERING)])
def test_traced_and_steered(tmp_path, name):
    folder = tmp_path / name
    shutil.copytree(GOLDENS / name, folder)
    letter_tokenizer(folder)
    data = jtrace.Statements(TEXTS, np.arange(200) % 2, name="mine")
    run = jtrace.trace(str(folder), data, out=tmp_path / "run", progress=False)
    assert set(run.metrics["layer"].dropna()) >= {0, 1, 2}
    assert run.metrics.query("metric == 'probe_accuracy'")["value"].max() > 0.9  # the last letter tells the label

    model = jtrace.load_model(folder)
    vector = run.vectors(run.metrics["model"].iloc[0])["mine"]
    plain, none, pushed = (
        model.score([("abc", ["x", "y"])], steer=steer, progress=False)[0]
        for steer in (None, vector.at(1, 0.0), vector.at(1, 8.0))
    )
    np.testing.assert_array_equal(none, plain)
    assert not np.allclose(pushed, plain)
    assert len(model.generate(["abc"], steer=vector.at(1, 2.0), max_new_tokens=3, progress=False)) == 1
