"""The built-in sets come out of small copies of their sources as out of the real ones, or one line says what is wrong.

The copies have the hub's columns and types and lie where the libraries cache downloads, so that what is tested is the
way of an offline machine with a filled cache: the real clients, no network.
"""

import csv
import functools
import re
import shutil
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise, takewhile
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value, disable_progress_bars
from hypothesis import given
from hypothesis import strategies as st

from jtrace.data import builders
from jtrace.data import sources as data_sources
from jtrace.data.loading import read_all
from jtrace.data.registry import BUILTIN
from jtrace.data.statements import Statements
from jtrace.errors import InputError

GOLD = ClassLabel(names=["anti-stereotype", "stereotype", "unrelated"])
FEATURES = {
    "truthfulqa": Features(
        {name: Value("string") for name in ("type", "category", "question", "best_answer")}
        | {name: List(Value("string")) for name in ("correct_answers", "incorrect_answers")}
        | {"source": Value("string")}
    ),
    "toxigen": Features(
        {name: Value("string") for name in ("text", "target_group", "factual?", "ingroup_effect", "lewd", "framing")}
        | {name: Value("string") for name in ("predicted_group", "stereotyping")}
        | {name: Value("float64") for name in ("intent", "toxicity_ai", "toxicity_human")}
        | {name: Value("string") for name in ("predicted_author", "actual_method")}
    ),
    "stereoset": Features(
        {name: Value("string") for name in ("id", "target", "bias_type", "context")}
        | {
            "sentences": {
                "sentence": List(Value("string")),
                "id": List(Value("string")),
                "labels": List(
                    {"label": List(ClassLabel(names=[*GOLD.names, "related"])), "human_id": List(Value("string"))}
                ),
                "gold_label": List(GOLD),
            }
        }
    ),
    "sst2": Features(
        {"idx": Value("int32"), "sentence": Value("string"), "label": ClassLabel(names=["negative", "positive"])}
    ),
}
ASKED = r"Please indicate how much people would agree … 100) strongly agree. \n"


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    disable_progress_bars()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def cached(tmp_path):
    """Put tables (rows, or lines of text) where downloads of a set's files are kept; returns the cache."""

    def cached(name: str, *tables: list, features: Features | None = None) -> Path:
        source = data_sources.SOURCES[name]
        hub_folder = tmp_path / "hub" / f"datasets--{source.repository.replace('/', '--')}" / "snapshots"
        folder = tmp_path / "github" / source.repository if source.on_github else hub_folder
        for file, table in zip(source.files, tables, strict=True):
            path = folder / source.revision / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if source.on_github:
                path.write_text("\n".join(table), "utf-8")
                continue
            columns = features or FEATURES[name]
            cells = {key: [row.get(key) for row in table] for key in columns}
            Dataset.from_dict(cells, columns).to_parquet(path)
        return tmp_path

    return cached


def labelled(statements: Statements) -> Counter:
    return Counter(zip(statements.texts, statements.labels.tolist(), strict=True))


def error_of(name: str, cache: Path) -> str:
    """The message of the InputError that building the set ends in: one line that offers the published file."""
    with pytest.raises(InputError) as caught:
        data_sources.build(name, cache)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{name}: ")
    assert message.endswith(f"give --data_dir=FOLDER with the published {BUILTIN[name].csv} in it")
    return message


# Small tables, one per set

QUESTION = {
    "question": "Which way is up?",
    "best_answer": "Away from the ground",
    "correct_answers": ["Away from the ground", "Skywards.", "Away from the ground.", "", "Overhead", "Aloft"],
    "incorrect_answers": ["Left", " "],
}
RATED = [
    {"text": "a kind word", "toxicity_human": 1.0},
    {"text": "A kind word. ", "toxicity_human": 2.0},
    {"text": "an unkind word", "toxicity_human": 2.3333333333},
]
TESTED = [{"text": "the unkindest word", "toxicity_human": 5.0}]


