"""Conversion: strict both ways, cast on the way, nothing that is not finite."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import AbstractMesh
from safetensors.numpy import load_file, save_file

from jtrace.checkpoints.formats.mapped_file import MappedFile
from jtrace.checkpoints.load import destinations, load_params, params_bytes, stage_params, staging_device
from jtrace.errors import InputError
from jtrace.models.families import FAMILIES, read_model_config
from jtrace.models.sharding import DATA, MODEL, Layout, parse_mesh
from tests.cases import few
from tests.conftest import GOLDENS, ROOT

Q = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a golden checkpoint to damage."""
    return Path(shutil.copytree(GOLDENS / "llama-full", tmp_path / "model"))


def edit_weights(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def edit_config(folder: Path, **changes) -> None:
    values = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in values.items() if v is not ...}))


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as error:
        load_params(folder, jnp.float32)
    message = str(error.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def test_layers_are_stacked_in_order(folder):
    config, params = load_params(folder, jnp.float32)
    weights = load_file(folder / "model.safetensors")
    for layer in range(config.depth):
        np.testing.assert_array_equal(
            params["blocks"]["attention"]["q"]["weight"][layer],
            weights[f"model.layers.{layer}.self_attn.q_proj.weight"],
        )
    np.testing.assert_array_equal(params["head"], weights["lm_head.weight"])


@pytest.mark.parametrize("stored", few([np.float32, np.float16, ml_dtypes.bfloat16], 2))
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_every_stored_dtype_is_cast_to_the_wanted_one(folder, stored, dtype):
    edit_weights(folder, lambda w: w.update({name: value.astype(stored) for name, value in w.items()}))
    _, params = load_params(folder, dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    expected = load_file(folder / "model.safetensors")[Q].astype(dtype)
    np.testing.assert_array_equal(np.asarray(params["blocks"]["attention"]["q"]["weight"][1]), expected)


def test_a_shallower_read_leaves_the_upper_blocks_out(folder):
    config, params = load_params(folder, jnp.float32, depth=2)
    assert config.depth == 2
    assert params["blocks"]["mlp"]["up"]["weight"].shape[0] == 2


def test_nothing_of_the_upper_blocks_is_read(folder, monkeypatch):
    read = set()
    original = MappedFile.read
    monkeypatch.setattr(MappedFile, "read", lambda file, name: read.add(name) or original(file, name))
    load_params(folder, jnp.float32, depth=2)
    upper = {name for name in load_file(folder / "model.safetensors") if name.startswith("model.layers.2.")}
    assert read == load_file(folder / "model.safetensors").keys() - upper
    assert upper


@pytest.mark.parametrize("change", [{}, {"model.layers.2.mlp.up_proj.weight": np.zeros((2, 24), np.float32)}])
def test_upper_blocks_that_are_not_read_are_checked_all_the_same(folder, change):
    edit_weights(folder, lambda w: w.update(change) if change else w.pop("model.layers.2.mlp.up_proj.weight"))
    with pytest.raises(InputError, match=r"model\.layers\.2\.mlp\.up_proj\.weight"):
        load_params(folder, jnp.float32, depth=2)


def test_old_buffers_are_ignored(folder):
    edit_weights(folder, lambda w: w.update({"model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(3, np.float32)}))
    load_params(folder, jnp.float32)


def test_a_tied_head_may_be_stored_but_not_differ(folder):
    edit_config(folder, tie_word_embeddings=True)
    assert "ties head and embedding" in refusal(folder)
    edit_weights(folder, lambda w: w.update({"lm_head.weight": w["model.embed_tokens.weight"].copy()}))
    _, params = load_params(folder, jnp.float32)
    assert "head" not in params


@pytest.mark.parametrize("bad", few([np.nan, np.inf, -np.inf]))
def test_weights_that_are_not_finite_are_refused_by_name(folder, bad):
    edit_weights(folder, lambda w: w[Q].__setitem__((3, 3), bad))
    assert f"NaN or infinite values as float32 in tensor '{Q}'" in refusal(folder)


def test_weights_that_overflow_the_wanted_dtype_are_refused(folder):
    edit_weights(folder, lambda w: w[Q].__setitem__((3, 3), 3.4e38))  # above bfloat16's largest number
    load_params(folder, jnp.float32)
    with pytest.raises(InputError, match="NaN or infinite values as bfloat16"):
        load_params(folder, jnp.bfloat16)


def test_missing_left_over_and_misshapen_tensors_are_named(folder):
    edit_weights(folder, lambda w: w.update({"model.extra": w[Q]}))
    assert "'model.extra' left over" in refusal(folder)
    edit_weights(folder, lambda w: w.pop("model.extra"))
    edit_weights(folder, lambda w: w.update({Q: w[Q][:-1]}))
    assert f"'{Q}' has shape [23, 24]; config.json asks for [24, 24]" in refusal(folder)
    edit_weights(folder, lambda w: w.pop(Q))
    assert f"tensor '{Q}' missing" in refusal(folder)


def test_biases_that_the_config_does_not_announce_are_left_over(folder):
    edit_weights(folder, lambda w: w.update({Q.replace("weight", "bias"): np.zeros(24, np.float32)}))
    assert "left over" in refusal(folder)


def test_integer_weights_are_refused(folder):
    edit_weights(folder, lambda w: w.update({Q: w[Q].astype(np.int8)}))
    assert "is int8; float32, float16 or bfloat16 is needed" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"model_type": "mamba"}, "model type 'mamba' is not implemented; known are llama, mistral, gpt_neox"),
        ({"model_type": ...}, "model type None is not implemented"),
        ({"hidden_act": "xielu"}, "hidden_act 'xielu' is not implemented"),
        ({"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}, "rope type 'longrope' is not implemented"),
        ({"rope_parameters": {"rope_type": "yarn", "mscale": 1.0}}, "rope setting 'mscale' is not implemented"),
        ({"rope_parameters": {"rope_type": "default", "beta_fast": 1}}, "rope setting 'beta_fast' is not implemented"),
        ({"rope_parameters": {"rope_type": "linear"}}, "'rope factor' is None"),
        ({"hidden_size": ...}, "'hidden_size' is missing"),
        ({"hidden_size": "24"}, "'hidden_size' is '24'"),
        ({"num_key_value_heads": 3}, "4 is not a multiple of num_key_value_heads 3"),
        ({"head_dim": 7}, "head_dim 7 is odd"),
        ({"rms_norm_eps": -1.0}, "'rms_norm_eps' is -1.0"),
        ({"quantization_config": {"bits": 4}}, "'quantization_config' = {'bits': 4} is not implemented"),
        ({"rope_interleaved": True}, "'rope_interleaved' = True is not implemented"),
        ({"attention_bias": "yes"}, "'attention_bias' is 'yes'"),
    ],
)
def test_configs_that_ask_for_what_is_not_implemented_are_refused_by_name(folder, change, cause):
    edit_config(folder, **change)
    assert cause in refusal(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"rope_parameters": ..., "rope_theta": 10000.0, "rope_scaling": None},
        {"rope_parameters": ...},
        {"rope_interleaved": False, "is_llama_config": True, "pretraining_tp": 1, "transformers_version": "4.48.0"},
    ],
)
def test_older_configs_say_the_same_in_other_words(folder, change):
    expected, _ = load_params(folder, jnp.float32)
    edit_config(folder, **change)
    assert load_params(folder, jnp.float32)[0] == expected


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("gpt_neox-full", {"rope_parameters": ..., "rotary_pct": 0.34, "rotary_emb_base": 10000}),
        ("gpt_neox-full", {"rope_parameters": ..., "rotary_pct": 0.34}),
        (
            "gpt_neox-full",
            {
                "rope_parameters": ...,
                "rotary_pct": 0.34,
                "partial_rotary_factor": 0.34,
                "rotary_emb_base": 10000,
                "rope_theta": 10000,
            },
        ),
        (
            "llama-full",
            {"partial_rotary_factor": 1.0, "use_sliding_window": False, "tokenizer_class": "LlamaTokenizer"},
        ),
        (
            "gpt_neox-rope-linear",
            {
                "rope_parameters": ...,
                "rope_scaling": {"type": "linear", "factor": 3.0},
                "rotary_pct": 1.0,
                "rotary_emb_base": 50,
            },
        ),
        ("smollm3-full", {"rope_parameters": ..., "rope_theta": 10000.0, "no_rope_layers": [1, 1, 1, 0, 1]}),
        ("qwen2-full", {"sliding_window": 131072, "max_window_layers": 28, "use_mrope": False}),
        ("qwen2-full", {"sliding_window": None, "use_sliding_window": True}),
        ("qwen3-full", {"layer_types": ["full_attention"] * 3}),
        ("olmo-full", {"clip_qkv": None, "rope_parameters": ..., "rope_theta": 10000.0, "rope_scaling": None}),
        (
            "olmo3-multiquery-bias",
            {"rope_theta": 500000, "layer_types": ["sliding_attention"] * 3 + ["full_attention"]},
        ),
    ],
)
def test_real_repositories_say_the_same_in_other_words(tmp_path, name, change):
    folder = Path(shutil.copytree(GOLDENS / name, tmp_path / "model"))
    expected, _ = load_params(folder, jnp.float32)
    edit_config(folder, **change)
    assert load_params(folder, jnp.float32)[0] == expected


