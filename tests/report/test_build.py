"""The report: from any run, self-contained, and legible in a browser."""

import json
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from jtrace.errors import InputError
from jtrace.report.build import write_report
from jtrace.runs.log import append
from jtrace.runs.run_directory import WARNINGS_KEY, RunDirectory
from tests.conftest import ROOT
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

VOID = {"meta", "link", "img", "br", "hr"}


class Page(HTMLParser):
    """What a page consists of; unclosed or crossing elements fail the test."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids, self.links, self.images, self.tags, self.text = [], [], [], set(), []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.add(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[key] for key in ("href", "src") if key in found]
        self.images += [found] if tag == "img" else []
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


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
    found = read(path)
    assert len(found.images) == 7
    assert all(image["src"].startswith("data:image/png;base64,") and image["alt"] for image in found.images)
    assert all(link.startswith(("data:", "#")) for link in found.links)
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)
    assert len(set(found.ids)) == len(found.ids)
    assert "script" not in found.tags
    assert "http" not in path.read_text(encoding="utf-8")
    for section in ("Probe accuracy", "Information", "Activations", "Steering", "Probes and behaviour"):
        assert section in found.words


def test_the_page_leads_with_what_is_sound_and_has_all_sections_of_it(tmp_path):
    run = with_dynamics(tmp_path / "run", datasets=("one", "other"))
    found = read(write_report(run.path))
    lead = found.words.partition("What was run")[0]
    best = "all of text only, random initialisation and chance"
    assert f"linear probes are clearly more accurate than {best} on every set: one and other." in lead
    assert "0.90 (0.87 to 0.93) at step 100 (layer 2, 2000 held-out rows): above text only by" in lead
    assert "from step 20 on (step 10 to step 30)" in lead
    assert "test rows): clearly above" not in lead
    for section in ("Paper and sound side by side", "The course of pre-training", "How vectors turn", "Transfer"):
        assert section in found.words
    for term in ("grouped folds", "95 % interval, band", "null, p, above the null", "control task, selectivity",
                 "random initialisation", "calibration error (ECE)", "bound on I(Y;T)", "onset", "turn",
                 "transfer A probe of one set"):  # fmt: skip
        assert term in found.words.partition("How to read this layer")[2]
    assert len([image for image in found.images if "osine" in image["alt"]]) == 3

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
    assert "chat , traced beside it: mine 0.70 (clearly above)." in words


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
    found = read(write_report(run.path))
    assert [image["alt"] for image in found.images if image["alt"].startswith("Bars over time, a lane per stage: 3")]
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
        assert expected in found.words
    assert write_report(run.path, tmp_path / "again.html").read_bytes() == (run.path / "report.html").read_bytes()


def test_a_run_without_a_table_says_so(tmp_path):
    run = write_run(tmp_path / "run", small([None]))
    run.tables()[0].unlink()
    found = read(write_report(run.path))
    assert "No checkpoint has been traced yet" in found.words
    assert "Not traced yet: llama." in found.words
    assert not found.images
    assert "Steering" not in found.words


def test_names_are_text_not_markup(tmp_path):
    name = "<script>alert(1)</script>"
    metrics = small([None], model="a&b", datasets=[name])
    path = write_report(write_run(tmp_path / "run", metrics).path)
    found = read(path)
    assert "script" not in found.tags
    assert name in found.words
    assert "a&b" in found.words


def test_the_same_run_gives_the_same_bytes(tmp_path):
    run = with_dynamics(tmp_path / "run", steps=(0, 20))
    first = write_report(run.path).read_bytes()
    assert write_report(run.path, tmp_path / "other.html").read_bytes() == first


def test_many_checkpoints_are_shown_in_part_and_that_is_said(tmp_path):
    metrics = small(range(40), layers=1)
    words = read(write_report(write_run(tmp_path / "run", metrics).path)).words
    assert "16 of 40 checkpoints, evenly chosen" in words
    assert "All 40 checkpoints" in words


def command(run: Path) -> subprocess.CompletedProcess:
    arguments = [sys.executable, str(ROOT / "launch/report.py"), f"--run={run}"]
    return subprocess.run(arguments, capture_output=True, text=True, check=False)


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


@pytest.mark.browser
def test_a_browser_shows_it_without_errors_and_a_phone_need_not_scroll_sideways(tmp_path):
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on PATH")
    report = write_report(with_dynamics(tmp_path / "run", datasets=("stereoset", "mine")).path)
    # The page measures itself in a frame as wide as a phone, since a headless window is at least 500 pixels wide.
    probe = tmp_path / "probe.html"
    source = json.dumps(report.read_text(encoding="utf-8")).replace("</", "<\\/")
    probe.write_text(
        '<body><iframe id="phone" style="width:390px;height:800px;border:0"></iframe><pre id="out"></pre><script>'
        f"const frame = document.getElementById('phone'); frame.srcdoc = {source};"
        "frame.onload = () => { const page = frame.contentDocument, root = page.documentElement;"
        "const wide = [...page.querySelectorAll('.scroll')].some(box => box.scrollWidth > box.clientWidth);"
        "const drawn = [...page.images].every(image => image.naturalWidth > 400);"
        "document.getElementById('out').textContent ="
        "`overflow ${root.scrollWidth - root.clientWidth} images ${drawn} boxes ${wide}`; };</script>"
    )
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom", probe.as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "overflow 0 images true boxes true" in done.stdout, done.stdout[-300:]
    assert "CONSOLE" not in done.stderr


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
