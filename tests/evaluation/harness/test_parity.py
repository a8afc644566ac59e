"""lm-eval's own torch models and jtrace's decoder, side by side: the same log-likelihoods, metrics and texts."""

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra torch")
pytest.importorskip("lm_eval", reason="needs the extra lm-eval")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

from lm_eval.models.hf_steered import SteeredModel  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402

from jtrace.api.lm_eval_model import JtraceModel  # noqa: E402
from jtrace.checkpoints.load import read_config_json  # noqa: E402
from jtrace.evaluation.harness.model import HarnessModel  # noqa: E402
from jtrace.inference.language_model import load_language_model  # noqa: E402
from jtrace.probing.vector_export import write_vector  # noqa: E402
from jtrace.probing.vector_files import ModelFacts, Vectors  # noqa: E402
from tests.tiny_harness import arc_task, evaluated, generation_task, mmlu_task, perplexity_task, write_model  # noqa: E402

WRITERS = (mmlu_task, arc_task, generation_task, perplexity_task)
HF = {"device": "cpu", "batch_size": 8, "dtype": "float32"}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    return [str(write(folder)) for write in WRITERS]


def asked(model, tasks):
    """By task: its metrics, and the responses to each of its documents."""
    found = evaluated(model, tasks)
    metrics = {
        name: {metric: value for metric, value in row.items() if "," in metric and "stderr" not in metric}
        for name, row in found["results"].items()
    }
    responses = {name: [[r[0] for r in row["resps"]] for row in rows] for name, rows in found["samples"].items()}
    return metrics, responses


def assert_alike(ours, theirs, tasks=4):
    (our_metrics, our_responses), (their_metrics, their_responses) = ours, theirs
    assert len(our_metrics) == tasks
    for name, metrics in their_metrics.items():
        assert our_metrics[name] == pytest.approx(metrics, rel=1e-5), name
        for ours, theirs in zip(our_responses[name], their_responses[name], strict=True):
            if isinstance(theirs[0], str):
                assert ours == theirs
            elif isinstance(theirs[0], float):
                # A text's log-likelihood: 1e-4 as a choice's, and more where hundreds of tokens are summed.
                np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-6)
            else:
                np.testing.assert_allclose([one[0] for one in ours], [one[0] for one in theirs], atol=1e-4, rtol=0)
                assert [one[1] for one in ours] == [one[1] for one in theirs]


def spoken(responses):
    return {text for (text,) in responses["tiny_generation"]}


@pytest.mark.parametrize("begins", [False, True])
def test_the_model_as_it_is(tmp_path, tasks, begins):
    folder = str(write_model(tmp_path / "model", begins=begins))
    ours, theirs = (asked(model, tasks) for model in (JtraceModel(folder, dtype="float32"), HFLM(folder, **HF)))
    assert_alike(ours, theirs)
    assert len(spoken(ours[1])) > 4


def test_contexts_that_are_too_long_lose_their_beginning(tmp_path, tasks):
    """The examples of the first task alone are longer; some texts of the last are many windows."""
    folder = str(write_model(tmp_path / "model", context=60))
    ours, theirs = (asked(model, tasks) for model in (JtraceModel(folder, dtype="float32"), HFLM(folder, **HF)))
    assert_alike(ours, theirs)


def test_under_a_vector_as_lm_eval_s_steered_model_is(tmp_path, tasks):
    folder = write_model(tmp_path / "model")
    config = read_config_json(folder)
    depth, width = config["num_hidden_layers"], config["hidden_size"]
    rows = np.random.default_rng(1).normal(size=(1, width)).astype(np.float32)
    vectors = Vectors("a", "pca", {"mine": rows}, (1,), {"mine": None}, ModelFacts(config["model_type"], width, depth))
    write_vector(tmp_path / "v.pt", vectors, strength=2.0)
    steered = JtraceModel(str(folder), vector=str(tmp_path / "v.pt"), positions="all", dtype="float32")
    about = steered.get_model_info()
    assert (about["checkpoint"], about["model_dtype"]) == (str(folder), "float32")
    assert about["vector"] == "1*(2*mine) of a:pca, layer 1"
    ours = asked(steered, tasks)
    theirs = asked(SteeredModel(str(folder), steer_path=str(tmp_path / "v.pt"), **HF), tasks)
    assert_alike(ours, theirs)
    assert spoken(ours[1]) != spoken(asked(JtraceModel(str(folder), dtype="float32"), tasks[2:3])[1])


@pytest.mark.real
def test_a_real_model(tmp_path, smollm2):
    tasks = [str(write(tmp_path, rows=4)) for write in WRITERS]
    model = HarnessModel(load_language_model(smollm2, "smollm2", jnp.float32), max_length=512)
    # torch's float32 was 4e-6 and 5e-6 off its float64 on two documents of a hundred words.
    theirs = HFLM(str(smollm2), max_length=512, **HF | {"dtype": "float64"})
    assert_alike(asked(model, tasks), asked(theirs, tasks))
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    assert model.apply_chat_template(chat) == theirs.apply_chat_template(chat)
    begun = [*chat, {"role": "assistant", "content": "Because"}]
    assert model.apply_chat_template(begun, False) == theirs.apply_chat_template(begun, False)
