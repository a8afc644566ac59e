"""Which checkpoints a spec names, and what they are called."""

from pathlib import Path

import pytest

from jtrace.checkpoints.refs import parse_specs
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
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*specs: str) -> list[str]:
    return [ref.name for ref in parse_specs(specs)]


def test_a_folder_called_like_a_step_is_a_revision_of_its_parent(models):
    (ref,) = parse_specs(["llama/step20"])
    assert (ref.model, ref.revision, ref.step, ref.tokens) == ("llama", "step20", 20, None)
    assert ref.path == models / "llama/step20"


def test_any_other_folder_is_a_model(models):
    (ref,) = parse_specs(["smollm2"])
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
        ("stage2-ingredient1-step7-tokens1B", 7, 10**9),
        ("stage3-step-20", 20, None),
    ],
)
def test_step_and_tokens_are_read_from_the_name(tmp_path, name, step, tokens):
    (tmp_path / name).mkdir()
    (tmp_path / name / "config.json").touch()
    (ref,) = parse_specs([str(tmp_path / name)])
    assert (ref.revision, ref.step, ref.tokens) == (name, step, tokens)


@pytest.mark.parametrize("name", ["steps", "stepstone3", "v2-final", "llama-7b"])
def test_names_that_only_resemble_a_step_are_models(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "config.json").touch()
    assert parse_specs([str(tmp_path / name)])[0].model == name


def test_a_glob_is_ordered_by_the_number_in_the_name(models):
    assert names("llama/*") == ["llama@step3", "llama@step20", "llama@step100"]


def test_a_folder_whose_name_looks_like_a_glob_is_itself(models):
    (models / "run[1]").mkdir()
    (models / "run[1]/config.json").touch()
    assert names("run[1]") == ["run[1]"]


def test_a_link_is_named_as_the_user_names_it(models):
    (models / "links").mkdir()
    (models / "links/step7").symlink_to(models / "llama/step20")
    (ref,) = parse_specs(["links/step7"])
    assert (ref.name, ref.path) == ("links@step7", models / "llama/step20")


def test_a_name_that_would_hide_its_table_is_refused(models):
    (models / "_base").mkdir()
    (models / "_base/config.json").touch()
    with pytest.raises(InputError, match="'_base' begins with '_'"):
        parse_specs(["_base"])


def test_specs_are_separated_or_repeated_and_duplicates_dropped(models):
    assert names("llama/step100; smollm2", "llama/step*") == ["llama@step100", "smollm2", "llama@step3", "llama@step20"]


def test_one_name_for_two_folders_is_an_error(models):
    (models / "a/llama/step3").mkdir(parents=True)
    (models / "a/llama/step3/config.json").touch()
    with pytest.raises(InputError, match="two checkpoints are called 'llama@step3'"):
        parse_specs(["llama/step3;a/llama/step3"])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "names nothing"),
        (" ; ", "names nothing"),
        ("llama/ckpt*", "matches nothing; folders in 'llama': logs, step100, step20, step3"),
        ("llama/lo*", "matches 1 entries without config.json"),
        ("llama/step4", "is not a folder; folders in 'llama'"),
        ("llama", "holds no config.json; folders in 'llama'"),
        ("nowhere/x", "'nowhere' does not exist"),
        ("LLM360/Amber@ckpt_179", "Hub ids and suites are not fetched yet"),
    ],
)
def test_a_spec_that_names_nothing_says_what_was_found(models, spec, message):
    with pytest.raises(InputError) as error:
        parse_specs([spec])
    assert message in str(error.value)
    assert "\n" not in str(error.value)
