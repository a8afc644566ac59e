"""Claims of a few bytes in a stranger's file are looked at before memory is taken for them."""

import json
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jtrace.checkpoints.formats.weights import tensor_infos
from jtrace.checkpoints.refs import parse_specs
from jtrace.data.loading import read_statements
from jtrace.data.tokenizer import read_tokenizer, tokenizer_fingerprint
from jtrace.errors import InputError
from jtrace.hub.client import Hub
from jtrace.models.families import FAMILIES, read_model_config
from jtrace.models.families.config_reader import MOST
from jtrace.runtime import parquet
from jtrace.sweep.check import check_checkpoint
from jtrace.sweep.config import SweepConfig
from tests.conftest import GOLDENS
from tests.models.suite_configs import MEMBERS

SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim")


@contextmanager
def little_memory(most: int = 256 << 20) -> Iterator[None]:
    """Nothing in the block takes so much more memory than there was, or half a minute."""
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < most
    assert time.monotonic() - started < 30


def told(call, *args) -> str:
    with pytest.raises(InputError) as error, little_memory():
        call(*args)
    return str(error.value)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [2**24, 2**31, 2**62, pytest.param(10**300, id="300 digits")])
def test_sizes_beyond_all_known_models_are_refused(family, size):
    values = json.loads(next(GOLDENS.glob(f"{family}-*/config.json")).read_text())
    for name in (*SIZES, "num_key_value_heads"):
        message = told(read_model_config, values | {name: size}, "config.json")
        assert message.startswith("config.json: the field")


@pytest.mark.parametrize("theta", [1e-320, 1e-31, 1e31])
def test_a_rotary_base_beyond_float32_is_refused(theta):
    values = json.loads((GOLDENS / "qwen2-full/config.json").read_text())
    values["rope_parameters"] = {"rope_type": "default", "rope_theta": theta}
    message = told(read_model_config, values, "config.json")
    assert "rope_theta" in message
    assert "a positive number is needed" in message


@pytest.mark.parametrize("theta", [0.5, 1.0])
def test_a_rotary_base_without_a_positive_logarithm_is_refused_for_yarn(theta):
    values = json.loads((GOLDENS / "llama-rope-yarn/config.json").read_text())
    values["rope_parameters"]["rope_theta"] = theta
    assert "yarn needs one above 1" in told(read_model_config, values, "config.json")


def test_every_known_model_is_far_below_the_largest_sizes():
    for values, _ in MEMBERS.values():
        for name, most in MOST.items():
            assert (values.get(name) or 0) * 4 <= most


def test_a_local_config_that_claims_more_than_the_files_hold_is_refused_before_anything_is_built(tmp_path):
    folder = Path(shutil.copytree(GOLDENS / "llama-full", tmp_path / "tiny"))
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(values | {"hidden_size": 98304, "intermediate_size": 1 << 19, "head_dim": 64})
    )
    (ref,) = parse_specs([str(folder)], lambda repo: [])
    assert "config.json asks for" in told(check_checkpoint, ref, None, SweepConfig(), Hub(tmp_path))


@pytest.mark.parametrize("size", [17 << 20, 95 << 20])
def test_a_large_header_is_not_parsed(tmp_path, size):
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(size.to_bytes(8, "little"))
        file.truncate(size + 100)
    assert "its header has more than 16777216 bytes" in told(tensor_infos, tmp_path)


def test_a_text_that_many_rows_share_is_not_written_out(tmp_path):
    """Each row is a megabyte, the file holds it once."""
    path, rows = tmp_path / "bomb.parquet", 8192
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["a" * (1 << 20)]))
    pq.write_table(pa.table({"statement": text, "label": np.arange(rows) % 2}), path)
    assert path.stat().st_size < 3 << 20
    assert "stands for 8.6 GB, more than the 2.1 GB that a table may have" in told(read_statements, str(path))


def test_a_column_of_equal_numbers_is_not_written_out(tmp_path, monkeypatch):
    path = tmp_path / "bomb.parquet"
    monkeypatch.setattr(parquet, "MOST_VALUES", 1000)
    pq.write_table(pa.table({"statement": ["a"] * 2000, "label": [1] * 2000}), path)
    assert "values, more than the" in told(read_statements, str(path))


def test_an_endless_file_is_not_read(tmp_path):
    (tmp_path / "tokenizer.json").symlink_to("/dev/zero")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "vocab.json").write_text("{}")
    assert "tokenizer.json: cannot be read (Is a device)" in told(read_tokenizer, tmp_path)
    assert tokenizer_fingerprint(tmp_path)