def continued(context="The baker sings.", golds=(1, 2, 0), bias_type="race") -> dict:
    sentences = [f"Sentence {gold}." for gold in golds]
    few = len(golds)
    labels = [{"label": [0, 3], "human_id": ["a", "b"]}] * few
    return {
        "bias_type": bias_type,
        "context": context,
        "sentences": {"sentence": sentences, "id": ["x"] * few, "labels": labels, "gold_label": list(golds)},
    }


FLOWS = ["clinic", "shop", "library", "bank", "school", "museum"]
TIER_2A = [f"{ASKED}Information is collected by the {place}." for place in FLOWS]
TIER_2B = [rf"Please indicate … agree.\n The {place} asks." for place in FLOWS]
AGREEMENTS = ["-80.5", "-19.9", "-50", "-20.00", "-61", "70"]


def build_all(cached) -> dict[str, Statements]:
    caches = [
        cached("truthfulqa", [QUESTION, {**QUESTION, "question": "And down?"}]),
        cached("toxigen", RATED, TESTED),
        cached("confaide", TIER_2A, TIER_2B, AGREEMENTS),
        cached("stereoset", [continued(), continued("The miner naps."), continued(bias_type="gender")]),
        cached("sst2", [{"sentence": "fine weather ."}, {"sentence": "foul weather ."}]),
    ]
    return {name: data_sources.build(name, caches[0]) for name in data_sources.SOURCES}


def test_every_built_in_set_is_built_with_its_source_its_rows_and_its_groups(cached):
    built = build_all(cached)

    assert list(built) == list(BUILTIN)
    for name, statements in built.items():
        source = data_sources.SOURCES[name]
        assert statements.name == name
        assert statements.source.endswith(f":{source.repository}@{source.revision}")
        assert re.fullmatch(r"[0-9a-f]{40}", source.revision)
        assert statements.where(0) == f"{statements.source.partition('/')[2]}, row {statements.rows[0]}"
        assert statements.groups is not None
        assert len(statements) == len(statements.groups) == len(statements.rows)
    assert built["sst2"].source.startswith("hub:")
    assert built["confaide"].source.startswith("github:")


def test_a_set_is_built_the_same_every_time(cached):
    first, second = build_all(cached), build_all(cached)

    assert [statements.fingerprint for statements in first.values()] == [
        statements.fingerprint for statements in second.values()
    ]
    # A fingerprint that moves says that earlier runs used other statements.
    assert {name: statements.fingerprint[:8] for name, statements in first.items()} == {
        "truthfulqa": "f0ea6dfa",
        "toxigen": "60da1850",
        "confaide": "7511a73b",
        "stereoset": "5109e9a9",
        "sst2": "97b8c0ae",
    }


def test_a_built_in_name_without_data_dir_is_built_from_the_hub(cached):
    cache = cached("sst2", [{"sentence": "fine weather ."}])

    (statements,) = read_all(["sst2"], cache_dir=cache)

    assert labelled(statements) == {("fine weather .", 0): 1, ("Fine weather .", 1): 1}


# TruthfulQA


def test_truthfulqa_takes_the_first_three_different_answers_of_each_side_with_a_full_stop(cached):
    statements = data_sources.build("truthfulqa", cached("truthfulqa", [QUESTION]))

    true = ["Away from the ground.", "Skywards.", "Overhead."]
    assert labelled(statements) == {
        **{(f"Q: Which way is up?\tA: {answer}", 1): 1 for answer in true},
        ("Q: Which way is up?\tA: Left.", 0): 1,
    }


def test_truthfulqa_takes_half_of_the_questions_whole_and_groups_by_question():
    rows = [{**QUESTION, "question": f"Question {i}?"} for i in range(41)]

    examples = builders.truthfulqa(rows)

    assert Counter(example.group for example in examples) == Counter(
        {f"question {row - 1}": 4 for row in {example.row for example in examples}}
    )
    assert len({example.group for example in examples}) == 21
    assert {example.group for example in builders.truthfulqa(reversed(rows))} == {example.group for example in examples}


def test_truthfulqa_shuffles_rows():
    examples = builders.truthfulqa([{**QUESTION, "question": f"Question {i}?"} for i in range(40)])

    rows = [example.row for example in examples]
    assert rows != sorted(rows)
    assert sum(one == other for one, other in pairwise(rows)) < len(rows) / 4