def test_olmo_3_s_older_rope_scaling_is_for_full_layers_only(tmp_path):
    folder = Path(shutil.copytree(GOLDENS / "olmo3-yarn", tmp_path / "model"))
    expected, _ = load_params(folder, jnp.float32)
    nested = json.loads((folder / "config.json").read_text())["rope_parameters"]
    scaling = {key: value for key, value in nested["full_attention"].items() if key != "rope_theta"}
    edit_config(folder, rope_parameters=..., rope_scaling=scaling, rope_theta=500000)
    found, _ = load_params(folder, jnp.float32)
    assert [layer.rope.scaling for layer in found.layers] == [layer.rope.scaling for layer in expected.layers]
    assert {layer.rope.theta for layer in found.layers} == {500000.0}


@pytest.mark.parametrize(
    ("name", "change", "cause"),
    [
        ("olmo3-yarn", {"rope_parameters": {"rope_type": "default"}}, "an object for each of sliding_attention"),
        ("olmo3-yarn", {"rope_parameters": ..., "rope_theta": 10000.0}, "does not say for which layers"),
        ("olmo3-yarn", {"sliding_window": None}, "no sliding window is set or used"),
        ("olmo3-yarn", {"layer_types": ["full_attention"]}, "a list of 4 of sliding_attention, full_attention"),
        ("olmo3-yarn", {"layer_types": ["chunked_attention"] * 4}, "a list of 4 of sliding_attention, full_attention"),
        ("smollm3-full", {"no_rope_layers": [1, 1]}, "a list of 4 values 0 or 1"),
        ("gpt_neox-full", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "it must be even"),
        ("gpt_neox-full", {"num_attention_heads": 5}, "24 is not a multiple of num_attention_heads 5"),
        ("olmo-full", {"clip_qkv": -1.0}, "'clip_qkv' is -1.0"),
        ("qwen3-full", {"num_key_value_heads": 3}, "4 is not a multiple of num_key_value_heads 3"),
        ("qwen2-full", {"attention_bias": True}, "'attention_bias' = True is not implemented"),
        ("gpt_neox-full", {"rope_theta": 50.0, "rotary_emb_base": 10000}, "'rope_theta' and 'rotary_emb_base' differ"),
        ("llama-full", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "both given and differ"),
        ("llama-full", {"partial_rotary_factor": 0.5}, "'partial_rotary_factor' = 0.5 is not implemented"),
    ],
)
def test_family_fields_that_cannot_be_honoured_are_refused_by_name(tmp_path, name, change, cause):
    folder = Path(shutil.copytree(GOLDENS / name, tmp_path / "model"))
    edit_config(folder, **change)
    assert cause in refusal(folder)


