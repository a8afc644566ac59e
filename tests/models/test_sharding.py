"""Layouts: what is split over which axis, what a mesh may be called, and what does not fit one."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from flax.traverse_util import flatten_dict
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from jtrace.errors import InputError
from jtrace.models.decoder import abstract_params
from jtrace.models.families import read_model_config
from jtrace.models.sharding import DATA, MODEL, Layout, check_fits, default_layout, parse_mesh, pieces
from tests.goldens.variants import VARIANTS

LLAMA = read_model_config(VARIANTS["llama-mlp-bias"], "test")[0]  # 4 heads, 40 MLP features, vocabulary 61


def layout(data: int, model: int) -> Layout:
    """A mesh of devices that need not exist."""
    return Layout(AbstractMesh((data, model), (DATA, MODEL)))


def specs(config, model: int) -> dict[str, P]:
    leaves = flatten_dict(abstract_params(config, jnp.float32), sep="/").items()
    return {path: layout(2, model).sharding(path, leaf.shape).spec for path, leaf in leaves}


def test_heads_and_features_are_split_and_what_is_summed_over_them_by_input():
    config = dataclasses.replace(LLAMA, vocab_size=64, qkv_bias=True, out_bias=True, qk_norm="width")
    assert specs(config, 2) == {
        "embedding": P(MODEL, None),
        "head": P(MODEL, None),
        "final_norm/weight": P(),
        "blocks/attention_norm/weight": P(),
        "blocks/mlp_norm/weight": P(),
        "blocks/attention/q_norm/weight": P(),
        "blocks/attention/k_norm/weight": P(),
        **{f"blocks/attention/{name}/weight": P(None, MODEL, None) for name in "qkv"},
        **{f"blocks/attention/{name}/bias": P(None, MODEL) for name in "qkv"},
        "blocks/attention/o/weight": P(None, None, MODEL),
        "blocks/attention/o/bias": P(),
        **{f"blocks/mlp/{name}/weight": P(None, MODEL, None) for name in ("gate", "up")},
        **{f"blocks/mlp/{name}/bias": P(None, MODEL) for name in ("gate", "up")},
        "blocks/mlp/down/weight": P(None, None, MODEL),
        "blocks/mlp/down/bias": P(),
    }


def test_experts_are_split_as_mlps_are_each_of_them_over_all_devices():
    config, _ = read_model_config(VARIANTS["olmoe-full"], "test")
    mlp = {path.rpartition("/")[2]: spec for path, spec in specs(config, 2).items() if path.startswith("blocks/mlp/")}
    assert mlp == {
        "router": P(),
        "gate": P(None, None, MODEL, None),
        "up": P(None, None, MODEL, None),
        "down": P(None, None, None, MODEL),
    }


def test_a_vocabulary_that_the_axis_does_not_divide_is_whole_on_every_device():
    assert specs(LLAMA, 2)["embedding"] == specs(LLAMA, 2)["head"] == P()


def test_without_a_layout_a_param_is_one_piece_on_the_default_device():
    (piece,) = pieces(None, "blocks/mlp/up/weight", (3, 40, 24))
    assert (piece.shape, piece.devices) == ((3, 40, 24), (None,))


@pytest.mark.parametrize("text", ["data:4,model:2", "model:2,data:4", " data:4, model: 2 ", "model:08", "data:8"])
def test_axes_come_in_any_order_and_are_one_where_absent(monkeypatch, text):
    monkeypatch.setattr(jax, "make_mesh", lambda shape, names, **_: AbstractMesh(shape, names))
    found = parse_mesh(text, range(8))
    expected = {"model:08": (1, 8), "data:8": (8, 1)}.get(text, (4, 2))
    assert (found.data, found.model) == expected


def test_a_layout_keys_compilations_and_says_its_sizes():
    one = parse_mesh("data:1", jax.devices()[:1])
    assert one == parse_mesh("model:1,data:1", jax.devices()[:1])
    assert len({one, parse_mesh("model:1", jax.devices()[:1])}) == 1
    assert str(one) == "data:1,model:1"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("data:4,model:3", "is a mesh of 12 devices, and there are 8; give sizes whose product is 8"),
        ("data:4", "is a mesh of 4 devices, and there are 8"),
        ("data:4,tensor:2", "'tensor' is no axis of the mesh; name data and model"),
        ("", "'' is no axis of the mesh"),
        ("data:4,", "'' is no axis of the mesh"),
        ("data:4,data:2", "gives the axis data twice"),
        ("data:0,model:8", "the size of data is '0'; give a positive whole number"),
        ("data:many", "the size of data is 'many'"),
        ("data", "the size of data is ''"),
        ("data:-8", "the size of data is '-8'"),
        ("data:²", "the size of data is '²'"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused(text, cause):
    with pytest.raises(InputError) as error:
        parse_mesh(text, range(8))
    assert str(error.value).startswith(f"--mesh={text}: ")
    assert cause in str(error.value)


def test_a_single_device_needs_no_mesh_and_several_share_the_rows(monkeypatch):
    monkeypatch.setattr(jax, "make_mesh", lambda shape, names, **_: AbstractMesh(shape, names))
    assert default_layout(jax.devices()[:1]) is None
    found = default_layout(range(8))
    assert (found.data, found.model) == (8, 1)


def test_a_model_axis_that_divides_heads_and_features_fits():
    check_fits(layout(8, 1), LLAMA, "here")
    check_fits(layout(1, 4), LLAMA, "here")


def test_what_the_model_axis_does_not_divide_is_named_with_what_it_might_be():
    with pytest.raises(InputError) as error:
        check_fits(layout(1, 8), LLAMA, "runs/model")
    assert str(error.value) == (
        "runs/model: a model axis of 8 does not divide its 4 heads and 4 key/value heads; "
        "give --mesh a model axis of 1 or 2 or 4"
    )
    grouped = dataclasses.replace(LLAMA, kv_heads=2, mlp_width=42)
    with pytest.raises(InputError, match=r"its 2 key/value heads and 42 MLP features; .* of 1 or 2$"):
        check_fits(layout(1, 4), grouped, "here")