# ToxiGen


def test_toxigen_calls_ratings_above_two_toxic_and_keeps_the_order_of_the_source(cached):
    statements = data_sources.build("toxigen", cached("toxigen", RATED, TESTED))

    assert statements.texts == ("a kind word", "A kind word. ", "an unkind word", "the unkindest word")
    assert statements.labels.tolist() == [0, 0, 1, 1]
    assert statements.rows == (1, 2, 3, 4)


def test_toxigen_groups_texts_that_differ_in_case_punctuation_or_spacing_only(cached):
    groups = data_sources.build("toxigen", cached("toxigen", RATED, TESTED)).groups

    assert groups[0] == groups[1]
    assert len(set(groups)) == 3


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_toxigen_says_which_rows_have_no_rating(cached, caplog, missing):
    unrated = {"text": "a word", "toxicity_human": missing}

    statements = data_sources.build("toxigen", cached("toxigen", [unrated, *RATED, unrated], TESTED))

    assert statements.rows == (2, 3, 4, 6)
    assert "toxigen: 2 rows left out, they have no toxicity_human; first: row 1" in caplog.text


def test_toxigen_keeps_duplicates(cached):
    statements = data_sources.build("toxigen", cached("toxigen", [*RATED, *RATED], TESTED))

    assert len(statements) == 7
    assert max(labelled(statements).values()) == 2


def test_toxigen_reads_texts_in_the_notation_of_bytes():
    texts = [r"b'caf\xc3\xa9'", 'b"it\'s"', " b'spaced' ", "b is a letter", "b'open"]

    examples = builders.toxigen([{"text": text, "toxicity_human": 1.0} for text in texts])

    assert [example.statement for example in examples] == ["café", "it's", "spaced", "b is a letter", "b'open"]


# ConfAIde


def test_confaide_takes_what_people_clearly_accept_or_reject_in_both_wordings(cached):
    statements = data_sources.build("confaide", cached("confaide", TIER_2A, TIER_2B, AGREEMENTS))

    assert labelled(statements) == Counter(
        (text.format(place), label)
        for label, places in ((0, ["shop", "museum"]), (1, ["clinic", "school"]))
        for place in places
        for text in ("Information is collected by the {}.", "The {} asks.")
    )
    assert set(Counter(statements.groups).values()) == {2}
    assert sorted(set(statements.rows)) == [1, 2, 5, 6]


def test_confaide_is_balanced_by_leaving_out_whole_scenarios_of_the_larger_side():
    agreements = ["0", *["-99"] * 5]

    examples = builders.confaide(*([{"text": line} for line in lines] for lines in (TIER_2A, TIER_2B, agreements)))

    assert Counter(example.label for example in examples) == {0: 2, 1: 2}
    assert set(Counter(example.group for example in examples).values()) == {2}


# StereoSet


def test_stereoset_pairs_the_anti_stereotype_with_the_unrelated_sentence(cached):
    rows = [continued("The baker sings. "), continued("The miner naps.", (2, 0, 1)), continued(bias_type="gender")]

    statements = data_sources.build("stereoset", cached("stereoset", rows))

    assert labelled(statements) == {
        (f"{context} Sentence {gold}.", label): 1
        for context in ("The baker sings.", "The miner naps.")
        for gold, label in ((0, 1), (2, 0))
    }


def test_stereoset_pairs_are_adjacent_and_grouped_by_context_and_both_orders_occur():
    examples = builders.stereoset(continued(f"Context {i}.") for i in range(40))

    pairs = list(zip(examples[::2], examples[1::2], strict=True))
    assert all(one.group == other.group and one.label != other.label for one, other in pairs)
    assert {one.label for one, _ in pairs} == {0, 1}
    assert [one.row for one, _ in pairs] != sorted(one.row for one, _ in pairs)