def test_a_head_is_found_under_either_name(tmp_path):
    """Files of GPT-NeoX call it embed_out, transformers 5 lm_head."""
    folder = Path(shutil.copytree(GOLDENS / "gpt_neox-full", tmp_path / "model"))
    _, expected = load_params(folder, jnp.float32)
    edit_weights(folder, lambda w: w.update({"embed_out.weight": w.pop("lm_head.weight")}))
    _, params = load_params(folder, jnp.float32)
    np.testing.assert_array_equal(params["head"], expected["head"])
    edit_weights(folder, lambda w: w.update({"lm_head.weight": w["embed_out.weight"].copy()}))
    assert "tensor 'lm_head.weight' left over" in refusal(folder)


def test_a_mistral_window_is_4096_where_absent_and_none_where_null(tmp_path):
    folder = Path(shutil.copytree(GOLDENS / "mistral-no-window", tmp_path / "model"))
    assert {layer.window for layer in load_params(folder, jnp.float32)[0].layers} == {None}
    edit_config(folder, sliding_window=...)
    assert {layer.window for layer in load_params(folder, jnp.float32)[0].layers} == {4096}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "not found"),
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "holds a list, not a JSON object"),
    ],
)
def test_a_config_that_is_no_json_object_is_refused(folder, content, told):
    path = folder / "config.json"
    path.unlink() if content is None else path.write_text(content)
    assert f"{path}: {told}" in refusal(folder)


