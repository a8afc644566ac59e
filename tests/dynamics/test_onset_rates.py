"""How often an onset is found where probe and text are equally good, and where one was planted.

Axes: T checkpoints, L layers, N rows, B draws, the first of them the rows as they are.
"""

import numpy as np
import pytest

from jtrace.stats.change_points import onset

ROWS, LAYERS, FOLDS, DRAWS, HARD = 300, 8, 5, 200, 0.5
STEPS = np.arange(12)
EQUAL, PLANTED = np.full(12, 0.7), np.where(STEPS >= 5, 0.85, 0.6)


def right(random, accuracy, wander):
    """Whether each layer's probe is right of each row, [T, L, N].

    Rows are as hard for all; what else decides goes on from checkpoint to checkpoint with the autocorrelation `wander`.
    """
    own = random.normal(size=(len(STEPS), LAYERS, ROWS))
    for place in STEPS[1:]:
        own[place] = wander * own[place - 1] + np.sqrt(1 - wander**2) * own[place]
    score = HARD * random.normal(size=ROWS) + np.sqrt(1 - HARD**2) * own
    return score < np.quantile(random.normal(size=100_000), accuracy)[:, None, None]


def gains(seed, accuracy, wander, text=0.7):
    """Gains over the text line of every layer, [T, L, B], and with layers chosen on rows apart, [T, B].

    Each fold takes the layer that is best on all other rows, which are its training rows.
    """
    random = np.random.default_rng(seed)
    is_right = right(random, accuracy, wander)
    drawn = random.multinomial(ROWS, np.full(ROWS, 1 / ROWS), DRAWS)
    weights = np.concatenate([np.ones((1, ROWS)), drawn]) / ROWS
    line = np.maximum(weights @ (random.random(ROWS) < text), 0.5)
    fold = np.arange(ROWS) % FOLDS
    best = np.stack([is_right[..., fold != one].mean(axis=-1).argmax(axis=1) for one in range(FOLDS)])
    held_out = is_right[STEPS[:, None], best[fold].T, np.arange(ROWS)]
    return is_right @ weights.T - line, held_out @ weights.T - line


def found(gain):
    low, high = np.quantile(gain[:, 1:], [0.025, 0.975], axis=1)
    return onset(STEPS, gain[:, 0], (high - low) / 3.92, 0.0, draws=40)


def at_the_layer_that_looks_best(gain):
    return gain[:, gain[-1, :, 0].argmax()]


def test_where_probe_and_text_are_equal_an_onset_is_seldom_found():
    assert np.mean([found(gains(seed, EQUAL, 0.6)[1]) is not None for seed in range(40)]) <= 0.1


@pytest.mark.statistics
@pytest.mark.parametrize("wander", [0.0, 0.6, 0.9])
def test_rate_of_onsets_where_probe_and_text_are_equal(wander):
    pairs = [gains(seed, EQUAL, wander) for seed in range(400)]
    false = np.mean([found(chosen) is not None for _, chosen in pairs])
    lucky = np.mean([found(at_the_layer_that_looks_best(gain)) is not None for gain, _ in pairs])
    print(
        f"\nonset where probe and text are equal, autocorrelation {wander}: {false:.1%} with layers chosen on rows "
        f"apart, {lucky:.1%} at the layer that looks best"
    )
    assert false <= 0.05


@pytest.mark.statistics
def test_planted_onsets_are_found_with_layers_chosen_on_rows_apart():
    places = [one.index if one else None for one in (found(gains(seed, PLANTED, 0.6)[1]) for seed in range(400))]
    near = np.mean([place in (4, 5, 6) for place in places])
    print(f"\nplanted onset found within a checkpoint: {near:.1%}")
    assert near >= 0.95
