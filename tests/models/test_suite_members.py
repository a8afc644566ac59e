"""The real suite members at full size: their configs are read, and the params have the published number."""

import jax
import jax.numpy as jnp
import pytest

from jtrace.checkpoints.suites import SUITES
from jtrace.models.config import YarnScaling
from jtrace.models.decoder import abstract_params
from jtrace.models.families import FAMILIES, read_model_config
from tests.cases import few
from tests.models.suite_configs import MEMBERS


@pytest.mark.parametrize("member", few(MEMBERS, 12))
def test_full_size_parameter_counts_are_the_published_ones(member):
    values, count = MEMBERS[member]
    config, _ = read_model_config(values, member)
    assert sum(leaf.size for leaf in jax.tree.leaves(abstract_params(config, jnp.bfloat16))) == count


def test_the_suites_tell_the_same_counts():
    told = {repo: suite.parameters for suite in SUITES.values() for repo in suite.repos if suite.parameters}
    counted = {repo: count for repo, (_, count) in MEMBERS.items() if repo in told}
    assert counted == {repo: told[repo] for repo in counted}
    assert len(counted) > 20


def test_every_family_has_a_full_size_member():
    assert {values["model_type"] for values, _ in MEMBERS.values()} == set(FAMILIES)


def test_olmo_3_stretches_positions_where_nothing_slides():
    config, _ = read_model_config(MEMBERS["allenai/Olmo-3-1025-7B"][0], "Olmo-3")
    for i, layer in enumerate(config.layers):
        slides = (i + 1) % 4 != 0
        assert layer.window == (4096 if slides else None)
        assert isinstance(layer.rope.scaling, YarnScaling) is not slides


def test_smollm3_has_no_positions_on_every_fourth_layer():
    config, _ = read_model_config(MEMBERS["HuggingFaceTB/SmolLM3-3B-checkpoints"][0], "SmolLM3")
    assert [i for i, layer in enumerate(config.layers) if layer.rope is None] == list(range(3, 36, 4))


def test_pythia_rotates_a_quarter_of_each_head():
    config, _ = read_model_config(MEMBERS["EleutherAI/pythia-6.9b"][0], "pythia")
    assert (config.head_dim, config.rotary_dims) == (128, 32)
