"""Public suites of pre-training checkpoints, as data: their hub ids and the names of their revisions.

The comment of each family names its source, and says what of it is not established.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

from jtrace.checkpoints.suite import Checkpoint, Fault, Ramp, Suite
from jtrace.errors import InputError

# Model card of LLM360/Amber: ckpt_000 to ckpt_358, and `main` is checkpoint 359. LLM360/amber-train: 360 chunks of
# 1,706,976 sequences of 2,048 tokens, saved after each.
AMBER_CHUNK = 1_706_976 * 2048
AMBER = Suite(
    "amber",
    "LLM360/Amber",
    unit="checkpoint",
    grid=(("ckpt_{:03d}", range(359)), ("main", (359,))),
    tokens_per_unit=AMBER_CHUNK,
    tokens_before=AMBER_CHUNK,
    main=359,
    parameters=6_738_415_616,
    bytes_per_parameter=4,
    mirrors=("IFM/Amber",),
)

# README of EleutherAI/pythia and the PolyPythias' model cards. step1 equals step0 everywhere, which is no fault: the
# first step of the warm-up has learning rate 0 (EleutherAI/gpt-neox#1373).
PYTHIA_STEPS = (0, *(2**i for i in range(10)), *range(1000, 143_001, 1000))
PYTHIA_PARAMETERS = {
    "14m": 14_067_712,
    "31m": 30_494_720,
    "70m": 70_426_624,
    "160m": 162_322_944,
    "410m": 405_334_016,
    "1b": 1_011_781_632,
    "1.4b": 1_414_647_808,
    "2.8b": 2_775_208_960,
    "6.9b": 6_857_302_016,
    "12b": 11_846_072_320,
}
NO_WEIGHTS = "its weights are missing on the hub (EleutherAI/pythia#202)"
OTHER_RUN = "the run's later checkpoints do not descend from this one (EleutherAI/pythia#203)"
PYTHIA_FAULTS = {
    "pythia-2.8b": Fault(
        (*(n for n in PYTHIA_STEPS if n <= 65_000), 103_000, 143_000, *range(70_000, 140_001, 10_000)),
        "serves one of two files of the end of training that 86 steps share (EleutherAI/pythia#205)",
    ),
    "pythia-12b": Fault((50_000, 58_000), "its first shard is the final checkpoint's (EleutherAI/pythia#206)"),
    "pythia-410m-seed2": Fault((111_000,), NO_WEIGHTS),
    "pythia-410m-seed6": Fault((88_000,), NO_WEIGHTS),
    "pythia-410m-seed9": Fault((40_000,), NO_WEIGHTS),
    "pythia-160m-weight-seed1": Fault((0,), OTHER_RUN),
    "pythia-160m-weight-seed2": Fault((0,), OTHER_RUN),
}


def _pythia(size: str, variant: str = "") -> Suite:
    name = f"pythia-{size}{variant}"
    return Suite(
        name,
        f"EleutherAI/{name}",
        grid=(("step{}", PYTHIA_STEPS),),
        tokens_per_unit=2_097_152,
        main=143_000,
        unmoved=(0, 1),
        parameters=PYTHIA_PARAMETERS[size],
        bytes_per_parameter=2,
        tokenizer=f"EleutherAI/pythia-{size}" if "seed" in variant else None,
        faults=(PYTHIA_FAULTS[name],) if name in PYTHIA_FAULTS else (),
    )


# Model cards and README of allenai/OLMo; the tokens in a name are those of its stage, in rounded billions. Stage 2
# continues stage 1; `main` of OLMo-2 is an average of the ingredients.
OLMO_NAME = r"step(?P<number>[0-9]+)-tokens(?P<tokens>[0-9]+)B"
INGREDIENT = r"stage2-ingredient(?P<ingredient>[0-9]+)-"
OLMO = (
    Suite("olmo-1b", "allenai/OLMo-1B-hf", pattern=OLMO_NAME, parameters=1_176_764_416),
    Suite("olmo-1b-0724", "allenai/OLMo-1B-0724-hf", pattern=OLMO_NAME),
    Suite("olmo-7b", "allenai/OLMo-7B-hf", pattern=OLMO_NAME, parameters=6_888_095_744),
    Suite("olmo-7b-0424", "allenai/OLMo-7B-0424-hf", pattern=OLMO_NAME, parameters=6_888_095_744),
)


def _olmo2(
    size: str, repo: str, parameters: int, stage1: int, bytes_: int | None = None, *faults: Fault
) -> list[Suite]:
    """Returns both stages of a size; `stage1` is the billions of tokens in the name of stage 1's last checkpoint."""
    first = Suite(
        f"olmo2-{size}",
        repo,
        pattern=rf"(?:stage1-)?{OLMO_NAME}",
        parameters=parameters,
        bytes_per_parameter=bytes_,
        main_is="an average of stage 2's ingredients, and no checkpoint of a course",
        faults=faults,
    )
    second = replace(
        first, name=f"olmo2-{size}-stage2", pattern=INGREDIENT + OLMO_NAME, tokens_before=stage1 * 10**9, faults=()
    )
    return [first, second]


