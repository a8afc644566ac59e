"""A sweep over copies of one checkpoint beside torch's loop."""

import json

import numpy as np
import pytest

from jtrace.benchmark.cases.sweep import CASE, COPIES, METRICS, fitting_tokenizer
from jtrace.benchmark.decoder_floor import distinct_prefixes
from jtrace.benchmark.workload import BATCHED, JTRACE, PUBLISHED, Setting, Workload
from jtrace.data.tokenizer import encode, read_tokenizer
from jtrace.errors import InputError


@pytest.fixture
def shared(steps):
    """Of a tiny model and 40 statements, for any contender."""

    def of(contender: str, sample: int | None = None) -> Workload:
        folder, sets = steps / "tiny/step10", (str(steps / "mine.csv"),)
        setting = Setting(folder, folder, sets, None, "float32", 1, None, sample, new_tokens=1, prompts=1)
        return Workload(setting, contender)

    return of


def test_a_sweep_is_measured_by_its_checkpoints(shared):
    found = CASE.measure(JTRACE, shared(JTRACE))
    assert found.units == COPIES
    assert len(found.rounds) == 1
    assert set(found.arrays) == {f"mine {metric}" for metric in METRICS}
    assert all(values.shape == (3,) for values in found.arrays.values())


def test_the_floor_counts_what_slots_that_hold_tokens_see(shared):
    process = shared(JTRACE)
    floor = CASE.measure(JTRACE, process).floor
    packed, config = distinct_prefixes(process.all_tokens), process.config
    weights = 2 * config.width * (2 * config.heads + 2 * config.kv_heads) * config.head_dim
    weights += 6 * config.width * config.mlp_width
    seen = 0
    for ends, used in zip(packed.ends, packed.used, strict=True):
        i, j = np.indices((used, used))
        seen += int(((i <= j) & (j < ends[:used, None])).sum())
    attention = 4 * config.heads * config.head_dim
    expected = COPIES * config.depth * (packed.used.sum() * weights + seen * attention)
    assert floor.operations == expected


@pytest.mark.torch
def test_tables_are_those_of_the_published_statistics(shared):
    pytest.importorskip("torch")
    found = {name: CASE.measure(name, shared(name)).arrays for name in (JTRACE, PUBLISHED, BATCHED)}
    apart = {agreement.name: agreement.value for agreement in CASE.agree(found)}
    assert set(apart) == {f"{metric} apart from {peer}" for metric in METRICS for peer in (PUBLISHED, BATCHED)}
    # One of the eight test rows may fall on the other side; the published inverse is float32.
    assert max(value for name, value in apart.items() if name.startswith("probe")) <= 1 / 8
    assert max(value for name, value in apart.items() if name.startswith("mi")) <= 0.05


@pytest.mark.torch
def test_a_sample_leaves_the_published_procedure_out_and_bounds_the_batched_one(shared):
    pytest.importorskip("torch")
    assert CASE.measure(PUBLISHED, shared(PUBLISHED, sample=4)) is None
    found = CASE.measure(BATCHED, shared(BATCHED, sample=4)).arrays
    np.testing.assert_array_equal(found["layers"], [0, 2])
    assert found["mine mi_xt"].shape == (2,)


def test_a_checkpoint_that_cannot_be_traced_is_told(shared):
    process = shared(JTRACE)
    (process.setting.checkpoint / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"the sweep failed: .*safetensors"):
        CASE.measure(JTRACE, process)


@pytest.mark.real
@pytest.mark.slow
def test_a_tokeniser_with_too_many_tokens_is_cut_to_its_first_ones(smollm2, tmp_path):
    cut = fitting_tokenizer(smollm2, 32000, tmp_path)
    texts = ["An unusual sentence about antidisestablishmentarianism.", "It is."]
    words, whole = read_tokenizer(cut), read_tokenizer(smollm2)
    assert len(words) == 32000
    assert [words.decode(ids) for ids in encode(words, texts)] == texts
    # Frequent words are the same tokens.
    np.testing.assert_array_equal(encode(words, texts)[1], encode(whole, texts)[1])
    assert fitting_tokenizer(smollm2, 49152, tmp_path) == smollm2


def test_a_tokeniser_of_another_kind_cannot_be_cut(steps, tmp_path):
    folder = steps / "tiny/step10"
    assert json.loads((folder / "tokenizer.json").read_text())["model"]["type"] == "WordLevel"
    with pytest.raises(InputError, match="more tokens than the model's 20"):
        fitting_tokenizer(folder, 20, tmp_path)
