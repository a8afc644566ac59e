"""A probe that is wrong more often than a coin is named; noise around one half is not."""

import numpy as np

from jtrace.probing.records import Metric
from jtrace.probing.reversed_probes import is_reversed, reversed_probes


def probe(layer, accuracy, protocol="paper", high=None):
    return Metric("mine", "", layer, protocol, "probe_accuracy", accuracy, 400, ci_low=None, ci_high=high)


def test_the_worst_layer_of_each_protocol_is_named():
    metrics = [probe(0, 0.5), probe(1, 0.2), probe(2, 0.1), probe(2, 0.3, "sound", 0.35), probe(3, 0.45, "sound", 0.5)]
    paper, sound = reversed_probes(metrics)
    assert paper.startswith("mine: under paper probes are right on 10% of rows at layer 2")
    assert "under sound probes are right on 30% of rows at layer 2" in sound
    assert "twins" in sound


def test_chance_is_not_named():
    random = np.random.default_rng(0)
    assert not any(is_reversed(value, None, 400) for value in random.binomial(400, 0.5, 1000) / 400)
    assert not list(reversed_probes([probe(0, 0.45), probe(1, 0.44, "sound", 0.49)]))
