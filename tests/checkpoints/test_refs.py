"""Which checkpoints a spec names, and what they are called."""

import json
import os
from pathlib import Path

import pytest

from jtrace.checkpoints.refs import CheckpointRef, HubSource, parse_specs
from jtrace.errors import InputError


@pytest.fixture
def models(tmp_path: Path, monkeypatch) -> Path:
    for name in (
        "llama/step3",
        "llama/step20",
        "llama/step100",
        "other/step3",
        "smollm2",
        "olmo/stage1-step50-tokens4B",
    ):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "llama" / "logs").mkdir()
    for step in (0, 8, 20):
        (tmp_path / f"pretrain/step{step:06d}").mkdir(parents=True)
        (tmp_path / f"pretrain/step{step:06d}/config.json").write_text("{}")
    (tmp_path / "pretrain/pretrain.json").write_text("{}")
    log = [json.dumps({"step": step, "tokens": 1000 * step}) + "\n" for step in range(21)]
    (tmp_path / "pretrain/log.jsonl").write_text("".join(log))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def no_hub(repo: str) -> list[str]:
    raise AssertionError(f"asked the hub for {repo}")


def names(*specs: str) -> list[str]:
    return [ref.name for ref in parse_specs(specs, no_hub)]


def test_a_folder_called_like_a_step_is_a_revision_of_its_parent(models):
    (ref,) = parse_specs(["llama/step20"], no_hub)
    assert (ref.model, ref.revision, ref.step, ref.tokens) == ("llama", "step20", 20, None)
    assert ref.source == models / "llama/step20"


def test_any_other_folder_is_a_model(models):
    (ref,) = parse_specs(["smollm2"], no_hub)
    assert (ref.model, ref.revision, ref.step, ref.name) == ("smollm2", "", None, "smollm2")


@pytest.mark.parametrize(
    ("name", "step", "tokens"),
    [
        ("step300", 300, None),
        ("ckpt_010", 10, None),
        ("checkpoint-500", 500, None),
        ("step-0", 0, None),
        ("global_step1000", 1000, None),
        ("stage1-step50-tokens4B", 50, 4 * 10**9),
        ("stage2-ingredient1-step7-tokens1B", 7, None),
        ("stage3-step-20", 20, None),
    ],
)
def test_step_and_tokens_are_read_from_the_name(tmp_path, name, step, tokens):
    (tmp_path / name).mkdir()
    (tmp_path / name / "config.json").touch()
    (ref,) = parse_specs([str(tmp_path / name)], no_hub)
    assert (ref.revision, ref.step, ref.tokens) == (name, step, tokens)


@pytest.mark.parametrize("name", ["steps", "stepstone3", "v2-final", "llama-7b"])
def test_names_that_only_resemble_a_step_are_models(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "config.json").touch()
    assert parse_specs([str(tmp_path / name)], no_hub)[0].model == name


def test_a_glob_is_ordered_by_the_number_in_the_name(models):
    assert names("llama/*") == ["llama@step3", "llama@step20", "llama@step100"]


def test_a_folder_whose_name_looks_like_a_glob_is_itself(models):
    (models / "run[1]").mkdir()
    (models / "run[1]/config.json").touch()
    assert names("run[1]") == ["run[1]"]


def test_a_pretraining_run_is_all_its_kept_steps_with_the_tokens_seen_by_then(models):
    refs = parse_specs(["pretrain"], no_hub)
    assert [(ref.name, ref.step, ref.tokens) for ref in refs] == [
        ("pretrain@step000000", 0, 0),
        ("pretrain@step000008", 8, 8000),
        ("pretrain@step000020", 20, 20_000),
    ]


def test_a_kept_step_is_the_same_checkpoint_however_it_is_named(models):
    assert parse_specs(["pretrain@20,8"], no_hub) == parse_specs(["pretrain/step000020;pretrain/*08"], no_hub)


def test_a_link_is_named_as_the_user_names_it(models):
    (models / "links").mkdir()
    (models / "links/step7").symlink_to(models / "llama/step20")
    (ref,) = parse_specs(["links/step7"], no_hub)
    assert (ref.name, ref.source) == ("links@step7", models / "llama/step20")


