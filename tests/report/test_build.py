"""The report: from any run, self-contained, and legible in a browser."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from jtrace.errors import InputError
from jtrace.report.build import write_report
from jtrace.report.figures.choice import MOST_SETS
from jtrace.runs.log import append
from jtrace.runs.metrics_files import WARNINGS_KEY
from jtrace.runs.run_directory import RunDirectory
from tests.conftest import ROOT
from tests.report.browser import look
from tests.report.hostile import NAME, hostile_run
from tests.report.reading import Page
from tests.runs.test_log import at
from tests.tables import (
    both_protocols,
    dynamics_tables,
    metrics_table,
    sound_table,
    steering_table,
    write_projections,
    write_run,
    write_steering,
)


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def small(steps=(0, 100), **options):
    return metrics_table(steps, **{"layers": 2, "datasets": ["mine"]} | options)


def with_dynamics(path, steps=(0, 20, 100), datasets=("mine",)):
    """A run by both protocols with every table of dynamics."""
    run = write_run(path, both_protocols(steps, layers=3, datasets=datasets))
    run.write_dynamics(dynamics_tables(steps, datasets, layers=3))
    return run


def test_the_page_holds_everything_and_asks_the_net_for_nothing(tmp_path):
    metrics = small([0, 5, 20, 100], layers=1)
    run = write_run(tmp_path / "run", metrics)
    write_projections(run, "llama@step0", ["mine"], layers=1)
    write_steering(run, steering_table([f"llama@step{step}" for step in (0, 5, 20, 100)]))
    write_steering(run, steering_table(["chat"], [-1.0, 1.0], "llama@step5", "mine"), "chat")
    path = write_report(run.path)
    assert path == run.path / "report.html"
    page = read(path)
    assert len(page.images) == 7
    assert all(image["src"].startswith("data:image/webp;base64,") and image["alt"] for image in page.images)
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)
    assert page.scripts == 2  # data, and the page's own
    assert "http:" not in path.read_text(encoding="utf-8")
    assert "https:" not in path.read_text(encoding="utf-8")
    for section in ("Probe accuracy", "Information", "Activations", "Steering", "Probes and behaviour"):
        assert section in page.words


@pytest.mark.slow
def test_a_run_that_cannot_be_written_into_is_left_as_it_is(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", small())
    before = sorted(run.path.rglob("*"))
    monkeypatch.setattr("jtrace.report.build.os.access", lambda path, mode: path != run.path)
    (tmp_path / ".page.html.elsewhere-1.tmp").write_text("half")  # another machine's
    path = write_report(run.path, tmp_path / "page.html")
    assert sorted(run.path.rglob("*")) == before
    assert read(path).images
    assert sorted(p.name for p in tmp_path.iterdir()) == [".page.html.elsewhere-1.tmp", "page.html", "run"]


@pytest.mark.slow
def test_the_page_leads_with_what_is_sound_and_has_all_sections_of_it(tmp_path):
    run = with_dynamics(tmp_path / "run", datasets=("one", "other"))
    page = read(write_report(run.path))
    lead = page.words.partition("What was run")[0]
    best = "all of text only, random initialisation and chance"
    assert f"linear probes are clearly more accurate than {best} on every set: one and other." in lead
    assert "0.90 (0.87 to 0.93) at step 100 (layer 2, 2000 held-out rows): above text only by" in lead
    assert "from step 20 on (step 10 to step 30)" in lead
    assert "test rows): clearly above" not in lead
    for section in ("Paper and sound side by side", "The course of pre-training", "How vectors turn", "Transfer"):
        assert section in page.words
    for term in ("grouped folds", "95 % interval, band", "null, p, above the null", "control task, selectivity",
                 "random initialisation", "calibration error (ECE)", "bound on I(Y;T)", "onset", "turn",
                 "transfer A probe of one set"):  # fmt: skip
        assert term in page.words.partition("How to read this layer")[2]
    assert len([image for image in page.images if "osine" in image["alt"]]) == 3

    (run.path / "dynamics" / "turns.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"dynamics/turns\.parquet: damaged"):
        write_report(run.path)


@pytest.mark.parametrize("table", [metrics_table, sound_table])
def test_a_page_of_one_protocol_has_nothing_beside_it_and_only_the_terms_that_it_uses(tmp_path, table):
    words = read(write_report(write_run(tmp_path / "run", table([None], layers=2, datasets=["mine"])).path)).words
    assert "side by side" not in words
    assert "onset" not in words
    assert ("grouped folds" in words) == (table is sound_table)


def test_findings_come_first_in_words(tmp_path):
    chat = metrics_table([None], layers=2, datasets=["mine"], model="chat")
    words = read(write_report(write_run(tmp_path / "run", pd.concat([small(), chat])).path)).words
    assert "Trustworthiness in llama, chat" in words
    assert "At the last checkpoint (step 100), linear probes are clearly more accurate than the text-only" in words
    assert "0.70 at step 0, 0.80 at step 100 (layer 1, 400 test rows): clearly above" in words
    assert "chat, traced beside it : mine 0.70 (clearly above)." in words


@pytest.mark.slow
def test_it_says_what_was_run(tmp_path):
    words = read(write_report(write_run(tmp_path / "run", small()).path)).words
    for expected in ("2 of 2 checkpoints traced", "2026-01-02", "launch/trace.py --out=run", "jtrace 0.1.0", "1 × cpu",
                     "2,000 400 45.0%", "llama@step100"):  # fmt: skip
        assert expected in words


def test_failures_missing_checkpoints_and_warnings_are_told(tmp_path):
    metrics = small([None])
    metrics.loc[metrics["metric"] == "text_accuracy", "value"] = 0.97
    run = write_run(tmp_path / "run", metrics.assign(n=29), checkpoints=["llama", "broken", "later"])
    (run.path / "failures.jsonl").write_text(json.dumps({"checkpoint": "broken", "error": "no <weights>"}) + "\n")
    words = read(write_report(run.path)).words
    assert "1 of 3 checkpoints so far, 1 failed" in words
    assert "broken no <weights>" in words
    assert "Not traced yet: later." in words
    assert "mine: a text-only classifier reaches 0.97" in words
    assert "mine: its 29 held-out rows say as much as 29 groups of one size, fewer than 30" in words


def test_an_unfinished_run_says_so_at_the_top(tmp_path):
    run = write_run(tmp_path / "run", small(), checkpoints=["llama@step0", "llama@step100", "llama@step7", "chat"])
    words = read(write_report(run.path)).words
    assert words.index("2 of 4 checkpoints so far; not traced yet: llama@step7 and chat.") < words.index("0.70 at step")
    many = write_run(tmp_path / "many", small(), checkpoints=[f"llama@step{step}" for step in range(24)])
    assert "not traced yet: 23 checkpoints." in read(write_report(many.path)).words
    assert "so far" not in read(write_report(write_run(tmp_path / "done", small()).path)).words


@pytest.mark.slow
@pytest.mark.parametrize("comes_back", [False, True])
def test_a_table_that_vanishes_between_listing_and_reading_is_no_error(tmp_path, monkeypatch, comes_back):
    run = write_run(tmp_path / "run", small())
    listed, vanishing = run.tables(), run.path / "metrics" / "llama@step100.parquet"
    content, calls = vanishing.read_bytes(), []

    def tables(self):
        calls.append(None)
        if len(calls) == 1:
            vanishing.unlink()
            return listed
        if comes_back and len(calls) == 2:
            vanishing.write_bytes(content)
        return sorted((self.path / "metrics").glob("*.parquet"))

    monkeypatch.setattr(RunDirectory, "tables", tables)
    words = read(write_report(run.path)).words
    assert ("2 of 2 checkpoints traced" if comes_back else "1 of 2 checkpoints so far") in words


def test_how_the_sweep_went_is_a_figure_and_a_table(tmp_path):
    run = write_run(tmp_path / "run", small([None], layers=1))
    assert "The sweep itself" not in read(write_report(run.path)).words
    for number in range(3):
        append(run.log_path, at(10 * number, 10, 1, 2, 1))
    page = read(write_report(run.path))
    assert [image["alt"] for image in page.images if image["alt"].startswith("Bars over time, a lane per stage: 3")]
    for expected in (
        "wall time 34.0 s",
        "wall / slowest 1.13; the slowest stage is fetch",
        "peak memory 1.5 GiB",
        "peak disk 0.9 GiB",
        "fetch 3 30.0 s 10.0 s 54 MB/s 1.133",
        "read 3 3.0 s 1.0 s 276 MB/s 11.333",
        "extract 3 6.0 s 2.0 s 19,135 tokens/s 5.667",
        "statistics 3 3.0 s 1.0 s – 11.333",
        "compute 3 9.0 s 3.0 s – 3.778",
    ):
        assert expected in page.words
    assert write_report(run.path, tmp_path / "again.html").read_bytes() == (run.path / "report.html").read_bytes()


def test_a_run_without_a_table_says_so(tmp_path):
    run = write_run(tmp_path / "run", small([None]))
    run.tables()[0].unlink()
    page = read(write_report(run.path))
    assert "No checkpoint has been traced yet" in page.words
    assert "Not traced yet: llama." in page.words
    assert not page.images
    assert "Steering" not in page.words


def test_hostile_names_are_text_not_markup_and_control_characters_are_shown(tmp_path):
    run = hostile_run(tmp_path / "run")
    page = read(path := write_report(run.path))
    assert page.scripts == 2
    assert all(image["src"].startswith("data:image/webp;base64,") and "onerror" not in image for image in page.images)
    assert page.words.count(NAME) > 20
    text = path.read_text(encoding="utf-8")
    assert not [character for character in text if not character.isprintable() and character != "\n"]
    for shown in ("\\x1b[31m", "\\udc80", "\\x1b]0;title\\x07", "\\x9b", "\\r\\x00"):
        assert shown in page.words


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(tmp_path):
    run = with_dynamics(tmp_path / "run", steps=(0, 20))
    first = write_report(run.path).read_bytes()
    assert write_report(run.path, tmp_path / "other.html").read_bytes() == first


@pytest.mark.slow
def test_many_checkpoints_are_shown_in_part_and_that_is_said(tmp_path):
    metrics = small(range(40), layers=1)
    words = read(write_report(write_run(tmp_path / "run", metrics).path)).words
    assert "16 of 40 checkpoints, evenly chosen" in words
    assert "All 40 checkpoints" in words


def command(run: Path) -> subprocess.CompletedProcess:
    arguments = [sys.executable, str(ROOT / "launch/report.py"), f"--run={run}"]
    return subprocess.run(arguments, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_command_prints_the_file_and_refuses_in_one_line(tmp_path):
    run = write_run(tmp_path / "run", small([None], layers=1))
    done = command(run.path)
    assert (done.returncode, done.stdout.strip()) == (0, str(run.path / "report.html")), done.stderr
    refused = command(tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert f"error: {tmp_path}: no run directory" in refused.stderr


def test_a_damaged_table_is_named_and_leaves_no_page(tmp_path):
    run = write_run(tmp_path / "run", small([None]))
    table = run.tables()[0]
    table.write_bytes(table.read_bytes()[:40])
    with pytest.raises(InputError, match=r"llama\.parquet: damaged"):
        write_report(run.path)
    assert not (run.path / "report.html").exists()


@pytest.mark.slow
@pytest.mark.browser
def test_a_browser_shows_it_without_errors_and_a_phone_need_not_scroll_sideways(tmp_path):
    report = write_report(with_dynamics(tmp_path / "run", datasets=("stereoset", "mine")).path)
    found = look(
        tmp_path,
        report,
        "const page = (await open(390)).document, root = page.documentElement;"
        "return { overflow: root.scrollWidth - root.clientWidth,"
        " drawn: [...page.images].every((image) => image.naturalWidth > 400),"
        " boxes: [...page.querySelectorAll('.scroll')].some((box) => box.scrollWidth > box.clientWidth) };",
    )
    assert found == {"overflow": 0, "drawn": True, "boxes": True}


@pytest.mark.slow
def test_what_was_said_while_tracing_is_told_again(tmp_path):
    """Warnings lie with the checkpoint's table and oddities of sets in run.json, so a resumed run has them too."""
    run = write_run(tmp_path / "run", small([0, 20, 100, 200]))
    for path in run.tables():
        table = pq.read_table(path)
        about = {WARNINGS_KEY: b'["<weights> of another step"]'}
        pq.write_table(table.replace_schema_metadata(about), path)
    record = run.record()
    record["sets"]["mine"] = {"odd": ["duplicates: 3 rows repeat"]}
    (run.path / "run.json").write_text(json.dumps(record))
    words = read(write_report(run.path)).words
    names = [path.stem for path in run.tables()]
    assert f"{', '.join(names[:3])} and 1 more: <weights> of another step" in words
    assert "mine: duplicates: 3 rows repeat" in words


@pytest.mark.slow
def test_of_many_sets_the_page_draws_and_names_some_and_has_tables_of_all(tmp_path):
    sets = [f"set{number:02}" for number in range(20)]
    page = read(write_report(write_run(tmp_path / "run", sound_table([0, 100], layers=1, datasets=sets)).path))
    lead = page.words.partition("What was run")[0]
    assert "set11 and 8 more." in lead
    assert "8 more : each with its verdict in the table under Probe accuracy." in lead
    drawn = f"{MOST_SETS} of {len(sets)} statement sets: those whose best accuracy differs most"
    assert page.words.count(drawn) == len(page.images)
    assert f"{MOST_SETS} of {len(sets)} sets, the others in RUN/metrics as transfer_auroc:SET" in page.words
    verdicts = page.words.partition("protocol sound, with 95 % intervals")[2]
    assert all(f"{name} llama 0 0.6" in verdicts for name in sets)