def test_stereoset_reads_sentences_stored_as_a_list_of_structs_and_classes_by_name(cached):
    struct = {"sentence": Value("string"), "gold_label": Value("string")}
    features = Features({"bias_type": Value("string"), "context": Value("string"), "sentences": List(struct)})
    sentences = [{"sentence": name, "gold_label": name} for name in GOLD.names]
    row = {"bias_type": "race", "context": "Here.", "sentences": sentences}

    statements = data_sources.build("stereoset", cached("stereoset", [row], features=features))

    assert labelled(statements) == {("Here. anti-stereotype", 1): 1, ("Here. unrelated", 0): 1}


# SST-2


def test_sst2_has_each_sentence_clean_and_perturbed_in_one_group(cached):
    sentences = ["fine weather . ", "Fine  Weather !", "foul weather ."]

    statements = data_sources.build(
        "sst2", cached("sst2", [{"sentence": sentence, "label": -1} for sentence in sentences])
    )

    assert statements.labels.sum() == 3
    assert "fine weather ." in statements.texts
    by_group = defaultdict(list)
    for text, label, group in zip(statements.texts, statements.labels, statements.groups, strict=True):
        by_group[group].append((text.casefold(), int(label)))
    assert {group: len(rows) for group, rows in by_group.items()} == {"fine weather": 4, "foul weather": 2}
    assert sorted(by_group["foul weather"]) == [("foul weather .", 0), ("foul weather .", 1)]


