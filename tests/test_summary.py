"""The table at the end of a run."""

import numpy as np

from jtrace.summary import COLUMNS, as_text, best_layers
from tests.tables import metrics_table


def test_the_summary_names_the_best_layer_of_each_set_and_checkpoint():
    best = best_layers(metrics_table([20, 3]), "paper")
    assert tuple(best.columns) == COLUMNS
    assert list(best["checkpoint"]) == ["llama@step3", "llama@step20"] * 2
    assert set(best["best layer"]) == {2}
    np.testing.assert_allclose(best["accuracy"], [0.803, 0.82] * 2)
    assert "llama@step3" in as_text(best)