def test_a_glob_of_links_is_ordered_by_their_own_names(models):
    (models / "links").mkdir()
    (models / "links/step7").symlink_to(models / "llama/step20")
    (models / "links/step70").symlink_to(models / "llama/step3")
    assert names("links/*") == ["links@step7", "links@step70"]


def test_a_name_that_would_hide_its_table_is_refused(models):
    (models / "_base").mkdir()
    (models / "_base/config.json").touch()
    with pytest.raises(InputError, match="'_base' begins with '_'"):
        parse_specs(["_base"], no_hub)


def make(*folders: str) -> None:
    for folder in folders:
        Path(folder).mkdir(parents=True)
        (Path(folder) / "config.json").touch()


@pytest.mark.parametrize(
    "course",
    [
        ["step-500", "step-1k", "step-10k"],
        ["pythia-step0", "pythia-step200", "pythia-step1000"],
        ["0", "200", "1000"],
        ["ep0-ba500", "ep0-ba2000", "ep1-ba10000"],
        ["epoch=0-step=500", "epoch=0-step=2000", "epoch=1-step=10000"],
        ["stage1-step50", "stage1-step1000", "stage2-step2000"],
    ],
)
def test_a_course_is_in_the_order_of_its_steps_and_one_model_s(models, course):
    make(*(f"mine/{name}" for name in sorted(course)))
    refs = parse_specs(["mine/*"], no_hub)
    assert [(ref.model, ref.revision) for ref in refs] == [("mine", name) for name in course]
    assert not any(ref.warning for ref in refs)


def test_a_glob_says_which_folders_have_no_step_and_puts_them_last(models):
    make("mine/step500", "mine/step-1k", "mine/final", "mine/step7to9")
    refs = parse_specs(["mine/*"], no_hub)
    assert [(ref.name, ref.step) for ref in refs] == [
        ("mine@step500", 500),
        ("mine@step-1k", 1000),
        ("final", None),
        ("step7to9", None),
    ]
    assert ["its name tells no step" in ref.warning for ref in refs] == [False, False, True, True]
    assert "tells no step" in parse_specs(["mine/step7to9"], no_hub)[0].warning
    assert not parse_specs(["smollm2"], no_hub)[0].warning


def test_a_later_stage_that_counts_steps_anew_is_told(models):
    make("mine/stage1-step50", "mine/stage1-step1000-tokens4B", "mine/stage2-step7", "mine/stage2-step2000")
    told = {ref.revision: "its stage counts steps anew" in ref.warning for ref in parse_specs(["mine/*"], no_hub)}
    assert [revision for revision, anew in told.items() if anew] == ["stage2-step7"]


def test_a_save_that_orbax_has_not_finished_is_no_checkpoint(models):
    make("mine/step200", "mine/step300.orbax-checkpoint-tmp-17", "mine/step400.orbax-checkpoint-tmp")
    assert names("mine/step*") == ["mine@step200"]
    with pytest.raises(InputError, match=r"step300.orbax-checkpoint-tmp-17' is a save that Orbax has not finished"):
        parse_specs(["mine/step300.orbax-checkpoint-tmp-17"], no_hub)


def test_two_models_in_one_folder_are_no_course(models):
    make("both/pythia-step0", "both/olmo-step0", "both/olmo-step7")
    assert names("both/olmo-*") == ["both@olmo-step0", "both@olmo-step7"]
    with pytest.raises(InputError, match="'olmo-step0' and 'pythia-step0' are both step 0 of 'both'"):
        parse_specs(["both/*"], no_hub)


@pytest.mark.parametrize("folder", ["a, b", "a;b", "a@b", "a [b]", "a:b"])
def test_a_folder_that_exists_is_taken_as_it_is(models, folder):
    make(f"{folder}/step2", f"{folder}/step10")
    assert [ref.step for ref in parse_specs([f"{folder}/step10"], no_hub)] == [10]
    if ";" not in folder:
        assert [ref.step for ref in parse_specs([f"{folder}/step*"], no_hub)] == [2, 10]


