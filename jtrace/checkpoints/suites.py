"""Public suites of pre-training checkpoints, as data: their hub ids and the names of their revisions.

The comment of each family names its source.
"""

from dataclasses import replace
from difflib import get_close_matches

from jtrace.checkpoints.suite import Checkpoint, Fault, Suite
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
    "olmo3-{7b,32b}{,-stage2,-stage3}": OLMO3,
    "smollm2-{135m,360m,1.7b}": SMOLLM2,
    "smollm3-3b{,-stage1,-stage2,-stage3}": (SMOLLM3, *SMOLLM3_STAGES),
    "tinyllama": (TINYLLAMA,),
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
    raise InputError(f"--checkpoints: no suite is called '{name}'; {nearest}there are {', '.join(FAMILIES)}")


def describe() -> str:
    """Writes the suites as text, a line per family: names, first hub id, numbers of checkpoints, and their unit."""
    rows = []
    for names, family in FAMILIES.items():
        sizes = [len(suite.members) or sum(len(numbers) for _, numbers in suite.grid) for suite in family]
        least, most = min(sizes), max(sizes)
        count = f"{most} {family[0].unit}s" + (f", {least} or more in a stage" if least < most else "")
        rows.append((names, family[0].repo, count if most else f"{family[0].unit}s as the hub lists them"))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{names:{widths[0]}}  {repo:{widths[1]}}  {count}" for names, repo, count in rows)
