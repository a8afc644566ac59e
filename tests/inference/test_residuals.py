"""Extraction: what a statement's residual is must not depend on how it was packed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.checkpoints.load import load_params
from jtrace.errors import InputError
from jtrace.inference import residuals as inference_residuals
from jtrace.inference.packing import pack
from jtrace.inference.residuals import extract_residuals, pack_sets
from tests.bars import within
from tests.cases import few
from tests.conftest import GOLDENS, relative_error

# Shapes differ, so sums are taken in another order: float32 rounding, nothing more.
SAME = 1e-5
VARIANT = GOLDENS / "mistral-window"


@pytest.fixture(scope="module")
def model():
    return load_params(VARIANT, jnp.float32)


@pytest.fixture(scope="module")
def statements() -> list[np.ndarray]:
    """Shared, nested, repeated and lone sequences, 1 to 30 tokens."""
    random = np.random.default_rng(1)
    stems = [random.integers(0, 61, n, dtype=np.int32) for n in (12, 5, 1)]
    grown = [np.concatenate([stem, random.integers(0, 61, n, dtype=np.int32)]) for stem in stems for n in (0, 1, 7, 18)]
    return [*grown, grown[2], grown[5]]


def one_by_one(model, statements) -> np.ndarray:
    """The reference: every statement alone in its own row."""
    config, params = model
    rows = [extract_residuals(params, config, pack([ids], len(ids)), dtype=jnp.float32)[:, 0] for ids in statements]
    return np.stack(rows, axis=1)


@pytest.fixture(scope="module")
def alone(model, statements) -> np.ndarray:
    return one_by_one(model, statements)


def test_alone_equals_torch(model):
    expected = np.load(VARIANT / "expected.npz")
    tokens = expected["tokens"]
    found = one_by_one(model, [tokens[0], tokens[1, :7]])
    assert relative_error(found[:, 0], expected["residuals"][:, 0, -1]) <= SAME
    assert relative_error(found[:, 1], expected["residuals"][:, 1, 6]) <= SAME


@pytest.mark.parametrize("width", [30, 37, 64, 300])
@pytest.mark.parametrize("batch_slots", few([128, 1, 4096]))
def test_packing_changes_no_residual(model, statements, alone, width, batch_slots):
    config, params = model
    packed = pack(statements, width)
    found = np.asarray(extract_residuals(params, config, packed, dtype=jnp.float32, batch_slots=batch_slots))[
        :, packed.distinct
    ]
    for layer in range(config.depth):
        for i in range(len(statements)):
            error = relative_error(found[layer, i], alone[layer, i])
            within("residuals, packed against one by one", error, SAME)


def test_the_order_of_statements_changes_no_bit(model, statements):
    config, params = model
    order = np.random.default_rng(0).permutation(len(statements))
    one, other = pack(statements, 64), pack([statements[i] for i in order], 64)
    found = np.asarray(extract_residuals(params, config, one, dtype=jnp.float32))[:, one.distinct]
    again = np.asarray(extract_residuals(params, config, other, dtype=jnp.float32))[:, other.distinct]
    np.testing.assert_array_equal(found[:, order], again)


def test_several_sets_share_one_packing(model, statements, alone):
    config, params = model
    sets = pack_sets({"a": statements[:5], "b": statements[3:]}, config)
    residuals = np.asarray(extract_residuals(params, config, sets.packed, dtype=jnp.float32))
    assert sets.packed.count == len({ids.tobytes() for ids in statements})
    assert relative_error(residuals[:, sets.members["a"]], alone[:, :5]) <= SAME
    assert relative_error(residuals[:, sets.members["b"]], alone[:, 3:]) <= SAME


def test_a_truncated_model_gives_the_same_lower_layers(model, statements):
    config, params = model
    packed = pack(statements, 64)
    lower_config, lower = load_params(VARIANT, jnp.float32, depth=2)
    assert lower_config.depth == 2
    full = np.asarray(extract_residuals(params, config, packed, dtype=jnp.float32))
    np.testing.assert_array_equal(extract_residuals(lower, lower_config, packed, dtype=jnp.float32), full[:2])


def test_other_weights_of_the_same_shape_compile_nothing(model, statements):
    config, params = model
    packed = pack(statements, 64)
    inference_residuals._forward.clear_cache()
    extract_residuals(params, config, packed, dtype=jnp.float32)
    compiled = inference_residuals._forward._cache_size()
    extract_residuals({**params, "embedding": params["embedding"] * 2}, config, packed, dtype=jnp.float32)
    assert compiled == 1
    assert inference_residuals._forward._cache_size() == compiled


def test_a_residual_that_overflows_is_an_error_that_names_the_layer(model, statements):
    config, params = model
    weight = params["blocks"]["mlp"]["down"]["weight"]
    mlp = {**params["blocks"]["mlp"], "down": {"weight": weight.at[1].set(3e38)}}
    broken = {**params, "blocks": {**params["blocks"], "mlp": mlp}}
    with pytest.raises(InputError, match="layer 1 is NaN, infinite or beyond"):
        extract_residuals(broken, config, pack(statements, 64), dtype=jnp.float32)


@pytest.mark.parametrize("variant", ["mistral-window", "smollm3-grouped-untied-windows"])
@pytest.mark.slow
def test_another_attention_changes_no_residual(variant, statements, monkeypatch):
    config, params = load_params(GOLDENS / variant, jnp.float32)
    packed = pack(statements, 100)
    expected = extract_residuals(params, config, packed, dtype=jnp.float32)
    found = extract_residuals(params, config, packed, dtype=jnp.float32, attention="pallas")
    assert relative_error(found, expected) <= SAME

    # cuDNN needs its GPU; what it is asked for, XLA can do.
    asked, done_by_xla = [], jax.nn.dot_product_attention

    def instead(*args, implementation, **kwargs):
        asked.append(implementation)
        return done_by_xla(*args, **kwargs)

    monkeypatch.setattr(jax.nn, "dot_product_attention", instead)
    inference_residuals._forward.clear_cache()
    found = extract_residuals(params, config, packed, dtype=jnp.float32, attention="cudnn")
    inference_residuals._forward.clear_cache()
    assert set(asked) == {"cudnn"}
    assert relative_error(found, expected) <= SAME


@pytest.mark.parametrize(
    ("rows", "most", "expected"),
    [(99, 9, 9), (99, 8, 6), (100, 9, 8), (207, 18, 16), (7, 9, 7), (1, 4, 1)],
    ids=["even", "least padding", "no divisor near", "nearly even", "one batch", "one row"],
)
def test_batches_are_filled_up_with_as_few_rows_of_padding_as_can_be(rows, most, expected):
    """Between three quarters of what a batch may hold and all of it."""
    of_one_token = pack([np.array([number], np.int32) for number in range(rows)], width=1)
    assert inference_residuals._rows_at_once(of_one_token, most, None) == expected
