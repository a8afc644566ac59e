"""Live parity with transformers' torch models: fresh random weights, both file formats, generation-length rows."""

import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.checkpoints.load import load_params
from jtrace.inference.packing import pack
from jtrace.inference.residuals import extract, extract_residuals
from jtrace.models.config import LinearScaling, Llama3Scaling, Rope, YarnScaling
from jtrace.models.layers import Norm
from jtrace.models.reading import SITES, Read
from jtrace.models.rotary import rotary_frequencies
from tests.bars import within
from tests.conftest import relative_error
from tests.goldens.variants import COVERING, VARIANTS

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytestmark = pytest.mark.torch

from tests.goldens.make_goldens import random_model, residuals_and_logits, sites  # noqa: E402

# Every variant stands beside torch's numbers in tests/models/test_decoder.py as well.
CASES = [
    *(
        pytest.param(name, "safetensors", marks=() if name in COVERING else pytest.mark.long)
        for name in sorted(VARIANTS)
    ),
    ("gpt_neox-full", "bin"),
]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_packed_residuals_equal_torch_one_by_one(tmp_path, name, kind):
    """Ragged statements with shared prefixes, packed, against one torch forward each, in every layer."""
    values = VARIANTS[name]
    model = random_model(values, seed=1234)
    model.save_pretrained(tmp_path)
    if kind == "bin":
        (tmp_path / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    random = np.random.default_rng(5)
    stem = random.integers(0, values["vocab_size"], 20, dtype=np.int32)
    statements = [
        np.concatenate([stem[:cut], random.integers(0, values["vocab_size"], n, dtype=np.int32)])
        for cut in (0, 3, 20)
        for n in (1, 8, 30)
    ]
    config, params = load_params(tmp_path, jnp.float32)
    packed = pack(statements, 96)
    found = np.asarray(extract_residuals(params, config, packed, dtype=jnp.float32))[:, packed.distinct]
    for i, ids in enumerate(statements):
        expected, _ = residuals_and_logits(model, torch.from_numpy(ids.astype(np.int64))[None])
        for layer in range(config.depth):
            error = relative_error(found[layer, i], expected[layer, 0, -1])
            within("residuals, packed, against live torch, every layer", error, 1e-5)


# Goldens hold the sites of every family; these are hooked in other ways than most.
HOOKED = ("gpt2-full", "opt-bare-untied", "bloom-full", "granite-full", "olmo3-grouped-tied", "qwen3_moe-full")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in HOOKED else pytest.mark.long) for name in sorted(VARIANTS)]
)
def test_every_site_equals_torch_s_hooks(tmp_path, name):
    """Packed statements of fresh weights: each branch's addition, and the output projection's input."""
    model = random_model(VARIANTS[name], seed=77)
    model.save_pretrained(tmp_path)
    config, params = load_params(tmp_path, jnp.float32)
    random = np.random.default_rng(6)
    statements = [random.integers(0, config.vocab_size, n, dtype=np.int32) for n in (1, 9, 30)]
    packed, wanted = pack(statements, 48), [Read(site) for site in SITES]
    values = extract(params, config, packed, wanted, dtype=jnp.float32)
    for i, ids in enumerate(statements):
        expected = sites(model, torch.from_numpy(ids.astype(np.int64))[None])
        for site in ("attn", "mlp", "heads"):
            of_site = np.asarray(values[Read(site)])[:, packed.distinct[i]]
            for layer in range(config.depth):
                error = relative_error(of_site[layer], expected[site][layer, 0, -1])
                within("sites, packed, against live torch, every layer", error, 1e-5)


@pytest.mark.real
def test_smollm2_equals_torch_in_every_layer(smollm2):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32).eval()
    random = np.random.default_rng(0)
    statements = [random.integers(0, 49152, n, dtype=np.int32) for n in (1, 17, 60)]
    config, params = load_params(smollm2, jnp.float32)
    packed = pack(statements, 128)
    found = np.asarray(extract_residuals(params, config, packed, dtype=jnp.float32))[:, packed.distinct]
    for i, ids in enumerate(statements):
        expected, _ = residuals_and_logits(model, torch.from_numpy(ids.astype(np.int64))[None])
        errors = [relative_error(found[layer, i], expected[layer, 0, -1]) for layer in range(config.depth)]
        within("residuals, SmolLM2, against live torch, every layer", max(errors), 1e-5)


@pytest.mark.parametrize("head_dim", [8, 10, 64, 80, 128])
@pytest.mark.parametrize("theta", [50.0, 1e4, 1e5, 5e5])
@pytest.mark.parametrize("kind", ["default", "linear", "llama3", "yarn"])
def test_rotary_frequencies_are_torch_s_to_two_units_in_the_last_place(head_dim, theta, kind):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    settings = {"rope_type": kind, "rope_theta": theta}
    scaling = None
    if kind == "linear":
        settings, scaling = settings | {"factor": 4.0}, LinearScaling(4.0)
    if kind == "llama3":
        extra = {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
        settings, scaling = settings | extra, Llama3Scaling(8.0, 1.0, 4.0, 8192)
    if kind == "yarn":
        extra = {"factor": 8.0, "original_max_position_embeddings": 2048, "beta_fast": 24.0, "beta_slow": 2.0}
        settings, scaling = settings | extra, YarnScaling(8.0, 24.0, 2.0, 2048, attention_factor=1.0)
    config = LlamaConfig(
        hidden_size=4 * head_dim, num_attention_heads=4, max_position_embeddings=16384, rope_parameters=settings
    )
    expected = LlamaRotaryEmbedding(config).inv_freq
    np.testing.assert_array_max_ulp(rotary_frequencies(Rope(theta, scaling), head_dim), expected.numpy(), maxulp=2)


def torch_norms(width):
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.models.olmo.modeling_olmo import OlmoLayerNorm
    from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm

    return {
        "rms": LlamaRMSNorm(width, eps=1e-5),
        "rms_late_cast": Olmo2RMSNorm(width, eps=1e-5),
        "layer": torch.nn.LayerNorm(width, eps=1e-5),
        "layer_bare": OlmoLayerNorm(width),
    }


@pytest.mark.parametrize("kind", ["rms", "rms_late_cast", "layer", "layer_bare"])
def test_norms_round_in_bfloat16_where_torch_s_do(kind):
    """In float32 the order of cast and weight does not show; in bfloat16 another order changes every third value."""
    generator = torch.Generator().manual_seed(0)
    theirs = torch_norms(256)[kind].to(torch.bfloat16)
    x = torch.randn(4, 100, 256, generator=generator).to(torch.bfloat16)
    params = {}
    for name, value in theirs.named_parameters():
        value.data = torch.randn(256, generator=generator).to(torch.bfloat16)
        params[name] = jnp.asarray(value.data.float().numpy(), jnp.bfloat16)
    with torch.no_grad():
        expected = theirs(x).float().numpy()
    found = Norm(kind, 1e-5).apply({"params": params}, jnp.asarray(x.float().numpy(), jnp.bfloat16))
    # Float32 sums in another order move a value over a rounding boundary now and then.
    assert np.mean(np.asarray(found, np.float32) != expected) < 2e-3