SAME_FILE = Fault((101_000, 175_000, 300_000), "steps 101000, 175000 and 300000 serve one file (allenai/OLMo#915)")
OLMO2 = (
    *_olmo2("1b", "allenai/OLMo-2-0425-1B", 1_484_916_736, 4001),
    *_olmo2("7b", "allenai/OLMo-2-1124-7B", 7_298_617_344, 3896, 4, SAME_FILE),
    *_olmo2("13b", "allenai/OLMo-2-1124-13B", 13_716_198_400, 5001),
    *_olmo2("32b", "allenai/OLMo-2-0325-32B", 32_234_279_936, 6056),
)

# A step is 512 sequences of 4,096 tokens, as in stage 1 of the whole run. The names give whole billions, rounded up:
# too coarse for so few.
OLMO2_EARLY = Suite(
    "olmo2-1b-early",
    "allenai/OLMo-2-0425-1B-early-training",
    pattern="stage1-step(?P<number>[0-9]+)-tokens[0-9]+B",
    tokens_per_unit=2**21,
    parameters=1_484_916_736,
)

# Model card of allenai/OLMoE-1B-7B-0924. Steps after 1,200,000 are of the same run, but `main` does not come from them.
OLMOE = Suite(
    "olmoe-1b-7b",
    "allenai/OLMoE-1B-7B-0924",
    pattern=OLMO_NAME,
    main_is="annealed for 100 billion tokens more than step 1200000, and no checkpoint of the course",
    parameters=6_919_161_856,
)

# Model cards, and batch sizes and starting points of the scripts in allenai/OLMo-core, src/scripts/official/OLMo3. The
# 32B model's stage 3 starts from an average of two runs of stage 2, so its number of tokens is not defined.
OLMO3_7B = Suite(
    "olmo3-7b",
    "allenai/Olmo-3-1025-7B",
    pattern="stage1-step(?P<number>[0-9]+)",
    tokens_per_unit=2**22,
    parameters=7_298_011_136,
)
OLMO3_7B_STAGE2 = replace(
    OLMO3_7B,
    name="olmo3-7b-stage2",
    pattern="stage2-step(?P<number>[0-9]+)",
    tokens_per_unit=2**21,
    tokens_before=1_413_814 * 2**22,
)
OLMO3_7B_STAGE3 = replace(
    OLMO3_7B,
    name="olmo3-7b-stage3",
    pattern="stage3-step(?P<number>[0-9]+)",
    tokens_before=1_413_814 * 2**22 + 47_684 * 2**21,
)
OLMO3_32B = replace(
    OLMO3_7B, name="olmo3-32b", repo="allenai/Olmo-3-1125-32B", tokens_per_unit=2**23, parameters=32_233_522_176
)
OLMO3_32B_STAGE2 = replace(
    OLMO3_32B,
    name="olmo3-32b-stage2",
    pattern=rf"{INGREDIENT}step(?P<number>[0-9]+)",
    tokens_per_unit=2**22,
    tokens_before=656_000 * 2**23,
)
OLMO3_32B_STAGE3 = replace(
    OLMO3_32B, name="olmo3-32b-stage3", pattern="stage3-step(?P<number>[0-9]+)", tokens_before=None
)
OLMO3 = (OLMO3_7B, OLMO3_7B_STAGE2, OLMO3_7B_STAGE3, OLMO3_32B, OLMO3_32B_STAGE2, OLMO3_32B_STAGE3)


# Training configurations in huggingface/smollm, text/pretraining/smollm2: sequences of 2,048 tokens.
def _smollm2(size: str, parameters: int, sequences: int) -> Suite:
    return Suite(
        f"smollm2-{size.lower()}",
        f"HuggingFaceTB/SmolLM2-{size}-intermediate-checkpoints",
        pattern="step-(?P<number>[0-9]+)",
        tokens_per_unit=sequences * 2048,
        parameters=parameters,
        bytes_per_parameter=2,
    )


