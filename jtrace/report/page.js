"use strict";
// The page's interactive part: one state (the controls), views that are drawn from it, and the run's tables as rows.
// Texts only ever become text nodes and attributes; nothing is fetched, and nothing is stored.
(() => {
  const byId = (id) => document.getElementById(id);
  const unique = (values) => [...new Set(values)];
  const SVG = byId("x-plane")?.namespaceURI;

  // An element with attributes (a property where the value is no text) and children.
  function make(tag, attributes = {}, ...children) {
    const made = tag === "circle" || tag === "rect" ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "string") made.setAttribute(name, value);
      else made[name] = value;
    }
    made.append(...children);
    return made;
  }

  // ---- tables: columns as the page holds them -> rows
  const page = JSON.parse(byId("x-data").textContent);
  function rowsOf(columns) {
    const names = Object.keys(columns);
    const listed = names.map((name) => Array.isArray(columns[name]) ? columns[name] : columns[name].codes);
    const count = listed.find(Boolean)?.length ?? 1;
    const value = (name, at) => {
      const column = columns[name];
      return Array.isArray(column) ? column[at] : "all" in column ? column.all : column.levels[column.codes[at]];
    };
    return Array.from({ length: count }, (_, at) => Object.fromEntries(names.map((name) => [name, value(name, at)])));
  }
  const tables = Object.fromEntries(Object.entries(page.tables).map(([name, columns]) => [name, rowsOf(columns)]));
  const table = (name) => tables[name] ?? [];
  const where = (rows, wanted) => rows.filter((row) => Object.keys(wanted).every((key) => row[key] === wanted[key]));

  // ---- CSV
  // A spreadsheet would take a text that begins so for a formula.
  const guarded = (value) => typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? "'" + value : String(value ?? "");
  const cellOf = (value) => /[",\n\r]/.test(guarded(value)) ? `"${guarded(value).replaceAll('"', '""')}"` : guarded(value);
  function download(name, columns, rows) {
    const lines = [columns, ...rows].map((cells) => cells.map(cellOf).join(","));
    const url = URL.createObjectURL(new Blob([lines.join("\r\n") + "\r\n"], { type: "text/csv" }));
    make("a", { href: url, download: `${name}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }
  function downloadRows(name, rows) {
    const columns = Object.keys(rows[0] ?? {});
    download(name, columns, rows.map((row) => columns.map((column) => row[column])));
  }

  // ---- tables of the page: sorted by a heading, taken as CSV
  const numberOf = (text) => text.trim() === "" ? NaN : Number(text.replace(/−/g, "-").replace(/[,%×]/g, ""));
  function compare(one, other) {
    const [a, b] = [numberOf(one), numberOf(other)];
    if (Number.isNaN(a) !== Number.isNaN(b)) return Number.isNaN(a) ? 1 : -1;
    return Number.isNaN(a) ? one.localeCompare(other) : a - b;
  }
  function sortBy(heading) {
    const body = heading.closest("table").tBodies[0], at = heading.cellIndex;
    const descending = heading.getAttribute("aria-sort") === "ascending";
    for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const rows = [...body.rows].filter((row) => !row.dataset.detail);
    for (const row of body.querySelectorAll("tr[data-detail]")) row.remove();
    const known = (row) => !["", "–"].includes(row.cells[at].textContent.trim());
    rows.sort((one, other) => known(other) - known(one) ||
      (descending ? -1 : 1) * compare(one.cells[at].textContent, other.cells[at].textContent));
    body.append(...rows);
  }
  function makeSortable(shown) {
    for (const heading of shown.tHead.rows[0].cells) {
      const button = make("button", { type: "button", class: "sort", onclick: () => sortBy(heading) });
      button.append(...heading.childNodes);
      heading.append(button);
    }
  }
  const textsOf = (row) => [...row.cells].map((cell) => cell.textContent.trim());
  for (const shown of document.querySelectorAll("main .scroll > table:not([id])")) {
    const name = shown.parentNode.getAttribute("aria-label"), file = name.slice(0, 60).replace(/\W+/g, "-");
    const onclick = () => download(file, textsOf(shown.tHead.rows[0]), [...shown.tBodies[0].rows].map(textsOf));
    const button = make("button", { type: "button", onclick, "aria-label": `Table as CSV: ${name}` }, "Table as CSV");
    makeSortable(shown);
    shown.parentNode.after(make("p", { class: "take" }, button));
  }
  for (const button of document.querySelectorAll("button[data-table]")) {
    button.onclick = () => downloadRows(button.dataset.table, table(button.dataset.table));
  }
  for (const hidden of document.querySelectorAll("[data-script]")) hidden.hidden = false;
  if (!byId("explore")) return;

  // ---- controls: what is shown
  const metrics = table("metrics"), selects = ["protocol", "model", "dataset", "metric", "columns"];
  const control = (name) => byId(`x-${name}`);
  const chosen = (name) => control(name).value;
  const ofSet = () => ({ model: chosen("model"), dataset: chosen("dataset") });
  const called = (metric) => page.names[metric] ?? metric;
  function offer(name, values, label = (value) => value) {
    const before = chosen(name);
    control(name).replaceChildren(...values.map((value) => make("option", { value }, label(value))));
    if (values.includes(before)) control(name).value = before;
    control(name).closest("label").hidden = values.length < 2;
  }
  const checkpoints = () => unique(where(metrics, { model: chosen("model") }).map((row) => row.checkpoint));
  const checkpoint = () => checkpoints()[Number(control("at").value)];
  const brief = (name) => checkpoints().every((one) => one.includes("@")) ? name.split("@").pop() : name;
  function offerAll() {
    offer("protocol", unique(metrics.map((row) => row.protocol)));
    const ofProtocol = where(metrics, { protocol: chosen("protocol") });
    offer("model", unique(ofProtocol.map((row) => row.model)));
    const ofModel = where(ofProtocol, { model: chosen("model") });
    offer("dataset", unique(ofModel.map((row) => row.dataset)));
    offer("metric", unique(ofModel.map((row) => row.metric)), called);
    const last = checkpoints().length - 1, at = control("at");
    if (Number(at.max) !== last) Object.assign(at, { max: last, value: last });
    byId("x-course").hidden = last < 1;
  }

  // ---- heat map: layers x checkpoints of a set, or layers x sets at a checkpoint
  const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
  function colour(share) {
    const place = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1), at = Math.min(Math.floor(place), VIRIDIS.length - 2);
    return `rgb(${VIRIDIS[at].map((from, i) => Math.round(from + (VIRIDIS[at + 1][i] - from) * (place - at)))})`;
  }
  const decimals = (value, digits = 3) => value === null ? "not known" : value.toFixed(digits);
  const interval = (row) => row.ci_low === null ? "no interval" : `95 % ${decimals(row.ci_low)} to ${decimals(row.ci_high)}`;
  const told = (row) => `${row.dataset}, ${brief(row.checkpoint)}, layer ${row.layer}: ${called(row.metric)} ` +
    `${decimals(row.value)}, ${interval(row)}, n ${row.n}`;
  function mapRows() {
    const rows = where(metrics, { protocol: chosen("protocol"), model: chosen("model"), metric: chosen("metric") });
    return chosen("columns") === "dataset" ? rows : where(rows, { dataset: chosen("dataset") });
  }
  function drawMap() {
    const all = mapRows(), by = chosen("columns"), now = checkpoint();
    const rows = by === "dataset" ? where(all, { checkpoint: now }) : all;
    const names = unique(rows.map((row) => row[by])), layers = unique(rows.map((row) => row.layer)).sort((a, b) => b - a);
    const values = all.map((row) => row.value), low = Math.min(...values), high = Math.max(...values);
    const places = new Map(rows.map((row) => [`${row.layer} ${row[by]}`, row]));
    const isNow = (name) => by === "checkpoint" && name === now;
    const heading = (name) => make("th", { scope: "col", class: isNow(name) ? "now" : "" }, brief(name));
    const cell = (layer, name) => {
      const row = places.get(`${layer} ${name}`);
      if (!row || row.value === null) return make("td", {}, "–");
      const share = high > low ? (row.value - low) / (high - low) : 0.5;
      const marks = { tabIndex: -1, "aria-label": told(row), class: isNow(name) ? "now" : "" };
      const made = make("td", marks, decimals(row.value, 2));
      made.style.backgroundColor = colour(share);
      made.style.color = share < 0.45 ? "#fff" : "#111";
      made.onmouseenter = made.onfocus = () => { byId("x-map-told").textContent = told(row); };
      made.onclick = () => choose(by, name);
      return made;
    };
    const focused = [document.activeElement?.parentNode?.rowIndex, document.activeElement?.cellIndex];
    const held = byId("x-map").contains(document.activeElement);
    byId("x-map").tHead.replaceChildren(make("tr", {}, make("th", { scope: "col" }, "layer"), ...names.map(heading)));
    byId("x-map").tBodies[0].replaceChildren(...layers.map((layer) =>
      make("tr", {}, make("th", { scope: "row" }, String(layer)), ...names.map((name) => cell(layer, name)))));
    const first = byId("x-map").querySelector("td[tabindex]");
    if (first) first.tabIndex = 0;
    if (held) byId("x-map").rows[focused[0]]?.cells[focused[1]]?.focus();
    byId("x-map-scale").textContent = `Dark is ${decimals(low)}, bright is ${decimals(high)}: one scale for all ` +
      `${by === "dataset" ? "checkpoints and sets" : "checkpoints"}.`;
  }
  function choose(by, name) {
    if (by === "dataset") control("dataset").value = name;
    else control("at").value = checkpoints().indexOf(name);
    draw();
  }
  byId("x-map").onkeydown = (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (event.key === "Enter") event.target.click();
    if (!step || event.target.tagName !== "TD") return;
    event.preventDefault();
    byId("x-map").rows[event.target.parentNode.rowIndex + step[0]]?.cells[event.target.cellIndex + step[1]]?.focus();
  };

  // ---- plane: a set's statements at the checkpoint
  const SIZE = [640, 400], EDGE = 14, LABELS = ["#0072B2", "#D55E00"];
  const planeRows = () => where(where(table("projections"), ofSet()), { checkpoint: checkpoint() });
  const texts = new Map(table("statements").map((row) => [`${row.dataset} ${row.row}`, row.text]));
  const textOf = (row) => texts.get(`${row.dataset} ${row.row}`);
  function drawPlane() {
    const rows = planeRows(), plane = byId("x-plane");
    byId("x-projections").hidden = !table("projections").length;
    const scale = (name, size) => {
      const values = rows.map((row) => row[name]), low = Math.min(...values), span = Math.max(...values) - low || 1;
      return (value) => EDGE + (size - 2 * EDGE) * (value - low) / span;
    };
    const [x, y] = [scale("x", SIZE[0]), scale("y", SIZE[1])];
    plane.replaceChildren(...rows.map((row) => {
      const at = [x(row.x), SIZE[1] - y(row.y)], fill = LABELS[row.label];
      const place = row.label ? { x: at[0] - 4, y: at[1] - 4, width: 8, height: 8 } : { cx: at[0], cy: at[1], r: 4.5 };
      const texts = Object.entries({ ...place, fill }).map(([name, value]) => [name, String(value)]);
      const mark = make(row.label ? "rect" : "circle", Object.fromEntries(texts));
      mark.onmouseenter = () => point(mark, row);
      return mark;
    }));
    const layer = rows[0]?.layer;
    plane.setAttribute("aria-label", rows.length
      ? `${rows.length} statements of ${chosen("dataset")} at ${brief(checkpoint())}, layer ${layer}, in two dimensions; ` +
        "arrow keys go from one to the next"
      : "No projections of this checkpoint");
    plane.onkeydown = (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || !rows.length) return;
      event.preventDefault();
      const marks = [...plane.children], before = marks.findIndex((mark) => mark.classList.contains("now"));
      const next = (before + step + marks.length + (before < 0 && step < 0)) % marks.length;
      point(marks[next], rows[next]);
    };
    byId("x-plane-told").textContent = rows.length ? `Layer ${layer}: circles are label 0, squares label 1.` : "";
  }
  function point(mark, row) {
    for (const other of mark.parentNode.querySelectorAll(".now")) other.classList.remove("now");
    mark.classList.add("now");
    byId("x-plane-told").textContent = `Row ${row.row + 1}, label ${row.label}: ${textOf(row) ?? "its text is not here"}`;
  }

  // ---- statements: one by one, with the score of a probe that had not seen them
  const statementRows = () => where(table("statements"), { dataset: chosen("dataset") });
  const scoreRows = (wanted) => where(table("scores"), { protocol: chosen("protocol"), ...ofSet(), ...wanted });
  const verdict = (row) => row === undefined ? "not held out" : (row.score > 0) === (row.label === 1) ? "right" : "wrong";
  function drawStatements() {
    const rows = statementRows(), scores = scoreRows({ checkpoint: checkpoint() });
    const scoreOf = new Map(scores.map((row) => [row.row, row])), judged = chosen("judged");
    byId("x-reading").hidden = !rows.length;
    byId("x-reading-told").textContent = scores.length
      ? `Score: the log-odds of label 1 by the probe of layer ${scores[0].layer}, the best of ${brief(checkpoint())}, which ` +
        `had not seen the statement. Of ${scores.length} here ${scores.filter((row) => verdict(row) === "wrong").length} ` +
        "are wrong. A row's number opens its scores at every checkpoint."
      : "This run holds no held-out scores of this checkpoint; a trace of now writes them (RUN/scores).";
    control("judged").closest("label").hidden = !scores.length;
    const shown = rows.filter((row) => !scores.length || !judged || verdict(scoreOf.get(row.row)) === judged);
    shown.sort((one, other) => scoreOf.has(other.row) - scoreOf.has(one.row));
    byId("x-statements").tBodies[0].replaceChildren(...shown.map((row) => {
      const score = scoreOf.get(row.row), of = verdict(score), made = make("tr");
      const onclick = () => unfold(made, open, row);
      const open = make("button", { type: "button", "aria-expanded": "false", onclick }, String(row.row + 1));
      const number = (content) => make("td", { class: "number" }, content);
      made.append(number(open), number(String(row.label)), number(score ? decimals(score.score, 2) : "–"),
        make("td", { class: of === "wrong" ? of : "" }, scores.length ? of : "–"),
        make("td", {}, row.text ?? "its text is not on this machine, or is another now"));
      return made;
    }));
    for (const heading of byId("x-statements").tHead.rows[0].cells) heading.removeAttribute("aria-sort");
  }
  function unfold(line, button, row) {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    if (open) return line.nextSibling.remove();
    const toldOf = (one) => `${brief(one.checkpoint)}: ${decimals(one.score, 2)} (${verdict(one)})`;
    const scores = scoreRows({ row: row.row }).map(toldOf);
    const cell = make("td", { colSpan: 5 }, scores.length ? scores.join("\n") : "No held-out score at any checkpoint.");
    const detail = make("tr", {}, cell);
    detail.dataset.detail = "yes";
    line.after(detail);
  }

  // ---- completions: without steering, and beside it at one strength
  const completions = table("completions");
  const vectorOf = (row) => `${row.vector_from}, ${row.vector_set}, layer ${row.layer}, into ${row.target}` +
    (row.positions === "last" ? "" : ` (${row.positions})`);
  const ofVector = () => where(completions, { task: chosen("task") }).filter((row) => vectorOf(row) === chosen("vector"));
  function drawCompletions() {
    byId("x-said").hidden = !completions.length;
    offer("task", unique(completions.map((row) => row.task)));
    const vectors = unique(where(completions, { task: chosen("task") }).map(vectorOf));
    offer("vector", vectors.sort((one, other) => /:.*random/.test(one) - /:.*random/.test(other)));  // controls last
    const rows = ofVector(), strengths = unique(rows.map((row) => row.strength)).filter((one) => one !== 0);
    offer("strength", strengths.sort((a, b) => a - b).map(String));
    const said = (index, strength) => where(rows, { index, strength })[0]?.completion ?? "–";
    byId("x-steered").textContent = `at strength ${chosen("strength")}`;
    byId("x-completions").tBodies[0].replaceChildren(...unique(rows.map((row) => row.index)).map((index) => {
      const cells = [where(rows, { index })[0].prompt, said(index, 0), said(index, Number(chosen("strength")))];
      return make("tr", {}, ...cells.map((text) => make("td", {}, text)));
    }));
  }

  // ---- all together
  const draw = () => {
    byId("x-at-name").textContent = checkpoint() ?? "";
    for (const view of [drawMap, drawPlane, drawStatements]) view();
  };
  let playing = null;
  function play(on) {
    clearInterval(playing);
    playing = on ? setInterval(() => {
      const at = control("at"), next = Number(at.value) + 1;
      if (next > Number(at.max)) return play(false);
      at.value = next;
      draw();
    }, 700) : null;
    byId("x-play").textContent = on ? "Stop" : "Play";
    byId("x-play").setAttribute("aria-pressed", String(on));
  }
  byId("x-play").onclick = () => {
    if (playing === null && control("at").value === control("at").max) control("at").value = 0;
    play(playing === null);
    draw();
  };
  for (const name of selects) control(name).onchange = () => { offerAll(); draw(); };
  control("at").oninput = draw;
  byId("x-map-csv").onclick = () => downloadRows(`${chosen("metric")}-${chosen("protocol")}`, mapRows());
  byId("x-plane-csv").onclick = () => downloadRows(`projections-${chosen("dataset")}`, planeRows());
  byId("x-completions-csv").onclick = () => downloadRows("completions", ofVector());
  byId("x-scores-csv").onclick = () => {
    const scored = scoreRows({}).map((row) => ({ ...row, text: textOf(row) }));
    downloadRows(`statements-${chosen("dataset")}`, scored.length ? scored : statementRows());
  };
  control("judged").onchange = drawStatements;
  for (const name of ["task", "vector", "strength"]) control(name).onchange = drawCompletions;
  makeSortable(byId("x-statements"));
  offerAll();
  draw();
  drawCompletions();
})();
