"""Routing: which experts a token is sent to, and with what weights."""

import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.models.config import Experts
from jtrace.models.experts import route


def test_weights_are_shares_of_the_softmax_over_all_experts():
    logits = jnp.log(jnp.array([[0.1, 0.4, 0.2, 0.3]]))
    weights, chosen = route(logits, Experts(4, 2, renormalised=False))
    assert chosen.tolist() == [[1, 3]]
    np.testing.assert_allclose(weights, [[0.4, 0.3]], rtol=1e-6)
    renormalised, _ = route(logits, Experts(4, 2, renormalised=True))
    np.testing.assert_allclose(renormalised, [[4 / 7, 3 / 7]], rtol=1e-6)


def test_of_equally_likely_experts_the_first_are_taken():
    assert route(jnp.zeros((1, 5)), Experts(5, 3, renormalised=False))[1].tolist() == [[0, 1, 2]]


@pytest.mark.torch
@pytest.mark.parametrize("renormalised", [False, True])
def test_choices_are_torch_s_on_ten_thousand_tokens(renormalised):
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    from transformers import OlmoeConfig
    from transformers.models.olmoe.modeling_olmoe import OlmoeTopKRouter

    theirs = OlmoeTopKRouter(
        OlmoeConfig(hidden_size=48, num_experts=8, num_experts_per_tok=2, norm_topk_prob=renormalised)
    )
    random = np.random.default_rng(0)
    tokens, router = (random.normal(size=shape).astype(np.float32) for shape in ((10_000, 48), (8, 48)))
    with torch.no_grad():
        theirs.weight.copy_(torch.from_numpy(router))
        logits, weights, chosen = theirs(torch.from_numpy(tokens))
    ours, indices = route(jnp.asarray(logits.numpy()), Experts(8, 2, renormalised))
    np.testing.assert_array_equal(indices, chosen.numpy())
    np.testing.assert_allclose(ours, weights.numpy(), rtol=1e-6)
    # And with the router's own product.
    _, of_tokens = route(jnp.einsum("md,ed->me", tokens, router, precision="highest"), Experts(8, 2, renormalised))
    np.testing.assert_array_equal(of_tokens, chosen.numpy())
