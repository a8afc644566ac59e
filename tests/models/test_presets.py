"""Presets are configs that the decoder and transformers read alike."""

import jax
import jax.numpy as jnp
import pytest

from jtrace.errors import InputError
from jtrace.models.decoder import abstract_params
from jtrace.models.families import read_model_config
from jtrace.models.presets import PRESETS, find_preset
from jtrace.pretraining.step import count_params


@pytest.mark.parametrize(("name", "millions"), [("tiny", 1.115), ("small", 3.05), ("160m", 162.3), ("1b", 1100.0)])
def test_a_preset_has_the_parameters_that_it_promises(name, millions):
    preset = PRESETS[name]
    config, _ = read_model_config(preset.config_json(preset.vocab_size, preset.context, 0, 1), name)
    params = abstract_params(config, jnp.float32)
    assert count_params(params) / 1e6 == pytest.approx(millions, rel=0.01)
    assert jax.tree.leaves(params)[0].dtype == jnp.float32


def test_an_unknown_preset_is_refused_with_those_that_there_are():
    with pytest.raises(InputError, match="--preset=huge: not known; there are tiny, small, 160m, 1b"):
        find_preset("huge")
