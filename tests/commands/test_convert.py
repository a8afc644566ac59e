"""Converting vectors by command: what it writes and says, and flags that do not fit together."""

import os
import subprocess
import sys

import numpy as np
import pytest
from absl import flags

from jtrace.errors import InputError
from jtrace.probing.vector_files import read_vectors
from tests.conftest import ROOT
from tests.in_process import run_command
from tests.tiny_chat import write_vectors


@pytest.fixture
def vectors(tmp_path):
    norms = {name: [1.0, 2.0, 3.0] for name in ("stereoset", "toxigen")}
    return write_vectors(tmp_path / "v.safetensors", plain_norm=norms)


def run(*arguments):
    return run_command("convert", *arguments)


@pytest.mark.parametrize("to", ["gguf", "safetensors", "npz"])
def test_the_vector_of_a_set_in_some_layers(vectors, tmp_path, capsys, to):
    out = tmp_path / f"out.{to}"
    chosen = ("--vector_set=toxigen", "--layers=1-2", "--strength=-2")
    assert run(f"--vectors={vectors}", f"--to={to}", f"--out={out}", *chosen) == 0
    assert capsys.readouterr().out == f"wrote {out} (-2 times toxigen, layers 1-2)\n"
    back = read_vectors(out)
    assert (back.layers, back.checkpoint) == ((1, 2), "base_step7")
    np.testing.assert_array_equal(back.arrays["-2*toxigen"], -2 * read_vectors(vectors).arrays["toxigen"][1:])


def test_the_suffix_says_the_format_and_what_was_written_is_converted_on(vectors, tmp_path):
    run(f"--vectors={vectors}", "--vector_set=stereoset", "--vector_scale=plain", f"--out={tmp_path}/a.pt")
    run(f"--vectors={tmp_path}/a.pt", "--layers=1,2", f"--out={tmp_path}/b.gguf")
    back = read_vectors(tmp_path / "b.gguf")
    assert (back.kind, back.layers) == ("plain", (1, 2))
    np.testing.assert_allclose(np.linalg.norm(back.arrays["stereoset"], axis=1), [2, 3], rtol=1e-6)


def test_rows_from_elsewhere_are_told_their_layers(tmp_path):
    np.savez(tmp_path / "theirs.npz", mine=np.eye(4, dtype=np.float32))
    run(f"--vectors={tmp_path}/theirs.npz", "--vector_layers=embedding,1-3", f"--out={tmp_path}/b.gguf")
    back = read_vectors(tmp_path / "b.gguf")
    assert back.layers == (1, 2, 3)
    np.testing.assert_array_equal(back.arrays["mine"], np.eye(4, dtype=np.float32)[1:])


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ([], "give one of --checkpoint=… and --vectors=…"),
        (["--vectors=V", "--checkpoint=x"], "give one of --checkpoint=… and --vectors=…"),
        (["--checkpoint=x", "--to=gguf"], "--to=gguf is for --vectors; a checkpoint becomes orbax or hf"),
        (["--vectors=V", "--to=hf"], "--to=hf is for --checkpoint; vectors become gguf, safetensors, lm-eval, npz"),
        (["--vectors=V", "--to=npz"], "files of npz are known by their suffix; end it in .npz"),
        (["--vectors=V"], "holds vectors of stereoset, toxigen; say which by --vector_set"),
        (["--vectors=V", "--vector_set=stereoset"], "cannot hold layer 0, llama.cpp refuses the file; leave it out by"),
        (["--vectors=V", "--vector_set=stereoset", "--layers=7"], "has no layer 7; it has 0-2"),
        (["--vectors=V", "--vector_set=stereoset", "--layers=1", "--strength=0"], "a strength of 0.0 makes no vector"),
        (["--vectors=V*", "--vector_set=stereoset"], "names 2 files; name one"),
    ],
)
def test_flags_that_do_not_fit_are_refused_and_nothing_is_written(vectors, tmp_path, arguments, cause):
    write_vectors(tmp_path / "v.safetensors.safetensors")
    here = [argument.replace("=V", f"={vectors}") for argument in arguments]
    with pytest.raises(InputError) as error:
        run(f"--out={tmp_path}/out.gguf", *here)
    assert cause in str(error.value)
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize("to", ["gguf", "safetensors", "npz", "lm-eval"])
def test_the_same_command_again_has_nothing_to_do(vectors, tmp_path, capsys, to):
    out = tmp_path / ("out.pt" if to == "lm-eval" else f"out.{to}")
    flags = (f"--vectors={vectors}", f"--to={to}", f"--out={out}", "--vector_set=toxigen", "--layers=1-2")
    assert run(*flags) == 0
    content = out.read_bytes()
    assert run(*flags) == 0
    assert out.read_bytes() == content
    assert capsys.readouterr().out.endswith(f"{out} holds it already\n")
    with pytest.raises(InputError, match="exists already"):
        run(*flags, "--strength=2")


def test_a_file_that_is_there_stays(vectors, tmp_path):
    (tmp_path / "out.npz").write_text("mine")
    with pytest.raises(InputError, match=r"out\.npz: exists already; name a new file"):
        run(f"--vectors={vectors}", "--vector_set=stereoset", f"--out={tmp_path}/out.npz")
    assert (tmp_path / "out.npz").read_text() == "mine"


def test_no_other_format_can_be_named(vectors, tmp_path):
    with pytest.raises(flags.IllegalFlagValueError):
        run(f"--vectors={vectors}", "--to=onnx", f"--out={tmp_path}/out")


@pytest.mark.slow
def test_the_launch_script_writes_what_steering_reads(vectors, tmp_path):
    out = tmp_path / "out.gguf"
    command = [sys.executable, "launch/convert.py", f"--vectors={vectors}", "--vector_set=stereoset", f"--out={out}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def convert_by(*more):
        return subprocess.run([*command, *more], capture_output=True, text=True, cwd=ROOT, env=environment, check=False)

    refused = convert_by()
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert refused.stderr.endswith("leave it out by --layers=1-2\n")
    written = convert_by("--layers=1-2")
    assert (written.stdout, written.stderr) == (f"wrote {out} (1 times stereoset, layers 1-2)\n", "")
