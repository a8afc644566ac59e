"""The public suites: how many checkpoints, which, how many tokens, how large."""

import itertools
import re

import pytest

from jtrace.checkpoints.suite import Checkpoint, Suite, select
from jtrace.checkpoints.suites import FAMILIES, SUITES, describe, find, known, suites_at
from jtrace.errors import InputError

CHUNK = 3_495_886_848

# Names as the repositories have them, in the order in which a hub lists branches: none in particular.
OLMO2_7B = (
    "main",
    "stage2-ingredient3-step11931-tokens50B",
    "stage1-step928646-tokens3896B",
    "stage1-step150-tokens1B",
    "step600-tokens3B",
    "stage1-step101000-tokens424B",
    "stage1-step175000-tokens735B",
    "stage2-ingredient1-step1000-tokens5B",
)
OLMO3_7B = (
    "stage3-step11921",
    "stage1-step1413814",
    "stage2-step47684-mix-round5-from-2T-ckpt",
    "stage2-step47684",
    "stage1-step0",
    "main",
)
OLMO3_32B = ("stage1-step656000", "stage2-ingredient2-step23842", "stage3-step11921", "stage2-ingredient1-step1000")


APERTUS = ("main", "step2627139-tokens15T", "step50000-tokens210B", "longctx-step2000", "longctx-step400")
COMMA = (
    "stage2-step2000-tokens4B",
    "stage1-step020000-tokens42B",
    "main",
    "stage1-step010000-tokens21B",
    "stage2-step1000-tokens2B",
)
DATADECIDE = (
    "step2500-seed-small-aux-2",
    "step2500-seed-default",
    "main",
    "step0-seed-default",
    "step10000-seed-default",
    "step1250-seed-small-aux-2",
)


def no_hub(repo: str) -> list[str]:
    raise AssertionError(f"asked the hub for {repo}")


def revisions(name: str, listed: tuple[str, ...] | None = None) -> list[str]:
    return [c.revision for c in SUITES[name].checkpoints(no_hub if listed is None else lambda repo: listed)]


def expanded(names: str) -> list[str]:
    """The words of a shell's brace notation."""
    parts = re.split(r"\{([^}]*)\}", names)
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(words) for words in itertools.product(*choices)]


def test_each_family_is_described_by_the_names_of_its_suites():
    for names, family in FAMILIES.items():
        assert expanded(names) == [suite.name for suite in family]
    assert len(SUITES) == sum(map(len, FAMILIES.values()))


def test_amber_is_359_branches_and_main():
    found = SUITES["amber"].checkpoints(no_hub)
    assert len(found) == 360
    assert [c.revision for c in found[:2] + found[-2:]] == ["ckpt_000", "ckpt_001", "ckpt_358", "main"]
    assert [c.tokens for c in found] == [(k + 1) * CHUNK for k in range(360)]


def test_the_paper_s_checkpoints_of_amber_can_be_listed():
    wanted = [0, 1, 2, 5, 10, 20, 50, 100, 179, 358]
    found = select(SUITES["amber"], ",".join(map(str, wanted)), no_hub)
    assert [c.revision for c in found] == [f"ckpt_{k:03d}" for k in wanted]


@pytest.mark.parametrize("name", [name for name in SUITES if name.startswith("pythia")])
def test_every_pythia_has_154_steps_of_two_mebitokens(name):
    found = SUITES[name].checkpoints(no_hub)
    assert len(found) == 154
    assert [c.number for c in found[:13]] == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000]
    assert (found[-1].revision, found[-1].tokens) == ("step143000", 299_892_736_000)
    assert SUITES[name].repo == f"EleutherAI/{name}"