SMOLLM2 = (
    _smollm2("135M", 134_515_008, 64 * 8),
    _smollm2("360M", 361_821_120, 128 * 6),
    _smollm2("1.7B", 1_711_376_384, 256 * 4),
)

# Model card of HuggingFaceTB/SmolLM3-3B-checkpoints: every 40,000 steps, counted through all stages.
SMOLLM3_GRID = (
    ("stage1-step-{}", range(40_000, 3_440_001, 40_000)),
    ("stage2-step-{}", range(3_480_000, 4_200_001, 40_000)),
    ("stage3-step-{}", range(4_240_000, 4_720_001, 40_000)),
)
SMOLLM3 = Suite(
    "smollm3-3b",
    "HuggingFaceTB/SmolLM3-3B-checkpoints",
    grid=SMOLLM3_GRID,
    tokens_per_unit=2_359_296,
    main_is_empty=True,
    parameters=3_075_098_624,
    bytes_per_parameter=2,
)
SMOLLM3_STAGES = tuple(
    replace(SMOLLM3, name=f"smollm3-3b-stage{number}", grid=(part,)) for number, part in enumerate(SMOLLM3_GRID, 1)
)

# Model card, "Post-training", and the names of its branches. These have neither steps nor tokens of their own; their
# numbers are the order in which the card names them. LC-expert may come from mid-training instead of from soup-APO.
SMOLLM3_POST = replace(
    SMOLLM3,
    name="smollm3-3b-post",
    unit="stage",
    grid=(("it-mid-training", (1,)), ("it-SFT", (2,)), ("it-soup-APO", (3,)), ("it-LC-expert", (4,))),
    tokens_per_unit=None,
    faults=(Fault(None, "a stage of post-training: its number is its place there, no step; trace into another --out"),),
)

# Names of the branches of swiss-ai/Apertus-8B-2509. Tokens are those of the names, as the batch doubles on the way, and
# the last name gives them in trillions. What extension of the context adds to them is not established.
APERTUS = Suite(
    "apertus-8b",
    "swiss-ai/Apertus-8B-2509",
    pattern=r"step(?P<number>[0-9]+)-tokens(?P<tokens>[0-9]+(?:\.[0-9]+)?)(?P<unit>[BT])",
    parameters=8_053_338_240,
)
APERTUS_LONG = replace(
    APERTUS, name="apertus-8b-longctx", pattern=r"longctx-step(?P<number>[0-9]+)(?:-.*)?", tokens_before=None
)

# conf/mistral-{small,medium}.yaml in stanford-crfm/mistral: batches of 512 sequences of 1,024 tokens, and what is kept.
# The medium models' steps are taken over from the small ones.
CRFM_STEPS = (*range(0, 100, 10), *range(100, 2000, 50), *range(2000, 20_000, 100), *range(20_000, 400_001, 1000))
CRFM_PARAMETERS = {"small": 124_439_808, "medium": 354_823_168}
CRFM_NAMES = {
    "small": {"alias": 21, "battlestar": 49, "caprica": 81, "darkmatter": 343, "expanse": 777},
    "medium": {"arwen": 21, "beren": 49, "celebrimbor": 81, "durin": 343, "eowyn": 777},
}
CRFM = tuple(
    Suite(
        f"crfm-gpt2-{size}-x{seed}",
        f"stanford-crfm/{name}-gpt2-{size}-x{seed}",
        grid=(("checkpoint-{}", CRFM_STEPS),),
        tokens_per_unit=512 * 1024,
        parameters=CRFM_PARAMETERS[size],
        tokenizer="openai-community/gpt2",
    )
    for size, names in CRFM_NAMES.items()
    for name, seed in names.items()
)

# Names of the branches of common-pile/comma-v0.1-1t, and its tokeniser under transformers 5. Whether stage 2's names
# count tokens anew is not established.
COMMA = Suite(
    "comma-1t",
    "common-pile/comma-v0.1-1t",
    pattern=f"stage1-{OLMO_NAME}",
    faults=(
        Fault(
            None,
            "trained with BOS before each text, but its tokeniser adds none under transformers 5, and its eos, 2, is "
            "the tokeniser's BOS; write BOS before statements",
        ),
    ),
)
COMMA_STAGE2 = replace(
    COMMA, name="comma-1t-stage2", pattern="stage2-step(?P<number>[0-9]+)(?:-.*)?", tokens_before=None
)

