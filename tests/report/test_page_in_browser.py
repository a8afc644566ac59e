"""The report in a browser: what moves, what is told, what can be taken along."""

import json

import numpy as np
import pytest
from PIL import Image

from jtrace.data.loading import read_all
from jtrace.probing.records import HeldOut
from jtrace.report.build import write_report
from jtrace.report.figures.style import Drawn
from jtrace.runs.score_files import write_scores
from tests.report.browser import look
from tests.report.hostile import NAME, hostile_run
from tests.tables import both_protocols, dynamics_tables, write_projections, write_run

pytestmark = [pytest.mark.slow, pytest.mark.browser]

HOSTILE = "</script><img src=x onerror=alert(1)>\u2028"
STEPS = (0, 20, 100)
LOOK = """
const found = {};
for (const width of [1200, 390]) {
  const page = await open(width), byId = (id) => page.document.getElementById(id);
  const taken = [], urlOf = page.URL.createObjectURL;
  page.URL.createObjectURL = (blob) => { taken.push(blob); return urlOf(blob); };
  const set = (id, value, event) => { byId(id).value = value; byId(id).dispatchEvent(new page.Event(event)); };
  const one = found[width] = { before: byId("x-at-name").textContent };
  const plane = () => [...byId("x-plane").children].map((mark) => mark.outerHTML).join();
  const points = plane();
  set("x-at", "0", "input");
  one.moved = byId("x-at-name").textContent;
  one.planeMoved = plane() !== points;
  set("x-dataset", "mine", "change");
  const cell = byId("x-map").querySelector("td[tabindex]");
  cell.dispatchEvent(new page.MouseEvent("mouseenter"));
  one.told = byId("x-map-told").textContent;
  set("x-columns", "dataset", "change");
  one.columns = [...byId("x-map").tHead.rows[0].cells].map((heading) => heading.textContent);
  set("x-columns", "checkpoint", "change");
  byId("x-map-csv").click();
  byId("x-scores-csv").click();
  page.document.querySelector("button[data-table=turns]").click();
  page.document.querySelector("button[aria-label^='Table as CSV']").click();
  one.csv = await Promise.all(taken.map((blob) => blob.text()));
  const statements = byId("x-statements").tBodies[0];
  one.hostile = statements.rows[0].lastChild.textContent;
  statements.querySelector("button").click();
  one.unfolded = statements.rows[1].textContent;
  set("x-judged", "wrong", "change");
  one.wrong = [...statements.rows].map((row) => Number(row.cells[0].textContent));
  set("x-strength", "4", "change");
  one.completions = [...byId("x-completions").tBodies[0].rows].map((row) => row.textContent);
  const heading = byId("x-statements").tHead.rows[0].cells[2];
  heading.querySelector("button").click();
  one.sorted = [heading.getAttribute("aria-sort"), statements.rows[0].cells[2].textContent];
  heading.querySelector("button").click();
  one.turned = [heading.getAttribute("aria-sort"), statements.rows[0].cells[2].textContent];
  const root = page.document.documentElement;
  one.overflow = root.scrollWidth - root.clientWidth;
  one.unnamed = [...page.document.querySelectorAll("button, select, input")].filter((control) =>
    !control.textContent.trim() && !control.ariaLabel && !control.labels?.length).length;
}
return found;
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Of `explored_run`, its figures one white picture."""
    path = tmp_path_factory.mktemp("explored")
    Image.new("RGB", (900, 300), "white").save(path / "a.png")
    drawn = [Drawn(path / "a.png", "dynamics", "White", "Nothing.", "Read it so.")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jtrace.report.build.draw_all", lambda *_, **__: drawn)
        return write_report(explored_run(path).path)


def explored_run(path):
    """A run with projections, texts, held-out scores and completions."""
    texts = [f"Statement {row}." for row in range(30)]
    texts[0], texts[1] = HOSTILE, "=1+1"
    file = path / "mine.jsonl"
    lines = [json.dumps({"statement": text, "label": row % 2}) for row, text in enumerate(texts)]
    file.write_text("\n".join(lines) + "\n")
    (statements,) = read_all([str(file)])
    about = {"source": str(file), "dimension": "", "rows": 30, "label_one_rows": 15, "label_one": None}
    sets = {name: about if name == "mine" else about | {"source": "gone.csv"} for name in ("stereoset", "mine")}
    data = {"stereoset": "0", "mine": statements.fingerprint}
    run = write_run(path / "run", both_protocols(STEPS, layers=3), data=data, sets=sets)
    run.write_dynamics(dynamics_tables(STEPS, layers=3))
    labels = statements.labels
    for step in STEPS:
        write_projections(run, f"llama@step{step}", layers=3, rows=30 - 5 * (step == 0))
        # The probe is wrong on row 3 at first, and on row 5 at the end.
        scores = np.where(labels, 1.5, -1.5).astype(np.float32)
        scores[3 if step == 0 else 5] *= -2
        file = run.scores_path(f"llama@step{step}")
        write_scores(file, [HeldOut("mine", "sound", 2, np.arange(30), labels, scores)])
    said = [
        {"target": "chat", "vector_from": "llama@step20", "vector_set": "mine", "task": "asked", "index": 0, "layer": 2,
         "strength": strength, "positions": "last", "prompt": "Who?", "completion": f"at {strength:g} </script>"}
        for strength in (0.0, -4.0, 4.0)
    ]  # fmt: skip
    (run.path / "completions").mkdir()
    (run.path / "completions/a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in said))
    return run


def test_a_reader_moves_switches_reads_sorts_and_takes_data_along(report, tmp_path):
    found = look(tmp_path, report, LOOK)
    assert set(found) == {"1200", "390"}
    for one in found.values():
        assert (one["before"], one["moved"], one["planeMoved"]) == ("llama@step100", "llama@step0", True)
        assert one["told"].startswith("mine, step0, layer 2: probe accuracy 0.800, 95 % 0.770 to 0.830, n 2000")
        assert one["columns"] == ["layer", "stereoset", "mine"]
        heat, scores, turns, table = one["csv"]
        assert heat.splitlines()[0].startswith("protocol,model,checkpoint,step,tokens,dataset,layer,metric,value")
        assert len(heat.splitlines()) == 1 + 3 * len(STEPS)
        assert scores.count("\r\n") == 1 + 30 * len(STEPS)
        assert f",{HOSTILE}\r\n" in scores
        assert ",'=1+1\r\n" in scores  # no formula in a spreadsheet
        assert turns.splitlines()[0].startswith("model,axis,protocol")
        assert "launch/trace.py" in table
        assert one["hostile"] == HOSTILE
        assert one["unfolded"].split("\n")[0] == "step0: -1.50 (right)"
        assert one["wrong"] == [4]
        assert one["completions"] == ["Who?at 0 </script>at 4 </script>"]
        assert one["sorted"][0] == "ascending"
        assert one["turned"][0] == "descending"
        assert (one["overflow"], one["unnamed"]) == (0, 0)


def test_of_hostile_names_nothing_runs(tmp_path):
    """`look` fails for any message on the console."""
    script = """
    const page = await open(1200), controls = [...page.document.querySelectorAll("select, input")];
    for (const control of controls) control.dispatchEvent(new page.Event("input"));
    for (const button of page.document.querySelectorAll("button")) button.click();
    await new Promise((done) => setTimeout(done, 500));
    return { ran: page.ran ?? null, words: page.document.body.textContent };
    """
    found = look(tmp_path, write_report(hostile_run(tmp_path / "run").path), script)
    assert found["ran"] is None
    assert found["words"].count(NAME) > 20


def test_without_scripts_the_figures_are_there_and_the_rest_is_hidden(report, tmp_path):
    html = report.read_text(encoding="utf-8")
    start = html.index('<script type="application/json"')
    bare = tmp_path / "bare.html"
    bare.write_text(html[:start] + "</body></html>", encoding="utf-8")
    found = look(
        tmp_path,
        bare,
        "const page = (await open(1200)).document; const shown = (one) => one.offsetParent !== null;"
        "return { pictures: [...page.images].filter(shown).length,"
        " controls: [...page.querySelectorAll('button, select, input')].filter(shown).length };",
    )
    assert found == {"pictures": 1, "controls": 0}