def test_log_of_pythia_doubles_up_to_the_end():
    found = select(SUITES["pythia-160m"], "log", no_hub)
    assert [c.number for c in found] == [
        *(0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
        *(1000, 2000, 4000, 8000, 16_000, 33_000, 66_000, 131_000, 143_000),
    ]


@pytest.mark.parametrize(
    ("size", "depth", "width", "vocabulary"),
    [
        ("14m", 6, 128, 50304),
        ("31m", 6, 256, 50304),
        ("70m", 6, 512, 50304),
        ("160m", 12, 768, 50304),
        ("410m", 24, 1024, 50304),
        ("1b", 16, 2048, 50304),
        ("1.4b", 24, 2048, 50304),
        ("2.8b", 32, 2560, 50304),
        ("6.9b", 32, 4096, 50432),
        ("12b", 36, 5120, 50688),
    ],
)
def test_pythia_s_parameters_are_those_of_its_shape(size, depth, width, vocabulary):
    per_block = 12 * width**2 + 13 * width
    assert SUITES[f"pythia-{size}"].parameters == 2 * vocabulary * width + depth * per_block + 2 * width


@pytest.mark.parametrize(
    ("name", "depth", "width", "ffn", "kv_width", "vocabulary", "matrices", "norms_of_block"),
    [
        ("amber", 32, 4096, 11008, 4096, 32000, 2, 2 * 4096),
        ("olmo-1b", 16, 2048, 8192, 2048, 50304, 1, 0),
        ("olmo-7b", 32, 4096, 11008, 4096, 50304, 2, 0),
        ("olmo-7b-0424", 32, 4096, 11008, 4096, 50304, 2, 0),
        ("olmo2-1b", 16, 2048, 8192, 2048, 100352, 2, 4 * 2048),
        ("olmo2-7b", 32, 4096, 11008, 4096, 100352, 2, 4 * 4096),
        ("olmo2-13b", 40, 5120, 13824, 5120, 100352, 2, 4 * 5120),
        ("olmo2-32b", 64, 5120, 27648, 1024, 100352, 2, 3 * 5120 + 1024),
        ("olmo3-7b", 32, 4096, 11008, 4096, 100278, 2, 4 * 4096),
        ("olmo3-32b", 64, 5120, 27648, 1024, 100278, 2, 3 * 5120 + 1024),
        ("smollm2-135m", 30, 576, 1536, 192, 49152, 1, 2 * 576),
        ("smollm2-360m", 32, 960, 2560, 320, 49152, 1, 2 * 960),
        ("smollm2-1.7b", 24, 2048, 8192, 2048, 49152, 1, 2 * 2048),
        ("smollm3-3b", 36, 2048, 11008, 512, 128256, 1, 2 * 2048),
        ("tinyllama", 22, 2048, 5632, 256, 32000, 2, 2 * 2048),
        ("olmo2-1b-early", 16, 2048, 8192, 2048, 100352, 2, 4 * 2048),
        ("lucie-7b", 32, 4096, 12288, 1024, 65024, 2, 2 * 4096),
    ],
)
def test_other_suites_parameters_are_those_of_their_shape(
    name, depth, width, ffn, kv_width, vocabulary, matrices, norms_of_block
):
    """`matrices` of the vocabulary: 1 where the head is tied. The final norm is there where a block has norms."""
    block = 2 * width**2 + 2 * width * kv_width + 3 * width * ffn + norms_of_block
    final = width if norms_of_block else 0
    assert SUITES[name].parameters == depth * block + matrices * vocabulary * width + final


@pytest.mark.parametrize(
    ("name", "depth", "width", "vocabulary", "positions"),
    [
        ("crfm-gpt2-small-x21", 12, 768, 50257, 1024),
        ("crfm-gpt2-medium-x777", 24, 1024, 50257, 1024),
        ("bloom-560m", 24, 1024, 250880, 2),  # no positions, but a norm after the embedding
        ("bloom-1b1", 24, 1536, 250880, 2),
        ("bloom-7b1", 30, 4096, 250880, 2),
        ("deep-ignorance-unfiltered", 32, 4096, 2 * 50304, 0),
    ],
)
def test_parameters_of_suites_with_biases_are_those_of_their_shape(name, depth, width, vocabulary, positions):
    assert SUITES[name].parameters == (vocabulary + positions + 2) * width + depth * (12 * width**2 + 13 * width)


def test_main_is_the_last_checkpoint_where_that_is_established():
    assert known("EleutherAI/pythia-160m", "main").number == 143_000
    assert known("LLM360/Amber", "main").number == 359
    assert known("allenai/OLMo-2-1124-7B", "main") is None


def test_the_bad_branches_of_pythia_are_known():
    bad = [c for c in SUITES["pythia-2.8b"].checkpoints(no_hub) if c.warning]
    assert len(bad) == 86
    assert {0, 65_000, 70_000, 103_000, 143_000} <= {c.number for c in bad}
    assert not {66_000, 102_000, 142_000} & {c.number for c in bad}
    assert all("EleutherAI/pythia#205" in c.warning for c in bad)
    assert [c.number for c in SUITES["pythia-12b"].checkpoints(no_hub) if c.warning] == [50_000, 58_000]
    assert [c.number for c in SUITES["pythia-410m-seed9"].checkpoints(no_hub) if c.warning] == [40_000]
    assert not any(c.warning for c in SUITES["pythia-2.8b-deduped"].checkpoints(no_hub))


def test_seeds_fall_back_on_the_tokeniser_of_their_size():
    assert SUITES["pythia-70m-seed3"].tokenizer == "EleutherAI/pythia-70m"
    assert SUITES["pythia-70m"].tokenizer is None


def test_stage_1_of_olmo2_has_names_with_and_without_the_stage():
    assert revisions("olmo2-7b", OLMO2_7B) == [
        "stage1-step150-tokens1B",
        "step600-tokens3B",
        "stage1-step101000-tokens424B",
        "stage1-step175000-tokens735B",
        "stage1-step928646-tokens3896B",
    ]
    warned = [c.number for c in SUITES["olmo2-7b"].checkpoints(lambda repo: OLMO2_7B) if c.warning]
    assert warned == [101_000, 175_000]


def test_stage_2_of_olmo2_counts_on_from_stage_1():
    found = SUITES["olmo2-7b-stage2"].checkpoints(lambda repo: OLMO2_7B)
    assert [(c.revision, c.tokens, c.warning) for c in found] == [
        ("stage2-ingredient1-step1000-tokens5B", 3901 * 10**9, ""),
        ("stage2-ingredient3-step11931-tokens50B", 3946 * 10**9, ""),
    ]


def test_stages_of_olmo3_count_tokens_through_and_pass_experiments_over():
    assert revisions("olmo3-7b", OLMO3_7B) == ["stage1-step0", "stage1-step1413814"]
    assert revisions("olmo3-7b-stage2", OLMO3_7B) == ["stage2-step47684"]
    tokens = [
        known("allenai/Olmo-3-1025-7B", name).tokens
        for name in ("stage1-step1000", "stage1-step1413814", "stage2-step47684", "stage3-step11921")
    ]
    assert tokens == [4_194_304_000, 5_929_965_715_456, 6_029_966_311_424, 6_079_966_609_408]


def test_tokens_of_olmo3_32b_are_known_up_to_the_average_that_begins_stage_3():
    found = {
        c.revision: c.tokens
        for name in ("olmo3-32b", "olmo3-32b-stage2", "olmo3-32b-stage3")
        for c in SUITES[name].checkpoints(lambda repo: OLMO3_32B)
    }
    assert found == {
        "stage1-step656000": 5_502_926_848_000,
        "stage2-ingredient1-step1000": 5_502_926_848_000 + 4_194_304_000,
        "stage2-ingredient2-step23842": 5_502_926_848_000 + 23_842 * 2**22,
        "stage3-step11921": None,
    }


@pytest.mark.parametrize(
    ("name", "step", "tokens"),
    [
        ("smollm2-135m", 1_920_000, 2_013_265_920_000),
        ("smollm2-360m", 2_560_000, 4_026_531_840_000),
        ("smollm2-1.7b", 125_000, 262_144_000_000),
    ],
)
def test_smollm2_s_steps_are_of_its_batch_size(name, step, tokens):
    (found,) = SUITES[name].checkpoints(lambda repo: ("main", f"step-{step}"))
    assert (found.number, found.tokens) == (step, tokens)


def test_smollm3_counts_its_steps_through_three_stages():
    found = SUITES["smollm3-3b"].checkpoints(no_hub)
    assert [len(SUITES[f"smollm3-3b-stage{stage}"].checkpoints(no_hub)) for stage in (1, 2, 3)] == [86, 19, 13]
    assert len(found) == 118
    assert [c.number for c in found] == list(range(40_000, 4_720_001, 40_000))
    assert [found[i].revision for i in (0, 85, 86, 105, -1)] == [
        "stage1-step-40000",
        "stage1-step-3440000",
        "stage2-step-3480000",
        "stage3-step-4240000",
        "stage3-step-4720000",
    ]
    assert found[-1].tokens == 4_720_000 * 2_359_296


def test_tinyllama_is_a_repository_per_checkpoint():
    found = SUITES["tinyllama"].checkpoints(no_hub)
    assert found[0] == Checkpoint("TinyLlama/TinyLlama-1.1B-step-50K-105b", "main", 50_000, 105 * 10**9)
    assert len({c.repo for c in found}) == len(found) == 7
    # The names' rounded steps and tokens agree with batches of 1,024 sequences of 2,048 tokens.
    assert all(abs(c.tokens / (c.number * 2_097_152) - 1) < 0.01 for c in found)
    assert known(found[0].repo, "main") == found[0]


@pytest.mark.parametrize("suite", [suite for suite in SUITES.values() if not suite.pattern], ids=lambda s: s.name)
def test_no_two_checkpoints_share_a_name_and_each_is_known_by_it(suite: Suite):
    found = suite.checkpoints(no_hub)
    assert len({(c.repo, c.revision) for c in found}) == len(found)
    assert [c.number for c in found] == sorted({c.number for c in found})
    assert known(found[3].repo, found[3].revision) == found[3]
    assert known(found[-1].repo, found[-1].revision) == found[-1]


def test_early_training_of_olmo2_has_exact_tokens_in_place_of_the_names_rounded_ones():
    names = ("stage1-step36000-tokens76B", "stage1-step0-tokens0B", "main", "stage1-step1000-tokens3B")
    listed = SUITES["olmo2-1b-early"].checkpoints(lambda repo: names)
    assert [(c.number, c.tokens) for c in listed] == [(0, 0), (1000, 2_097_152_000), (36_000, 75_497_472_000)]


def test_apertus_has_the_tokens_of_its_names_as_its_batch_doubles_and_its_last_name_counts_trillions():
    listed = SUITES["apertus-8b"].checkpoints(lambda repo: APERTUS)
    assert [(c.number, c.tokens) for c in listed] == [(50_000, 210 * 10**9), (2_627_139, 15 * 10**12)]
    longer = SUITES["apertus-8b-longctx"].checkpoints(lambda repo: APERTUS)
    assert [(c.revision, c.tokens) for c in longer] == [("longctx-step400", None), ("longctx-step2000", None)]


CRFM = [name for name in SUITES if name.startswith("crfm")]


@pytest.mark.parametrize("name", CRFM)
def test_every_gpt2_of_crfm_has_609_steps_of_half_a_mebitoken(name):
    listed = SUITES[name].checkpoints(no_hub)
    assert len(listed) == 609
    assert [c.revision for c in listed[9:13]] == ["checkpoint-90", "checkpoint-100", "checkpoint-150", "checkpoint-200"]
    assert (listed[-1].number, listed[-1].tokens) == (400_000, 400_000 * 524_288)


def test_gpt2_of_crfm_are_two_sizes_of_five_seeds():
    assert len(CRFM) == 10
    assert SUITES["crfm-gpt2-small-x81"].repo == "stanford-crfm/caprica-gpt2-small-x81"
    assert SUITES["crfm-gpt2-medium-x343"].repo == "stanford-crfm/durin-gpt2-medium-x343"
    assert SUITES["crfm-gpt2-small-x21"].tokenizer == "openai-community/gpt2"


def test_comma_warns_that_its_tokeniser_adds_no_bos_and_its_stage_2_tells_no_tokens():
    first = SUITES["comma-1t"].checkpoints(lambda repo: COMMA)
    assert [(c.revision, c.tokens) for c in first] == [
        ("stage1-step010000-tokens21B", 21 * 10**9),
        ("stage1-step020000-tokens42B", 42 * 10**9),
    ]
    second = SUITES["comma-1t-stage2"].checkpoints(lambda repo: COMMA)
    assert [(c.number, c.tokens) for c in second] == [(1000, None), (2000, None)]
    assert all("adds none under transformers 5" in c.warning for c in (*first, *second))


def test_a_suite_of_datadecide_is_one_seed_of_one_recipe_and_size():
    listed = SUITES["datadecide-c4-150m"].checkpoints(lambda repo: DATADECIDE)
    assert [(c.repo, c.revision, c.tokens) for c in listed] == [
        ("allenai/DataDecide-c4-150M", "step0-seed-default", 0),
        ("allenai/DataDecide-c4-150M", "step2500-seed-default", 2500 * 192 * 2048),
        ("allenai/DataDecide-c4-150M", "step10000-seed-default", 10_000 * 192 * 2048),
    ]
    assert revisions("datadecide-c4-150m-small-aux-2", DATADECIDE) == [
        "step1250-seed-small-aux-2",
        "step2500-seed-small-aux-2",
    ]
    assert find("allenai/DataDecide-c4-150M")[0].name == "datadecide-c4-150m"


def test_datadecide_is_25_recipes_of_14_sizes_the_largest_with_two_seeds_more():
    repos = {suite.repo for suite in SUITES.values() if suite.name.startswith("datadecide")}
    assert len(repos) == 25 * 14
    assert [len(suites_at(f"allenai/DataDecide-falcon-{size}")) for size in ("4M", "750M", "1B")] == [3, 3, 5]


@pytest.mark.parametrize(
    ("size", "last"), [("20m", 14_584), ("60m", 29_042), ("150m", 38_157), ("300m", 45_787), ("1b", 69_369)]
)
def test_the_last_step_of_datadecide_has_seen_100_tokens_a_parameter(size, last):
    """Sizes are rounded names: 20M is 19.1 million parameters, 300M is 320 million."""
    (listed,) = SUITES[f"datadecide-c4-{size}"].checkpoints(lambda repo: (f"step{last}-seed-default",))
    nominal = float(size[:-1]) * (10**9 if size.endswith("b") else 10**6)
    assert listed.tokens / nominal == pytest.approx(100, rel=0.05)


def test_deep_ignorance_is_one_unfiltered_and_three_filtered_runs_of_500_billion_tokens():
    names = ("global_step119200", "main", "global_step1192", "global_step0")
    suites = [suite for suite in SUITES.values() if suite.name.startswith("deep-ignorance")]
    assert [suite.repo.rpartition("-stage-")[2] for suite in suites] == [
        "unfiltered",
        "extra-weak-filter",
        "weak-filter",
        "strong-filter",
    ]
    for suite in suites:
        listed = suite.checkpoints(lambda repo: names)
        assert [c.revision for c in listed] == ["global_step0", "global_step1192", "global_step119200"]
        assert listed[-1].tokens == pytest.approx(500 * 10**9, rel=1e-3)


def test_olmoe_has_the_tokens_of_its_names_and_an_annealed_main():
    names = ("step10000-tokens41B", "main", "step5000-tokens20B", "fp32")
    listed = SUITES["olmoe-1b-7b"].checkpoints(lambda repo: names)
    assert [(c.number, c.tokens) for c in listed] == [(5000, 20 * 10**9), (10_000, 41 * 10**9)]
    assert known("allenai/OLMoE-1B-7B-0924", "main") is None
    assert "annealed" in SUITES["olmoe-1b-7b"].warning_beside("main")


def test_lucie_s_tokens_follow_the_ramp_of_its_batch_and_end_at_the_published_number():
    listed = {c.revision: c.tokens for c in SUITES["lucie-7b"].checkpoints(no_hub)}
    assert len(listed) == 35
    assert list(listed)[3:6] == ["step0020000", "step0025000", "step0050000"]
    # While the batch rises, 5,000 steps have ever more tokens; then all have the same.
    assert listed["step0005000"] < listed["step0010000"] - listed["step0005000"]
    assert listed["step0050000"] - listed["step0025000"] == 25_000 * 1024 * 4096
    longer = SUITES["lucie-7b-extension"].checkpoints(no_hub)
    assert [c.revision for c in longer[-2:]] == ["extension_step0001000", "extension_step0001220"]
    annealing = 1220 * 128 * 32_000
    assert longer[-1].tokens + annealing == 3_131_736_326_144


def test_hubble_is_pairs_of_standard_and_perturbed_runs():
    names = ("step238500", "main", "step1000")
    listed = SUITES["hubble-8b-500b-perturbed"].checkpoints(lambda repo: names)
    assert [c.revision for c in listed] == ["step1000", "step238500"]
    assert listed[-1].tokens == pytest.approx(500 * 10**9, rel=1e-3)
    assert SUITES["hubble-1b-100b-standard"].repo == "allegrolab/hubble-1b-100b_toks-standard-hf"


def test_k2_counts_checkpoints_whose_tokens_are_not_established():
    listed = SUITES["k2-65b"].checkpoints(lambda repo: ("ckpt_360", "main", "ckpt_005"))
    assert [(c.revision, c.number, c.tokens) for c in listed] == [("ckpt_005", 5, None), ("ckpt_360", 360, None)]


def test_post_training_of_smollm3_is_stages_without_steps_of_which_each_warns():
    listed = SUITES["smollm3-3b-post"].checkpoints(no_hub)
    assert [(c.revision, c.number, c.tokens) for c in listed] == [
        ("it-mid-training", 1, None),
        ("it-SFT", 2, None),
        ("it-soup-APO", 3, None),
        ("it-LC-expert", 4, None),
    ]
    assert all("its number is its place there, no step" in c.warning for c in listed)
    assert find("HuggingFaceTB/SmolLM3-3B-checkpoints")[0].name == "smollm3-3b"


def test_bloom_s_tags_are_its_checkpoints_and_its_tokeniser_is_the_finished_model_s():
    names = ("global_step100000", "global_step1000", "global_step10000", "main")
    listed = SUITES["bloom-1b1"].checkpoints(lambda repo: names)
    assert [(c.revision, c.tokens) for c in listed] == [
        ("global_step1000", None),
        ("global_step10000", None),
        ("global_step100000", None),
    ]
    assert SUITES["bloom-1b1"].tokenizer == "bigscience/bloom-1b1"


def test_marin_s_phases_are_numbered_by_their_billions_of_tokens():
    listed = SUITES["marin-8b"].checkpoints(no_hub)
    assert [c.revision for c in listed[:3]] == ["kestrel", "ocelot", "jellyfish"]
    assert (listed[-1].revision, listed[-1].tokens) == ("deeper-starling", 12_700 * 10**9)
    assert known("marin-community/marin-8b-base", "main") is None


def test_sizes_of_downloads_are_estimated_from_the_parameters():
    assert SUITES["amber"].weight_bytes == 26_953_662_464
    assert SUITES["olmo2-7b"].weight_bytes == SUITES["olmo2-7b-stage2"].weight_bytes == 29_194_469_376
    assert SUITES["smollm2-360m"].weight_bytes == 723_642_240
    assert SUITES["olmo2-1b"].weight_bytes is None


def test_a_suite_is_found_by_its_name_and_by_its_hub_ids():
    assert find("amber") == (SUITES["amber"], "")
    assert find("IFM/Amber") == (SUITES["amber"], "IFM/Amber")
    assert find("allenai/OLMo-2-0425-1B")[0].name == "olmo2-1b"
    assert [suite.name for suite in suites_at("allenai/OLMo-2-0425-1B")] == ["olmo2-1b", "olmo2-1b-stage2"]
    assert suites_at("org/other") == ()


def test_a_later_stage_is_known_by_its_hub_id():
    found = known("allenai/OLMo-2-0425-1B", "stage2-ingredient3-step23852-tokens51B")
    assert found.tokens == (4001 + 51) * 10**9
    assert known("allenai/OLMo-2-0425-1B", "main") is None
    assert known("org/other", "step1000") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ambre", "no suite is called 'ambre'; the closest are amber; there are amber, pythia-{14m,31m,"),
        ("Pythia-160M", "the closest are pythia-160m, "),
        ("org/other", "no suite is called 'org/other'"),
        ("zzz", "no suite is called 'zzz'; there are amber, "),
    ],
)
def test_an_unknown_suite_is_an_error_with_the_closest_and_all_names(name, message):
    with pytest.raises(InputError) as error:
        find(name)
    assert message in str(error.value)
    assert str(error.value).endswith("marin-8b")
    assert "\n" not in str(error.value)