# README and upload scripts of DataDecide: recipes, sizes, and the seeds of each. Batches by size, in sequences of 2,048
# tokens, follow from allenai/OLMo, scripts/ladder.py, and fit the last steps: 100 tokens a parameter.
DATADECIDE_RECIPES = (
    *("dolma1_7", "dolma1_7-no-code", "dolma1_7-no-math-code", "dolma1_7-no-reddit", "dolma1_7-no-flan"),
    *("dolma1_6plus", "c4", "fineweb-pro", "fineweb-edu", "falcon", "falcon-and-cc", "falcon-and-cc-qc-10p"),
    *("falcon-and-cc-qc-20p", "falcon-and-cc-qc-orig-10p", "falcon-and-cc-qc-tulu-10p", "dclm-baseline"),
    *("dclm-baseline-qc-7p-fw2", "dclm-baseline-qc-7p-fw3", "dclm-baseline-qc-fw-3p", "dclm-baseline-qc-fw-10p"),
    *("dclm-baseline-qc-10p", "dclm-baseline-qc-20p", "dclm-baseline-25p-dolma1.7-75p"),
    *("dclm-baseline-50p-dolma1.7-50p", "dclm-baseline-75p-dolma1.7-25p"),
)
DATADECIDE_BATCHES = dict.fromkeys(("4M", "6M", "8M", "10M", "14M", "16M"), 32)
DATADECIDE_BATCHES |= {"20M": 64, "60M": 96, "90M": 160, "150M": 192, "300M": 320, "530M": 448, "750M": 576}
DATADECIDE_SEEDS = ("", "-small-aux-2", "-small-aux-3")
DATADECIDE_1B_SEEDS = (*DATADECIDE_SEEDS, "-large-aux-2", "-large-aux-3")


def _datadecide(recipe: str, size: str, batch: int, seed: str) -> Suite:
    return Suite(
        f"datadecide-{recipe}-{size.lower()}{seed}",
        f"allenai/DataDecide-{recipe}-{size}",
        pattern=f"step(?P<number>[0-9]+)-seed{seed or '-default'}",
        tokens_per_unit=batch * 2048,
    )


DATADECIDE = tuple(
    _datadecide(recipe, size, batch, seed)
    for recipe in DATADECIDE_RECIPES
    for size, batch in DATADECIDE_BATCHES.items()
    for seed in DATADECIDE_SEEDS
)
DATADECIDE_1B = tuple(
    _datadecide(recipe, "1B", 704, seed) for recipe in DATADECIDE_RECIPES for seed in DATADECIDE_1B_SEEDS
)

# Model card of the Deep Ignorance suite: the shape of pythia-6.9b with a smaller vocabulary; 11,921 steps for the 50
# billion tokens of annealing. That pre-training has the same batch is computed: 500 billion tokens in 100 parts, one of
# which begins at global_step38144.
DEEP_IGNORANCE = tuple(
    Suite(
        f"deep-ignorance-{data}",
        f"EleutherAI/deep-ignorance-pretraining-stage-{data}",
        pattern="global_step(?P<number>[0-9]+)",
        tokens_per_unit=2**22,
        parameters=6_856_253_440,
        bytes_per_parameter=2,
        note="the data differ: compare the filtered models with the unfiltered one",
    )
    for data in ("unfiltered", "extra-weak-filter", "weak-filter", "strong-filter")
)

# Model card of OpenLLM-France/Lucie-7B. The ramp of its batch gives exactly the tokens that the card counts after all
# phases, 3,131,736,326,144. Extension of the context: 128 sequences of 32,000 tokens a step.
LUCIE_RAMP = Ramp(first=256, rise=64, last=1024, over=10_000_000, length=4096)
LUCIE = Suite(
    "lucie-7b",
    "OpenLLM-France/Lucie-7B",
    grid=(("step{:07d}", (*range(5000, 20_001, 5000), *range(25_000, 750_001, 25_000), 753_851)),),
    ramp=LUCIE_RAMP,
    main_is="the model after extension of the context and annealing",
    parameters=6_706_958_336,
)
LUCIE_EXTENSION = replace(
    LUCIE,
    name="lucie-7b-extension",
    grid=(("extension_step{:07d}", (250, 500, 750, 1000, 1220)),),
    ramp=None,
    tokens_per_unit=128 * 32_000,
    tokens_before=LUCIE_RAMP.tokens(753_851),
)

