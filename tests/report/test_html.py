"""Blocks of a page."""

from jtrace.report.html import Section, figure, page, table


def test_cells_are_escaped_numbers_stand_right_and_what_is_missing_is_a_dash():
    html = table("a & b", ["<name>", "count", "share"], [["<b>", 1234, 0.5], ["c", None, float("nan")]])
    assert "<b>" not in html
    assert "&lt;name&gt;" in html
    assert "a &amp; b" in html
    assert "<td class=number>1,234</td><td class=number>0.500</td>" in html
    assert html.count("<td class=number>–</td>") == 2


def test_an_image_is_part_of_the_page(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    html = figure("figure-1", tmp_path / "a.png", "Title", 'says "so"', "How to read it.")
    assert 'src="data:image/png;base64,iVBORw=="' in html
    assert 'alt="says &quot;so&quot;"' in html


def test_the_contents_name_every_section():
    html = page("a < b", "", [Section("one", "First", "<p>x</p>"), Section("two", "Second", "")], "")
    assert "<title>a &lt; b</title>" in html
    assert html.index('href="#one"') < html.index('href="#two"') < html.index('<section id="one">')
