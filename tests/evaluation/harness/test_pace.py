"""Requests a second of lm-eval's own torch model and of jtrace's decoder, on the same weights, in turns:

XLA_FLAGS= python -m pytest -m long tests/evaluation/harness/test_pace.py -s
"""

import os
import statistics
import time

import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")
pytest.importorskip("lm_eval", reason="needs the extra lm-eval")
pytestmark = [pytest.mark.long, pytest.mark.real, pytest.mark.filterwarnings("ignore")]

from lm_eval.models.huggingface import HFLM  # noqa: E402

from jtrace.api.lm_eval_model import JtraceModel  # noqa: E402
from tests.tiny_harness import arc_task, evaluated, generation_task, mmlu_task, perplexity_task  # noqa: E402

TURNS = 3
ROWS = {mmlu_task: 60, arc_task: 60, generation_task: 16, perplexity_task: 8}


def timed(model, task):
    """Requests, and the seconds that they take."""
    began = time.perf_counter()
    samples = evaluated(model, [task])["samples"]
    return sum(len(row["resps"]) for rows in samples.values() for row in rows), time.perf_counter() - began


def test_twice_the_choices_a_second_of_hf_and_texts_no_slower(tmp_path, smollm2):
    torch.set_num_threads(os.cpu_count() or 1)  # tests have one otherwise
    began = time.perf_counter()
    models = {
        "hf": HFLM(str(smollm2), device="cpu", batch_size=8, dtype="float32"),
        "jtrace": JtraceModel(str(smollm2), dtype="float32"),
    }
    print(f"\nboth models loaded in {time.perf_counter() - began:.0f} s")
    ratios = {}
    for write, rows in ROWS.items():
        task = str(write(tmp_path, rows=rows))
        first = {name: timed(model, task)[1] for name, model in models.items()}
        turns = [{name: timed(model, task) for name, model in models.items()} for _ in range(TURNS)]
        pace = {
            name: statistics.median(count / seconds for count, seconds in (turn[name] for turn in turns))
            for name in models
        }
        each = [turn["hf"][1] / turn["jtrace"][1] for turn in turns]
        ratio = ratios[write.__name__] = statistics.median(each)
        count = turns[0]["hf"][0]
        print(f"{write.__name__}, {count} requests; first {first['hf']:.1f} s and {first['jtrace']:.1f} s;")
        print(f"  a second {pace['hf']:.1f} and {pace['jtrace']:.1f}: {ratio:.2f} x ({min(each):.2f}-{max(each):.2f})")
    assert all(ratios[write.__name__] >= 2 for write in (mmlu_task, arc_task)), ratios
    assert all(ratio >= 1 for ratio in ratios.values()), ratios
