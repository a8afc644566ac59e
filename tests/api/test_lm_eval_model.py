"""The model `jtrace` of lm-eval: which edit its arguments are, and what is wrong with them in a line."""

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from safetensors.numpy import load_file

from jtrace.api.lm_eval_model import JtraceModel
from jtrace.errors import InputError
from jtrace.evaluation.harness.model import HarnessModel
from jtrace.steering.vector import Condition, SteeringVector, edit_of
from tests.tiny_chat import write_vectors

REQUESTS = [Instance("loglikelihood", {}, pair, at) for at, pair in enumerate([("ba be", " bi"), ("No .", " Yes no")])]


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    return write_vectors(tmp_path_factory.mktemp("vectors") / "v.safetensors")


def test_lm_eval_finds_it_by_name():
    assert get_model("jtrace") is JtraceModel


def test_without_a_vector_it_is_the_model_as_it_is(place, model):
    asked = JtraceModel(str(place / "chat"), batch_size=8, max_batch_size=64, device="cpu")
    assert asked.loglikelihood(REQUESTS) == HarnessModel(model.language_model).loglikelihood(REQUESTS)
    assert asked.get_model_info() == {"checkpoint": str(place / "chat"), "vector": None, "model_dtype": "float32"}


@pytest.mark.parametrize(("layer", "layers"), [(1, (1,)), ("2", (2,)), ("0+2", (0, 2))])
def test_a_vector_is_added_to_its_layers_with_its_strength(place, model, vectors, layer, layers):
    asked = JtraceModel(str(place / "chat"), str(vectors), "stereoset", layer, strength=-2.0)
    vector = SteeringVector(load_file(vectors)["stereoset"], (0, 1, 2), "base_step7", "stereoset")
    edit = edit_of(vector, [Condition(layers, -2.0)])
    assert asked.loglikelihood(REQUESTS) == HarnessModel(model.language_model, edit, [1]).loglikelihood(REQUESTS)
    assert asked.loglikelihood(REQUESTS) != HarnessModel(model.language_model).loglikelihood(REQUESTS)
    named = "+".join(map(str, layers))
    assert asked.get_model_info()["vector"] == f"-2*(stereoset) of base_step7, layer {named}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positions": "first"}, "positions=first, operator=add: there are last, all, generated"),
        ({"operator": "double"}, "positions=last, operator=double: there are .* add"),
        ({"vector": None}, "^vector_set and layer need a vector; name its file by vector="),
        ({"vector_set": ""}, "holds vectors of stereoset, toxigen; say which by vector_set"),
        ({"layer": None}, "layer: the vector of 'stereoset' has 3 layers; say layer=15"),
        ({"layer": "1-2"}, r"layer=1-2: write one layer as 15, or several at once as 10\+15"),
        ({"max_length": 1000}, "max_length=1000: the context of chat is 512"),
    ],
)
def test_wrong_arguments_are_a_line_in_words_of_python(place, vectors, arguments, message):
    given = {"checkpoint": str(place / "chat"), "vector": str(vectors), "vector_set": "stereoset", "layer": 1}
    with pytest.raises(InputError, match=message) as refused:
        JtraceModel(**given | arguments)
    assert "--" not in str(refused.value)


def test_several_files_are_refused(place, vectors):
    write_vectors(vectors.with_name("w.safetensors"))
    with pytest.raises(InputError, match=r"vector=.*\*\.safetensors: names 2 files; name one"):
        JtraceModel(str(place / "chat"), str(vectors.with_name("*.safetensors")), "stereoset", 1)
