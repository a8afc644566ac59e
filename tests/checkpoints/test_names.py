"""The step in a name is the one that is meant, or none: a wrong one would put a checkpoint in a wrong place."""

import pytest

from jtrace.checkpoints.names import in_order, read_folder_step, read_step


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step500", 500),
        ("step-500", 500),
        ("step-1k", 1000),
        ("step-10K", 10_000),
        ("step_10M", 10**7),
        ("step1B", 10**9),
        ("step-1.5k", 1500),
        ("Step_5", 5),
        ("step=5", 5),
        ("checkpoint-500", 500),
        ("ckpt_010", 10),
        ("global_step300", 300),
        ("globalstep300", 300),
        ("iter_0000100", 100),
        ("pythia-160m-step200", 200),
        ("ep0-ba500", 500),
        ("epoch=3-step=500", 500),
        ("checkpoint_step_500", 500),
        ("step300-hf", 300),
        ("step1000-unsharded", 1000),
        ("step1250-seed-default", 1250),
        ("step1250-hf-seed-small-aux-2", 1250),
        ("longctx-step500-tokens15T", 500),
        ("TinyLlama-1.1B-step-50K-105b", 50_000),
        ("TinyLlama-1.1B-intermediate-step-1195k-token-2.5T", 1_195_000),
    ],
)
def test_a_step_is_read_with_its_unit(name, step):
    told = read_step(name)
    assert told is not None
    assert told.step == step


@pytest.mark.parametrize(
    "name",
    [
        *("main", "steps", "stepstone3", "multistep3", "v2-final", "llama-7b", "epoch-3", "500steps"),
        *("step-1kk", "step-10mb", "step12abc", "step1e3", "step1_000", "step-1,000", "step1.5", "step1.0", "step٣"),
        *("step3-iter500", "step300-to-400", "step-1-of-3", "step-0.0001k", "step-99999999999B", "step1" + "0" * 18),
        *("step3-seed-", "step3-seed-of-mine", "step3-seed-default-4", "seed-3"),
        *("step300.orbax-checkpoint-tmp-17", "step300.tmp", "step-", ""),
    ],
)
def test_what_is_outside_the_grammar_tells_no_step(name):
    assert read_step(name) is None


def test_a_number_alone_is_a_step_of_a_folder_only():
    told = read_folder_step("0200")
    assert told is not None
    assert told.step == 200
    assert read_step("0200") is None
    assert read_folder_step("-5") is read_folder_step("1.5") is read_folder_step("²") is None


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("stage1-step50-tokens4B", 4 * 10**9),
        ("step7-tokens2T", 2 * 10**12),
        ("x-step-1195k-token-2.5T", 25 * 10**11),
        ("step50K-105b", None),  # it may be a size
        ("stage2-ingredient1-step7-tokens1B", None),  # of that stage alone
        ("olmo-stage2-step7-tokens1B", None),
    ],
)
def test_tokens_are_read_where_the_name_says_that_they_are_tokens(name, tokens):
    told = read_step(name)
    assert told is not None
    assert told.tokens == tokens


def test_what_stands_before_a_step_tells_runs_apart_but_not_epochs():
    names = ["step5", "epoch=1-step=9", "ep2-ba500", "pythia-step7", "stage2-step3", "deep1-step3"]
    assert [told.before for told in map(read_step, names) if told] == ["", "", "", "pythia-", "stage2-", "deep1-"]


def test_names_are_in_the_order_of_their_steps():
    course = ["a@step10", "a@step500", "a@step-1k", "a@main", "b@0", "b@200", "b@1000"]
    assert in_order(sorted(course)) == course
    files = ["run/vectors/a@step500.safetensors", "run/vectors/a@step-1k.safetensors"]
    assert in_order(sorted(files)) == files


def test_the_seed_after_a_step_tells_runs_apart():
    before = [read_step(f"step{step}-seed-{seed}").before for seed in ("default", "small-aux-2") for step in (0, 1250)]
    assert before == ["-seed-default", "-seed-default", "-seed-small-aux-2", "-seed-small-aux-2"]
    assert in_order(["m@step20-seed-default", "m@step3-seed-large-aux-2", "m@step3-seed-default"]) == [
        "m@step3-seed-default",
        "m@step20-seed-default",
        "m@step3-seed-large-aux-2",
    ]
