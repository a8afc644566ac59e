"""Attention heads: probed one by one, and the best of them moved."""

import numpy as np
import pytest

import jtrace
from jtrace import InputError

CHOICES = [("ba be bi", [" ba", " be"])]


@pytest.fixture(scope="module")
def heads(model, data):
    return jtrace.probe_heads(model.activations(data, site="heads", progress=False), data)


def test_every_head_of_every_layer_has_a_row_best_first(model, heads):
    config = model.language_model.config
    assert heads.accuracies.shape == (config.depth, config.heads)
    assert len(heads.table) == config.depth * config.heads
    assert heads.table["accuracy"].is_monotonic_decreasing
    top = heads.table.iloc[0]
    assert heads.accuracies[int(top["layer"]), int(top["head"])] == heads.accuracies.max()
    assert f"the best is head {top['head']:.0f} of layer {top['layer']:.0f}" in repr(heads)


def test_the_vector_is_zero_but_for_the_best_heads(model, heads):
    vector, config = heads.vector(3), model.language_model.config
    moved = np.abs(vector.values.reshape(config.depth, config.heads, config.head_dim)).sum(axis=-1) > 0
    expected = {(int(row.layer), int(row.head)) for row in heads.table.head(3).itertuples()}
    assert set(map(tuple, np.argwhere(moved).tolist())) == expected
    assert vector.layers == tuple(sorted({layer for layer, _ in expected}))
    assert (vector.site, vector.values.shape[1]) == ("heads", config.heads * config.head_dim)


def test_all_its_layers_are_moved_at_once_and_strength_zero_changes_no_bit(model, heads):
    vector = heads.vector(5)
    plain = model.score(CHOICES, progress=False)[0]
    none, moved = model.score(CHOICES, steer=vector.at(layer=None, strength=[0.0, 15.0]), progress=False)
    np.testing.assert_array_equal(none[0], plain)
    assert not np.allclose(moved[0], plain)


def test_a_sum_moves_the_heads_of_both(heads):
    one, both = heads.vector(1), heads.vector(12)
    assert (one + both).layers == both.layers
    assert (both + one).layers == both.layers


@pytest.mark.parametrize("count", [0, -1, 1000])
def test_no_heads_or_too_many_are_refused(heads, count):
    with pytest.raises(InputError, match=f"count={count}: give 1 to {heads.accuracies.size} heads"):
        heads.vector(count)


def test_activations_of_another_site_are_refused(model, data, acts):
    with pytest.raises(InputError, match="activations of the site 'resid'; give those of a model's site='heads'"):
        jtrace.probe_heads(acts, data)


@pytest.mark.torch
def test_moved_heads_generate_what_torch_s_hooks_on_all_output_projections_do(place, model, heads):
    """Li et al.'s edit: α σ θ on each head's output, before the projection, from the prompt's last position on."""
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    from transformers import AutoModelForCausalLM

    vector, strength, prompt = heads.vector(6), 12.0, "ba be bi"
    ours = model.generate([prompt], steer=vector.at(layer=None, strength=strength), max_new_tokens=8, progress=False)
    theirs = AutoModelForCausalLM.from_pretrained(place / "chat", dtype=torch.float32).eval()
    words = model.language_model
    ids = torch.tensor(words.encode([prompt])[0][None].astype(np.int64))

    def push(layer):
        moved = torch.from_numpy(strength * vector.values[layer])

        def hook(_, given):
            given[0][:, -1] += moved  # the prompt's last position, then each token's

        return hook

    for layer in vector.layers:
        theirs.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(push(layer))
    with torch.no_grad():
        made = theirs.generate(ids, max_new_tokens=8, do_sample=False, eos_token_id=list(words.stop), pad_token_id=0)
    tokens = made[0, ids.shape[1] :].numpy().astype(np.int32)
    assert ours == words.decode([tokens])