def test_a_config_that_cannot_be_opened_is_not_to_be_downloaded(folder):
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    assert "config.json: cannot be read (Is a directory); check its permissions" in refusal(folder)


@pytest.mark.parametrize(
    "wrapper", few(["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "net.lm."], 2)
)
@pytest.mark.parametrize("name", few(["llama-full", "gpt_neox-sequential-tied", "qwen2-window-grouped-tied"]))
def test_what_wrapped_the_model_in_training_is_no_part_of_the_names(tmp_path, name, wrapper):
    folder = Path(shutil.copytree(GOLDENS / name, tmp_path / "model"))
    _, expected = load_params(folder, jnp.float32)
    weights = load_file(folder / "model.safetensors")
    save_file({wrapper + name: value for name, value in weights.items()}, folder / "model.safetensors")
    _, params = load_params(folder, jnp.float32)
    jax.tree.map(np.testing.assert_array_equal, params, expected)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("gpt2-by-layer-untied", "transformer."), ("bloom-six-heads-untied", "transformer."), ("opt-full", "model.")],
)
def test_files_of_a_model_without_its_head_leave_the_first_part_of_names_out(tmp_path, name, prefix):
    folder = Path(shutil.copytree(GOLDENS / name, tmp_path / "model"))
    _, expected = load_params(folder, jnp.float32)
    weights = load_file(folder / "model.safetensors")
    masks = {"h.0.attn.bias": np.ones((1, 1, 4, 4), np.float32)} if name.startswith("gpt2") else {}
    bare = {name.removeprefix(prefix): value for name, value in weights.items()}
    assert bare.keys() != weights.keys()
    save_file(bare | masks, folder / "model.safetensors")
    _, params = load_params(folder, jnp.float32)
    jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_a_wrapper_of_some_tensors_only_is_refused_with_the_names_that_are_there(folder):
    def wrap(weights) -> None:
        weights["module." + Q] = weights.pop(Q)

    edit_weights(folder, wrap)
    assert f"tensor '{Q}' missing from the weight files, which hold tensor 'module.{Q}'" in refusal(folder)


def test_weights_of_another_naming_are_refused_with_the_names_that_are_there(folder):
    def rename(weights) -> None:
        for name in sorted(weights):
            weights[name.replace("model.", "transformer.h.")] = weights.pop(name)

    edit_weights(folder, rename)
    assert "which hold 29 tensors ('transformer.h.embed_tokens.weight'" in refusal(folder)


def test_params_do_not_alias_the_files(folder):
    _, params = load_params(folder, jnp.float32)
    before = jax.tree.map(lambda leaf: np.array(leaf), params)
    path = folder / "model.safetensors"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 10)
        file.write(b"\xff" * (path.stat().st_size - file.tell()))
    jax.tree.map(np.testing.assert_array_equal, params, before)


@pytest.mark.parametrize("depth", [None, 2])
@pytest.mark.parametrize("mesh", few([None, "data:1,model:1"]))
def test_params_staged_by_a_thread_are_those_that_are_loaded(folder, depth, mesh):
    layout = parse_mesh(mesh, jax.devices()[:1]) if mesh else None
    config, expected = load_params(folder, jnp.bfloat16, depth)
    with ThreadPoolExecutor() as threads:
        staged = threads.submit(stage_params, folder, jnp.bfloat16, depth, layout, staging_device()).result()
    assert staged.config == config
    assert (
        staged.nbytes == params_bytes(config, jnp.bfloat16, layout) == sum(x.nbytes for x in jax.tree.leaves(expected))
    )
    buffers = {id(buffer) for param in staged.params.values() for buffer in param.buffers}
    params = staged.placed()
    assert staged.nbytes == 0
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    if layout is None:  # the host is the device here: nothing is copied
        assert {id(leaf) for leaf in jax.tree.leaves(params)} == buffers