@given(st.text())
def test_perturbing_changes_case_only_and_always_the_same_way(text):
    perturbed = builders.perturb(text)

    assert perturbed.casefold() == text.casefold()
    assert len(perturbed) == len(text)
    assert perturbed == builders.perturb(text)
    changed = [i for i, (one, other) in enumerate(zip(text, perturbed, strict=True)) if one != other]
    assert len(changed) <= max(1, len(text) // builders.CHARACTERS_PER_CAPITAL)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_perturbing_changes_every_english_text_that_has_a_lower_case_letter(text):
    assert (builders.perturb(text) != text) == any("a" <= character <= "z" for character in text)


def test_perturbing_raises_the_first_letter_and_one_place_in_twenty():
    assert builders.perturb("... short .") == "... Short ."
    assert sum(character.isupper() for character in builders.perturb("a" * 200)) == 10
    assert builders.perturb("straße") == "Straße"
    assert builders.perturb("ßa") == "ßA"


# The published files: how much of their form the templates reproduce


def published(shared: Path, name: str) -> list[tuple[str, int]]:
    with (shared / "data" / BUILTIN[name].csv).open(encoding="utf-8-sig", newline="") as file:
        return [(row["statement"], int(row["label"])) for row in csv.DictReader(file)]


@pytest.mark.real
def test_the_published_truthfulqa_comes_back_from_its_own_questions_and_answers(shared):
    rows: dict[str, dict] = {}
    for statement, label in published(shared, "truthfulqa"):
        question, answer = re.fullmatch("Q: (.*)\tA: (.*)", statement).groups()
        row = rows.setdefault(question, {"question": question, "correct_answers": [], "incorrect_answers": []})
        row["correct_answers" if label else "incorrect_answers"].append(answer.removesuffix("."))

    examples = builders.truthfulqa(rows.values())

    assert len(rows) == 410
    asked = {example.statement.partition("\t")[0] for example in examples}
    assert Counter((example.statement, example.label) for example in examples) == Counter(
        (statement, label)
        for statement, label in published(shared, "truthfulqa")
        if statement.partition("\t")[0] in asked
    )
    assert len(asked) == 205


@pytest.mark.real
def test_the_published_stereoset_is_adjacent_pairs_of_a_context_and_two_sentences(shared):
    rows = published(shared, "stereoset")
    pairs = [{label: text for text, label in pair} for pair in zip(rows[::2], rows[1::2], strict=True)]
    assert all(set(pair) == {0, 1} for pair in pairs)

    table = []
    for pair in pairs:
        words = zip(pair[0].split(" "), pair[1].split(" "), strict=False)
        context = " ".join(one for one, _ in takewhile(lambda both: both[0] == both[1], words))
        sentences = [pair[1][len(context) + 1 :], "Left out.", pair[0][len(context) + 1 :]]
        cells = {"sentence": sentences, "gold_label": [0, 1, 2]}
        table.append({"bias_type": "race", "context": context, "sentences": cells})
    examples = builders.stereoset(table)

    assert Counter((example.statement, example.label) for example in examples) == Counter(rows)


@pytest.mark.real
def test_the_published_sst2_was_perturbed_as_ours_is(shared):
    rows = published(shared, "sst2")
    clean = {text for text, label in rows if label == 0}
    theirs = {text.lower(): text for text, label in rows if label == 1}
    ours = {text: builders.perturb(text) for text in clean}

    assert len(clean) == 1821
    assert theirs.keys() == clean

    def capitals(texts: Mapping[str, str]) -> int:
        return sum(sum(map(str.isupper, text)) for text in texts.values())

    def beyond_the_first(text: str) -> int:
        return sum(map(str.isupper, text[1:]))

    assert capitals(ours) == pytest.approx(capitals(theirs), rel=0.03)
    # No text of theirs has more capitals after its first character than places are drawn.
    assert all(
        beyond_the_first(text) <= max(0, len(text) // builders.CHARACTERS_PER_CAPITAL - 1) for text in theirs.values()
    )
    assert sum(text == perturbed for text, perturbed in theirs.items()) == 14
    assert not any(text == perturbed for text, perturbed in ours.items())


# Bad input


def bare(name: str, **changes) -> dict:
    """A good row of a set with some cells changed."""
    return {"truthfulqa": QUESTION, "toxigen": RATED[0], "stereoset": continued(), "sst2": {"sentence": "fine ."}}[
        name
    ] | changes


BAD_ROWS = {
    "question null": (bare("truthfulqa", question=None), "truthfulqa: row 2: question is empty, or not text"),
    "answers null": (bare("truthfulqa", correct_answers=None), "row 2: correct_answers is not a list of texts"),
    "an answer null": (bare("truthfulqa", incorrect_answers=[None]), "row 2: incorrect_answers is not a list of"),
    "rating beyond the scale": (bare("toxigen", toxicity_human=0.5), "row 2: toxicity_human 0.5 is no rating from 1"),
    "text blank": (bare("toxigen", text=" \t"), "toxigen: row 2: text is empty, or not text"),
    "blank bytes": (bare("toxigen", text="b' '"), "toxigen: row 2: text is empty, or not text"),
    "damaged bytes": (bare("toxigen", text=r"b'\xff'"), "row 2: text is neither plain nor Python's notation of"),
    "context empty": (bare("stereoset", context=""), "stereoset: row 2: context is empty"),
    "no sentences": (bare("stereoset", sentences=None), "row 2: no sentence has the gold_label anti-stereotype"),
    "gold label missing": (continued(golds=(0, 1)), "row 2: no sentence has the gold_label unrelated"),
    "gold label twice": (continued(golds=(0, 1, 2, 1)), "row 2: two sentences have the gold_label stereotype"),
    "sentence empty": (bare("sst2", sentence=""), "sst2: row 2: sentence is empty"),
    "nothing to raise": (bare("sst2", sentence="1 2 3 !"), "row 2: the sentence has no lower-case letter"),
}


@pytest.mark.parametrize(("row", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_row_is_named(cached, row, message):
    name = next(name for name, features in FEATURES.items() if row.keys() <= features.keys())
    tables = [[bare(name), row], TESTED] if name == "toxigen" else [[bare(name), row]]

    assert message in error_of(name, cached(name, *tables))


@pytest.mark.parametrize("gold", [3, -1, None, "related"])
def test_an_unknown_gold_label_is_named(gold):
    row = continued()
    row["sentences"]["gold_label"][0] = gold

    with pytest.raises(InputError, match=f"row 1: gold_label {gold!r} is none of anti-stereotype, stereotype, unrel"):
        builders.stereoset([row])


def test_sentences_of_another_shape_are_named():
    row = continued()
    row["sentences"]["sentence"].pop()
    with pytest.raises(InputError, match="row 1: the fields of sentences differ in length"):
        builders.stereoset([row])
    row["sentences"] = [{"sentence": "Hm.", "gold": 0}]
    with pytest.raises(InputError, match=r"row 1: sentences have no field 'gold_label'; they have \['gold', 'sent"):
        builders.stereoset([row])


@pytest.mark.parametrize(
    ("tier_2a", "agreements", "message"),
    [
        (TIER_2A[:5], AGREEMENTS, "the files do not match line by line: 5 and 6 texts for 6 labels"),
        (TIER_2A, ["much", *AGREEMENTS[1:]], "row 1: label 'much' is no number from -100 to 100"),
        (TIER_2A, [*AGREEMENTS[:5], "101"], "row 6: label '101' is no number from -100 to 100"),
        (TIER_2A, ["nan", *AGREEMENTS[1:]], "row 1: label 'nan' is no number"),
        ([TIER_2A[0].partition(r"\n")[2], *TIER_2A[1:]], AGREEMENTS, "row 1: no scenario behind an instruction"),
        (TIER_2A, ["-80"] * 6, "gives 0 statements with labels []"),
    ],
)
def test_bad_confaide_files_are_named(cached, tier_2a, agreements, message):
    assert message in error_of("confaide", cached("confaide", tier_2a, TIER_2B, agreements))


def test_a_missing_column_is_named_with_the_columns_there_are(cached):
    features = Features({"text": Value("string"), "label": Value("int64")})

    cache = cached("sst2", [{"text": "fine .", "label": 1}], features=features)

    assert "has no column 'sentence'; it has text, label;" in error_of("sst2", cache)


def test_one_class_only_is_refused(cached):
    assert "gives 2 statements with labels [0]" in error_of("toxigen", cached("toxigen", RATED[:1], RATED[1:2]))


def test_a_damaged_file_is_named(cached):
    cache = cached("sst2", [{"sentence": "fine ."}])
    (file,) = cache.rglob("test-*.parquet")
    file.write_bytes(file.read_bytes()[:-9])

    assert "cannot load data/test-00000-of-00001.parquet of hub:stanfordnlp/sst2@8d51e7e" in error_of("sst2", cache)


@pytest.mark.parametrize("name", ["truthfulqa", "confaide"])
def test_an_unreachable_source_is_one_line_that_offers_the_published_file(name, tmp_path):
    message = error_of(name, tmp_path)

    assert f"cannot load {data_sources.SOURCES[name].files[0]} of {data_sources.SOURCES[name]}" in message
    assert " or give --data_dir=FOLDER with the published" in message


def test_what_the_hub_says_of_a_source_is_passed_on_whole(monkeypatch, tmp_path):
    advice = "needs an account that has accepted its terms; " + "log in, or set HF_TOKEN; " * 9
    monkeypatch.setattr(data_sources, "fetch", lambda *_: (_ for _ in ()).throw(InputError(advice)))

    assert advice in error_of("truthfulqa", tmp_path)


# Downloads


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder that stands for GitHub, served on the loopback interface while the test runs."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(data_sources, "GITHUB", f"http://127.0.0.1:{server.server_port}")
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder
        server.shutdown()


def test_files_from_github_are_downloaded_once(served, tmp_path):
    source = data_sources.SOURCES["confaide"]
    folder = served / source.repository / source.revision
    for file, lines in zip(source.files, (TIER_2A, TIER_2B, AGREEMENTS), strict=True):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("\n".join(lines), "utf-8")

    statements = data_sources.build("confaide", tmp_path / "cache")
    shutil.rmtree(folder)

    assert len(statements) == 8
    assert data_sources.build("confaide", tmp_path / "cache").fingerprint == statements.fingerprint
    assert len([path for path in (tmp_path / "cache" / "github").rglob("*") if path.is_file()]) == len(source.files)


def test_a_file_that_github_does_not_have_is_named_and_leaves_nothing(served, tmp_path):
    message = error_of("confaide", tmp_path / "cache")

    assert "cannot load benchmark/tier_2a.txt of github:skywalker023/confAIde@3174c63" in message
    assert "HTTP Error 404" in message
    assert not (tmp_path / "cache" / "github").exists()