def test_a_hub_revision_that_is_a_number_is_no_step(models):
    assert parse_specs(["org/name@2024"], no_hub)[0].step is None


def test_specs_are_separated_or_repeated_and_duplicates_dropped(models):
    assert names("llama/step100; smollm2", "llama/step*") == ["llama@step100", "smollm2", "llama@step3", "llama@step20"]


def test_one_name_for_two_folders_is_an_error(models):
    (models / "a/llama/step3").mkdir(parents=True)
    (models / "a/llama/step3/config.json").touch()
    with pytest.raises(InputError, match="two checkpoints are called 'llama@step3'"):
        parse_specs(["llama/step3;a/llama/step3"], no_hub)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "names nothing"),
        (" ; ", "names nothing"),
        ("llama/ckpt*", "matches nothing; folders in 'llama': logs, step100, step20, step3"),
        ("llama/lo*", "matches 1 entries without config.json"),
        ("llama/step4", "is neither a folder nor a suite; 'llama/step4@main' is the hub's; folders in 'llama'"),
        ("llama", "holds no config.json; folders in 'llama'"),
        ("nowhere", "'nowhere' is neither a folder nor a suite; folders in '.': llama, olmo, other, pretrain, smollm2"),
        ("nowhere/x/y", "neither a folder nor org/name of the hub; 'nowhere/x' does not exist"),
        ("llama/model", "'llama/model@main' is the hub's"),
        ("llama@step3", "'llama' is no pre-training run of jtrace's (no pretrain.json); name a folder of it"),
        ("pretrain@3", "has not kept step '3'; it has 0, 8, 20"),
        ("pretrain@step8", "has not kept step 'step8'"),
        ("olmo/runs/pretrain@200", "neither a folder nor org/name of the hub"),
        ("a b/c@main", "neither a folder nor org/name of the hub"),
        ("org/name@", "names no revision after '@'; give one, as in org/name@main"),
        ("org/name@ , ", "names no revision after '@'"),
        ("HuggingFaceTB/SmolLM3-3B-checkpoints", "holds no model on 'main'; select from its suite, as smollm3-3b:log"),
        ("pythia-160m", "'pythia-160m' is a suite; say which checkpoints after a colon, as in 'pythia-160m:log'"),
        ("pythia-160m@step1", "'pythia-160m' is a suite; say which checkpoints after a colon"),
        ("https://example.org/LLM360/Amber", "is an address; write org/name@revision"),
        ("llm360/amber:0", "no suite is called 'llm360/amber'; the closest are LLM360/Amber"),
        ("pythia-160:all", "no suite is called 'pythia-160'; the closest are pythia-160m, "),
        ("zzz:all", "no suite is called 'zzz'; there are amber, pythia-{14m,31m,"),
        ("pythia-160m:1500", "'pythia-160m' has no step 1500; the nearest: 1000 and 2000"),
    ],
)
def test_a_spec_that_names_nothing_says_what_was_found(models, spec, message):
    with pytest.raises(InputError) as error:
        parse_specs([spec], no_hub)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_revisions_of_a_hub_repository_are_named_after_it(models):
    first, second = parse_specs(["org/name@step20-tokens4B,v1.0"], no_hub)
    assert first == CheckpointRef(
        "org/name", "step20-tokens4B", HubSource("org/name", "step20-tokens4B"), 20, 4 * 10**9
    )
    assert (second.model, second.revision, second.step, second.tokens) == ("org/name", "v1.0", None, None)
    assert (first.name, str(first.source)) == ("org--name@step20-tokens4B", "org/name@step20-tokens4B")


def test_a_revision_may_hold_a_slash(models):
    assert names("org/name@refs/pr/1") == ["org--name@refs--pr--1"]


def test_a_repository_alone_is_its_main_revision(models):
    (ref,) = parse_specs(["org/name"], no_hub)
    assert (ref.revision, ref.source, ref.step) == ("main", HubSource("org/name", "main"), None)