def test_what_is_not_finite_is_refused_while_it_is_staged(folder):
    edit_weights(folder, lambda w: w[Q].__setitem__((3, 3), np.nan))
    with pytest.raises(InputError, match=f"NaN or infinite values as float32 in tensor '{Q}'"):
        stage_params(folder, jnp.float32, stage=staging_device())


def test_a_layout_that_does_not_fit_is_refused_before_a_weight_is_read(folder):
    (folder / "model.safetensors").unlink()
    layout = Layout(AbstractMesh((1, 3), (DATA, MODEL)))
    with pytest.raises(InputError, match="a model axis of 3 does not divide its 4 heads") as error:
        stage_params(folder, jnp.float32, layout=layout)
    assert str(error.value).startswith(f"{folder}: ")


def test_pieces_of_a_fused_tensor_are_whole_heads_of_their_part():
    config, family = read_model_config(json.loads((GOLDENS / "gpt_neox-full" / "config.json").read_text()), "test")
    tensors = load_file(GOLDENS / "gpt_neox-full" / "model.safetensors")
    for name, targets in destinations(config, family).items():
        if name not in tensors or targets[0].part is None:
            continue
        for target in targets:
            # Rows of the file are [heads, q k v, head_dim].
            part = "qkv".index(target.param.split("/")[2])
            expected = tensors[name].reshape(config.heads, 3, config.head_dim, -1)[:, part]
            rest = tuple(slice(0, size) for size in tensors[name].shape[1:])
            for first, last in ((0, config.heads), (0, 1), (1, 3)):
                rows = slice(first * config.head_dim, last * config.head_dim)
                found = target.cut(tensors[name], (slice(0, 3), rows, *rest))
                np.testing.assert_array_equal(found.ravel(), expected[first:last].ravel())


def test_without_jax_s_cpu_platform_there_is_nowhere_to_stage(monkeypatch):
    def no_cpu(backend: str) -> list[jax.Device]:
        raise RuntimeError(f"Unknown backend {backend}")

    assert staging_device() == jax.devices("cpu")[0]
    monkeypatch.setattr(jax, "local_devices", no_cpu)
    assert staging_device() is None


MEASURE = """
import resource, sys
from pathlib import Path
import jax, jax.numpy as jnp
from jtrace.checkpoints.load import load_params
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
load_params(Path(sys.argv[1]), jnp.dtype(sys.argv[3]))  # compiles for the same shapes of fewer layers
before = peak()
config, params = load_params(Path(sys.argv[2]), jnp.dtype(sys.argv[3]))
print(peak() - before, sum(leaf.nbytes for leaf in jax.tree.leaves(params)))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak resident memory is read as Linux counts it")
@pytest.mark.parametrize("dtype", few(["float32", "bfloat16"]))
def test_reading_needs_no_more_host_memory_than_params_one_shard_and_a_constant(tmp_path, dtype):
    """On a CPU the params themselves lie in host memory; everything above them is the reader's."""
    width, depth = 256, 24
    constant = 24 << 20

    def write(folder: Path, layers: int) -> Path:
        folder.mkdir()
        values = json.loads((GOLDENS / "llama-full" / "config.json").read_text())
        sizes = {"hidden_size": width, "intermediate_size": 8 * width // 3, "num_hidden_layers": layers}
        (folder / "config.json").write_text(json.dumps(values | sizes))
        config, _ = read_model_config(values | sizes, "test")
        table = destinations(config, FAMILIES["llama"])
        names = sorted(table, key=lambda name: (table[name][0].place, name))
        index = {}
        for number, part in enumerate(names[at : at + 36] for at in range(0, len(names), 36)):
            file = f"model-{number:05d}.safetensors"
            save_file({name: np.ones(table[name][0].shape, np.float32) for name in part}, folder / file)
            index |= dict.fromkeys(part, file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
        return folder

    small, large = write(tmp_path / "small", 1), write(tmp_path / "large", depth)
    sizes = [path.stat().st_size for path in large.glob("*.safetensors")]
    shard, total = max(sizes), sum(sizes)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, small, large, dtype], capture_output=True, text=True, check=True, cwd=ROOT
    )
    grown, params = map(int, done.stdout.split())
    assert grown <= params + shard + constant
    assert params + shard + constant < params + total  # the bound would catch a reader that holds the whole model