def test_the_description_has_a_line_per_family():
    lines = describe().splitlines()
    assert len(lines) == len(FAMILIES)
    assert re.fullmatch(r"amber +LLM360/Amber +360 checkpoints", lines[0])
    assert re.fullmatch(r"olmo2\S+ +allenai/OLMo-2-0425-1B +steps as the hub lists them", lines[6])
    (smollm3,) = (line for line in lines if line.startswith("smollm3-3b{"))
    assert re.fullmatch(r"\S+ +HuggingFaceTB/SmolLM3-3B-checkpoints +118 steps, 13 or more in a stage", smollm3)


@pytest.mark.parametrize(
    ("family", "fault"),
    [
        ("comma-1t", "steps as the hub lists them; trained with BOS before each text, but its tokeniser adds none"),
        ("bloom-", "git tags, two of which hold the same weights; the tokeniser is that of the finished model"),
        ("hubble-", "the perturbed models have seen planted texts"),
        ("k2-65b", "65 billion parameters"),
        ("smollm3-3b-post", "4 stages; a stage of post-training"),
        ("marin-8b", "6 phases; phases by name, without steps"),
    ],
)
def test_the_description_tells_the_faults_of_a_family(family, fault):
    (line,) = (line for line in describe().splitlines() if line.startswith(family))
    assert fault in line


def test_the_description_shortens_long_lists_of_names():
    (line,) = (line for line in describe().splitlines() if line.startswith("datadecide") and "-1b{" not in line)
    assert line.split()[0] == (
        "datadecide-{dolma1_7,…,dclm-baseline-75p-dolma1.7-25p}-{4m,…,750m}{,-small-aux-2,-small-aux-3}"
    )