def test_an_existing_folder_wins_over_a_repository_and_over_a_suite(models):
    for name in ("LLM360/Amber", "amber"):
        (models / name).mkdir(parents=True)
        (models / name / "config.json").touch()
    assert [ref.source for ref in parse_specs(["LLM360/Amber"], no_hub)] == [models / "LLM360/Amber"]
    assert [ref.source for ref in parse_specs(["amber"], no_hub)] == [models / "amber"]
    (ref,) = parse_specs(["LLM360/Amber@ckpt_007"], no_hub)
    assert ref.source == HubSource("LLM360/Amber", "ckpt_007")


def test_a_suite_s_checkpoints_are_hub_revisions_with_step_and_tokens(models):
    first, last = parse_specs(["amber:0,359"], no_hub)
    assert first == CheckpointRef(
        "LLM360/Amber", "ckpt_000", HubSource("LLM360/Amber", "ckpt_000"), step=0, tokens=3_495_886_848
    )
    assert (last.name, last.step, last.tokens) == ("LLM360--Amber@main", 359, 360 * 3_495_886_848)


def test_a_suite_s_revision_named_by_its_repository_is_the_same_checkpoint(models):
    assert parse_specs(["EleutherAI/pythia-160m@step1000"], no_hub) == parse_specs(["pythia-160m:1000"], no_hub)
    assert names("EleutherAI/pythia-160m@step1000;pythia-160m:512-1000") == [
        "EleutherAI--pythia-160m@step1000",
        "EleutherAI--pythia-160m@step512",
    ]


def test_a_mirror_s_revisions_are_known_and_can_be_selected(models):
    (named,) = parse_specs(["IFM/Amber@ckpt_001"], no_hub)
    (selected,) = parse_specs(["IFM/Amber:1"], no_hub)
    assert named == selected
    assert (named.model, named.step, named.tokens) == ("IFM/Amber", 1, 2 * 3_495_886_848)


def test_a_bad_revision_may_be_selected_and_carries_a_warning(models):
    bad, good = parse_specs(["pythia-2.8b:1000,142000"], no_hub)
    assert "EleutherAI/pythia#205" in bad.warning
    assert good.warning == ""


def test_main_is_told_apart_from_the_checkpoints_of_its_suite(models):
    (average,) = parse_specs(["allenai/OLMo-2-0425-1B"], no_hub)
    assert average.warning == "main is an average of stage 2's ingredients, and no checkpoint of a course"
    (named,) = parse_specs(["allenai/OLMo-2-0425-1B@stage1-step10000-tokens21B"], no_hub)
    assert named.warning == ""


def test_a_fault_of_a_repository_is_told_of_every_revision_of_it(models):
    refs = parse_specs(["common-pile/comma-v0.1-1t@stage1-step010000-tokens21B,main,other"], no_hub)
    assert all("adds none under transformers 5" in ref.warning for ref in refs)


def test_the_hub_is_asked_once_for_the_revisions_of_an_irregular_suite(models):
    asked = []

    def revisions_of(repo: str) -> list[str]:
        asked.append(repo)
        return ["main", "step3000-tokens13B", "step1000-tokens4B"]

    refs = parse_specs(["olmo-1b:0-2000,step3000-tokens13B"], revisions_of)
    assert [(ref.revision, ref.step, ref.tokens) for ref in refs] == [
        ("step1000-tokens4B", 1000, 4 * 10**9),
        ("step3000-tokens13B", 3000, 13 * 10**9),
    ]
    assert asked == ["allenai/OLMo-1B-hf"]


def test_a_hub_that_cannot_be_reached_is_reported_as_it_says(models):
    def revisions_of(repo: str) -> list[str]:
        raise InputError(f"{repo}: no connection to the hub")

    with pytest.raises(InputError, match="allenai/OLMo-1B-hf: no connection to the hub"):
        parse_specs(["olmo-1b:log"], revisions_of)


@pytest.mark.parametrize(
    ("name", "cause"), [(b"m\xff", "is not UTF-8"), (b"m" * 200, "a name of 200 bytes, and files are called by it")]
)
def test_a_folder_that_no_file_can_be_called_by_is_refused_at_once(tmp_path, name, cause):
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with pytest.raises(InputError, match=cause):
        names(str(tmp_path / "m*"))
