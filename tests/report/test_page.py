"""Blocks of plain data, as a page."""

import pytest
from PIL import Image

from jtrace.report.figures.style import Drawn
from jtrace.report.page import (
    Definitions,
    Details,
    Figure,
    Head,
    Heading,
    Paragraph,
    Section,
    Table,
    Warnings,
    embedded,
    folded,
    render,
)
from jtrace.report.picture import Picture

HOSTILE = '<script>alert(1)</script>"><img onerror=x src=y>{{7*7}}{% raw %}\x1b[31m\x85\u202e\udc80'
SHOWN = (
    "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&gt;&lt;img onerror=x src=y&gt;{{7*7}}{% raw %}"
    "\\x1b[31m\\x85\\u202e\\udc80"
)


def page(*blocks, text="x"):
    return render(Head(text, text, text, text, [(text, text)]), [Section("one", text, blocks)], text)


def test_cells_are_escaped_numbers_stand_right_and_what_is_missing_is_a_dash():
    html = page(Table("a & b", ["<name>", "count", "share"], [["<b>c", 1234, 0.5], ["d" * 33, None, float("nan")]]))
    assert '<th scope="col">&lt;name&gt;</th><th scope="col" class="number">count</th>' in html
    assert '<td>&lt;b&gt;c</td><td class="number">1,234</td><td class="number">0.500</td>' in html
    assert '<td class="wide">ddd' in html
    assert html.count('<td class="number">–</td>') == 2
    assert 'aria-label="a &amp; b"' in html


@pytest.mark.parametrize(
    "block",
    [
        Paragraph(HOSTILE),
        Heading(HOSTILE),
        Warnings([HOSTILE]),
        Definitions([(HOSTILE, HOSTILE)]),
        Table(HOSTILE, [HOSTILE], [[HOSTILE]]),
        Figure("figure-1", Picture("", 1, 1), HOSTILE, HOSTILE, HOSTILE),
        Details(HOSTILE, [Details(HOSTILE, [Paragraph(HOSTILE)])]),
    ],
    ids=lambda block: block.kind,
)
def test_whatever_a_name_holds_is_shown_and_does_nothing(block):
    without, html = page(text=HOSTILE), page(block, text=HOSTILE)
    assert html.count(SHOWN) > without.count(SHOWN) > 0
    for live in ("<script", "<img onerror", "\x1b", "\x85", "\u202e", "\udc80"):
        assert live not in html
    assert "49" not in html


def test_a_drawn_figure_is_part_of_the_page(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "a.png")
    html = page(embedded(3, Drawn(tmp_path / "a.png", "probes", "Title", 'says "so"', "How to read it.")))
    assert '<figure id="figure-3">' in html
    assert '<img alt="says &#34;so&#34;" width="3" height="2" loading="lazy"' in html
    assert 'src="data:image/webp;base64,UklGR' in html
    assert "<strong>Title.</strong> How to read it." in html


def test_the_contents_name_every_section():
    html = render(Head("a < b", "", "", "", []), [Section("one", "First", []), Section("two", "Second", [])], "foot")
    assert "<title>a &lt; b · jtrace</title>" in html
    assert html.index('href="#one"') < html.index('href="#two"') < html.index('<section id="one">')
    assert html.startswith("<!DOCTYPE html>")


def test_long_tables_are_folded():
    table = Table("caption", ["a"], [[1]] * 3)
    assert folded(table, 3, "Rows") is table
    assert folded(table, 2, "Rows") == Details("Rows (3 rows)", [table])
    assert "<details><summary>" in page(Details("x", []))
    assert "<details open><summary>" in page(Details("x", [], is_open=True))