# Names of the repositories and of their last steps, 48,000 and 238,500. The batch is computed: 2,097,152 tokens a step
# give the 100 and 500 billion tokens of the names.
HUBBLE = tuple(
    Suite(
        f"hubble-{size}-{tokens}-{data}",
        f"allegrolab/hubble-{size}-{tokens}_toks-{data}-hf",
        pattern="step(?P<number>[0-9]+)",
        tokens_per_unit=2**21,
        note="the perturbed models have seen planted texts (biographies, books, test sets), the standard ones have not",
    )
    for size in ("1b", "8b")
    for tokens in ("100b", "500b")
    for data in ("standard", "perturbed")
)

# Names of the branches of LLM360/K2. Tokens are not established: two stages, of unlike length of sequences.
K2 = Suite(
    "k2-65b",
    "LLM360/K2",
    unit="checkpoint",
    pattern="ckpt_(?P<number>[0-9]+)",
    note="65 billion parameters: look at the sizes with --dry_run first",
)

# Model cards of bigscience/bloom-*-intermediate. Tokens are not established: the batch rises at the start, and the
# scripts of the first part and of the continuation (bigscience-workshop/bigscience, train/tr11-176B-ml) differ in how.
BLOOM = tuple(
    Suite(
        f"bloom-{size}",
        f"bigscience/bloom-{size}-intermediate",
        pattern="global_step(?P<number>[0-9]+)",
        parameters=parameters,
        tokenizer=f"bigscience/bloom-{size}",
        note="git tags, two of which hold the same weights; the tokeniser is that of the finished model",
    )
    for size, parameters in (("560m", 559_214_592), ("1b1", 1_065_314_304), ("7b1", 7_069_016_064))
)

# Model card of marin-community/marin-8b-base: phases by name, with rounded tokens, which are their numbers (in
# billions). `main` is the last one now, and may move.
MARIN_PHASES = (
    *(("kestrel", (2700,)), ("ocelot", (3780,)), ("jellyfish", (4780,)), ("phoenix", (11_100,))),
    *(("starling", (12_400,)), ("deeper-starling", (12_700,))),
)
MARIN = Suite(
    "marin-8b",
    "marin-community/marin-8b-base",
    unit="phase",
    grid=MARIN_PHASES,
    tokens_per_unit=10**9,
    main_is="the newest phase, which may move; name a phase",
    note="phases by name, without steps; their numbers are billions of tokens",
)

# README of jzhang38/TinyLlama; steps and tokens are those of the repositories' names, so rounded.
TINYLLAMA = Suite(
    "tinyllama",
    "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T",
    members=(
        ("TinyLlama/TinyLlama-1.1B-step-50K-105b", 50_000, 105 * 10**9),
        ("TinyLlama/TinyLlama-1.1B-intermediate-step-240k-503b", 240_000, 503 * 10**9),
        ("TinyLlama/TinyLlama-1.1B-intermediate-step-480k-1T", 480_000, 10**12),
        ("TinyLlama/TinyLlama-1.1B-intermediate-step-715k-1.5T", 715_000, 1500 * 10**9),
        ("TinyLlama/TinyLlama-1.1B-intermediate-step-955k-token-2T", 955_000, 2 * 10**12),
        ("TinyLlama/TinyLlama-1.1B-intermediate-step-1195k-token-2.5T", 1_195_000, 2500 * 10**9),
        ("TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T", 1_431_000, 3 * 10**12),
    ),
    parameters=1_100_048_384,
)

