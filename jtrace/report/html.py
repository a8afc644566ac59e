"""Blocks of one self-contained HTML page: everything escaped, images as data URIs, no scripts, nothing from the net."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

CSS = """
:root { --ink: #1c2430; --soft: #5a6675; --line: #d9dfe6; --tint: #f5f7fa; --accent: #0b5a8f; --warn: #9a3412; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: #fff; color: var(--ink); overflow-wrap: break-word;
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main, header, footer { max-width: 58rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 3rem; }
p, ul, dl { max-width: 44rem; }
h1 { font-size: clamp(1.6rem, 1.2rem + 2vw, 2.3rem); line-height: 1.2; margin: 0 0 1rem; letter-spacing: -0.01em; }
h2 { font-size: 1.4rem; line-height: 1.3; margin: 3.5rem 0 1rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.08rem; margin: 2.25rem 0 0.5rem; }
a { color: var(--accent); }
code { font: 0.88em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.kicker { margin: 0 0 0.4rem; color: var(--soft); font-size: 0.9rem; }
.lead { font-size: 1.13rem; }
.findings { padding-left: 1.1rem; }
.findings li { margin: 0.6rem 0; }
.findings b { color: var(--accent); }
nav ul { list-style: none; padding: 0; margin: 2rem 0 0; display: flex; flex-wrap: wrap; gap: 0.35rem 1.25rem; }
.scroll { overflow-x: auto; margin: 0 0 1.5rem; border: 1px solid var(--line); border-radius: 6px; }
.scroll:focus-visible { outline: 2px solid var(--accent); }
table { border-collapse: collapse; width: 100%; font-size: 0.88rem; font-variant-numeric: tabular-nums; }
.caption { margin: 1.5rem 0 0.4rem; color: var(--soft); font-size: 0.92rem; }
th, td { padding: 0.4rem 0.6rem; text-align: left; border-top: 1px solid var(--line); white-space: nowrap; }
thead th { background: var(--tint); font-weight: 600; border-top: 0; }
td.number, th.number { text-align: right; }
td.wide { white-space: normal; min-width: 16rem; }
figure { margin: 1.75rem 0 2.5rem; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { margin-top: 0.75rem; color: var(--soft); font-size: 0.92rem; max-width: 44rem; }
figcaption strong { color: var(--ink); }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 0.3rem 1.25rem; }
dt { color: var(--soft); } dd { margin: 0; }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--accent); }
.warnings li { color: var(--warn); margin: 0.4rem 0; }
footer { margin-top: 4rem; padding-bottom: 3rem; color: var(--soft); font-size: 0.88rem; }
@media (max-width: 34rem) {
  header { padding-top: 1.75rem; } h2 { margin-top: 2.5rem; } dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: 0.6rem; }
}
@media print {
  @page { margin: 18mm; }
  body { font-size: 10pt; } main, header, footer { max-width: none; padding: 0; } nav { display: none; }
  .scroll { overflow: visible; border: 0; } th, td { white-space: normal; padding: 0.2rem 0.4rem; }
  figure, tr { break-inside: avoid; } h2, h3, .caption { break-after: avoid; }
  a { color: inherit; text-decoration: none; }
}
"""


@dataclass(frozen=True)
class Section:
    """A part of the page; `content` is HTML."""

    id: str
    title: str
    content: str


def page(title: str, head: str, sections: Sequence[Section], foot: str) -> str:
    """The whole document.

    Args:
        title: plain text.
        head, foot: HTML above the contents and below the sections.
    """
    links = "".join(f'<li><a href="#{s.id}">{escape(s.title)}</a></li>' for s in sections)
    body = "".join(f'<section id="{s.id}"><h2>{escape(s.title)}</h2>\n{s.content}</section>\n' for s in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'  # else a browser asks for one
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        f'<header>{head}<nav aria-label="Contents"><ul>{links}</ul></nav></header>\n'
        f"<main>\n{body}</main>\n<footer>{foot}</footer>\n</body>\n</html>\n"
    )


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in a box that scrolls; numbers stand right, floats have three decimals, None is a dash."""
    numeric = [any(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))]
    head = "".join(
        f'<th scope="col"{" class=number" if number else ""}>{escape(name)}</th>'
        for name, number in zip(columns, numeric, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(_cell(value, number) for value, number in zip(row, numeric, strict=True)) + "</tr>\n"
        for row in rows
    )
    return (
        f'<p class="caption">{escape(caption)}</p>\n'
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>\n"
    )


def _cell(value: object, number: bool) -> str:
    if value is None or value != value:  # NaN differs from itself
        text = "–"
    elif isinstance(value, float):
        text = f"{value:.3f}"
    elif isinstance(value, int):
        text = f"{value:,}"
    else:
        text = str(value)
    kind = " class=number" if number else " class=wide" if len(text) > 60 else ""
    return f"<td{kind}>{escape(text)}</td>"


def figure(id_: str, png: Path, title: str, alt: str, caption: str) -> str:
    """An image with a caption that says how to read it."""
    data = base64.b64encode(png.read_bytes()).decode()
    return (
        f'<figure id="{id_}"><img alt="{escape(alt)}" src="data:image/png;base64,{data}">'
        f"<figcaption><strong>{escape(title)}.</strong> {escape(caption)}</figcaption></figure>\n"
    )


def definitions(pairs: Sequence[tuple[str, str]]) -> str:
    """Terms and what they are, plain text."""
    return "<dl>" + "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>\n" for term, text in pairs) + "</dl>\n"


def items(texts: Sequence[str], kind: str = "") -> str:
    """A list of plain texts."""
    return f'<ul class="{kind}">' + "".join(f"<li>{escape(text)}</li>\n" for text in texts) + "</ul>\n"


def paragraph(text: str) -> str:
    """Plain text."""
    return f"<p>{escape(text)}</p>\n"