SEEDED = ("14m", "31m", "70m", "160m", "410m")
DEDUPED = ("70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")
FAMILIES: dict[str, tuple[Suite, ...]] = {
    "amber": (AMBER,),
    "pythia-{14m,31m,70m,160m,410m,1b,1.4b,2.8b,6.9b,12b}": tuple(map(_pythia, PYTHIA_PARAMETERS)),
    "pythia-{70m,160m,410m,1b,1.4b,2.8b,6.9b,12b}-deduped": tuple(_pythia(size, "-deduped") for size in DEDUPED),
    "pythia-{14m,31m,70m,160m,410m}-seed{1,2,3,4,5,6,7,8,9}": tuple(
        _pythia(size, f"-seed{seed}") for size in SEEDED for seed in range(1, 10)
    ),
    "pythia-160m-{data,weight}-seed{1,2,3}": tuple(
        _pythia("160m", f"-{what}-seed{seed}") for what in ("data", "weight") for seed in (1, 2, 3)
    ),
    "olmo-{1b,1b-0724,7b,7b-0424}": OLMO,
    "olmo2-{1b,7b,13b,32b}{,-stage2}": OLMO2,
    "olmo2-1b-early": (OLMO2_EARLY,),
    "olmo3-{7b,32b}{,-stage2,-stage3}": OLMO3,
    "olmoe-1b-7b": (OLMOE,),
    "smollm2-{135m,360m,1.7b}": SMOLLM2,
    "smollm3-3b{,-stage1,-stage2,-stage3}": (SMOLLM3, *SMOLLM3_STAGES),
    "smollm3-3b-post": (SMOLLM3_POST,),
    "tinyllama": (TINYLLAMA,),
    "apertus-8b{,-longctx}": (APERTUS, APERTUS_LONG),
    "crfm-gpt2-{small,medium}-x{21,49,81,343,777}": CRFM,
    "comma-1t{,-stage2}": (COMMA, COMMA_STAGE2),
    f"datadecide-{{{','.join(DATADECIDE_RECIPES)}}}-{{{','.join(DATADECIDE_BATCHES).lower()}}}"
    f"{{{','.join(DATADECIDE_SEEDS)}}}": DATADECIDE,
    f"datadecide-{{{','.join(DATADECIDE_RECIPES)}}}-1b{{{','.join(DATADECIDE_1B_SEEDS)}}}": DATADECIDE_1B,
    "deep-ignorance-{unfiltered,extra-weak-filter,weak-filter,strong-filter}": DEEP_IGNORANCE,
    "lucie-7b{,-extension}": (LUCIE, LUCIE_EXTENSION),
    "hubble-{1b,8b}-{100b,500b}-{standard,perturbed}": HUBBLE,
    "k2-65b": (K2,),
    "bloom-{560m,1b1,7b1}": BLOOM,
    "marin-8b": (MARIN,),
}
"""Every suite, by its family's names in the shell's brace notation."""
SUITES = {suite.name: suite for family in FAMILIES.values() for suite in family}


def suites_at(repo: str) -> tuple[Suite, ...]:
    """Returns the suites, one per stage, whose checkpoints lie at a hub id; none if it is not known."""
    return tuple(suite for suite in SUITES.values() if repo in suite.repos)


def known(repo: str, revision: str) -> Checkpoint | None:
    """Returns the suites' checkpoint for a revision of a hub id; None if there is none."""
    return next((checkpoint for suite in suites_at(repo) if (checkpoint := suite.named(repo, revision))), None)


def find(name: str) -> tuple[Suite, str]:
    """Finds the suite of a name or hub id; returns the hub id too if it was one, and the first stage of several.

    Raises:
        InputError: there is none; the message names the closest and all.
    """
    if name in SUITES:
        return SUITES[name], ""
    if at_hub := suites_at(name):
        return at_hub[0], name
    repos = {repo.lower(): repo for suite in SUITES.values() for repo in suite.repos}
    close = [repos.get(near, near) for near in get_close_matches(name.lower(), [*SUITES, *repos], n=3)]
    nearest = f"the closest are {', '.join(close)}; " if close else ""
    every = ", ".join(map(_in_short, FAMILIES))
    raise InputError(f"--checkpoints: no suite is called '{name}'; {nearest}there are {every}")


def describe() -> str:
    """Writes the suites as text, a line per family: names, first hub id, numbers of checkpoints, and known faults."""
    rows = []
    for names, family in FAMILIES.items():
        sizes = [len(suite.members) or sum(len(numbers) for _, numbers in suite.grid) for suite in family]
        least, most = min(sizes), max(sizes)
        unit, more = f"{family[0].unit}s", f", {least} or more in a stage" if least < most else ""
        count = f"{most} {unit}{more}" if most else f"{unit} as the hub lists them"
        rows.append((_in_short(names), family[0].repo, "; ".join((count, *_faults(family)))))
    # A list of names that is longer than most moves its own line alone.
    widths = [min(72, max(len(row[column]) for row in rows)) for column in (0, 1)]
    return "\n".join(f"{names:{widths[0]}}  {repo:{widths[1]}}  {about}" for names, repo, about in rows)


def _faults(family: Sequence[Suite]) -> list[str]:
    """Returns the faults that concern all revisions of a family's suites, each once."""
    each = [text for suite in family for text in (suite.note, *(f.warning for f in suite.faults if f.numbers is None))]
    return [text for text in dict.fromkeys(each) if text]


def _in_short(names: str) -> str:
    """Shortens each list of a family's names in brace notation that has more than ten to its first and last."""
    return re.sub(r"\{([^,}]*),(?:[^,}]*,){9,}([^,}]*)\}", lambda match: f"{{{match[1]},…,{match[2]}}}", names)
