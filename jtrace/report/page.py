"""A page as plain data, and its HTML: one file that needs nothing from the net, and can be read without scripts.

Blocks are text and numbers; `page.html.jinja` alone knows tags, and escapes all that is written into it.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import ClassVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from jtrace.report.figures.style import Drawn
from jtrace.report.format import visible
from jtrace.report.picture import Picture, read_picture

FOLDER = Path(__file__).parent
TEMPLATE = "page.html.jinja"
WIDE_CELL = 32  # characters from which on a cell breaks its line


@dataclass(frozen=True)
class Paragraph:
    """A paragraph."""

    kind: ClassVar = "paragraph"
    text: str


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    kind: ClassVar = "heading"
    text: str


@dataclass(frozen=True)
class Warnings:
    """A list of things to be wary of."""

    kind: ClassVar = "warnings"
    texts: Sequence[str]


@dataclass(frozen=True)
class Definitions:
    """Terms, each with what it is."""

    kind: ClassVar = "definitions"
    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """A table; None and NaN are values that are not known.

    Attributes:
        rows: a value per column: numbers or text.
    """

    kind: ClassVar = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]

    @property
    def numeric(self) -> list[bool]:
        """The columns that hold a number."""
        return [any(isinstance(row[at], int | float) for row in self.rows) for at in range(len(self.columns))]


@dataclass(frozen=True)
class Figure:
    """A picture with a caption that says how to read it.

    Attributes:
        id: the anchor in the page.
        alt: what it shows, for those who do not see it.
        tables: of the page's data, what it is drawn from.
    """

    kind: ClassVar = "figure"
    id: str
    picture: Picture
    title: str
    alt: str
    caption: str
    tables: Sequence[str] = ()


@dataclass(frozen=True)
class Details:
    """Blocks that fold away behind a summary."""

    kind: ClassVar = "details"
    summary: str
    blocks: "Sequence[Block]"
    is_open: bool = False


Block = Paragraph | Heading | Warnings | Definitions | Table | Figure | Details


@dataclass(frozen=True)
class Section:
    """A part of the page that the contents name; `id` is its anchor."""

    id: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Head:
    """The head of the page.

    Attributes:
        state: how far the run got.
        notice: what a reader has to know of an unfinished run; empty for a finished one.
        lead: the result in a sentence.
        findings: the results one by one: a name, and what was found of it.
    """

    title: str
    state: str
    notice: str
    lead: str
    findings: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class PageData:
    """Data of the page's script.

    Attributes:
        json: holds no character that could end a script's element; see `jtrace.report.interactive.page_data`.
        explores: whether there is anything for heat maps.
    """

    json: str
    explores: bool


def render(head: Head, sections: Sequence[Section], foot: str, data: PageData | None = None) -> str:
    """Write a page as HTML; the same data give the same text.

    Args:
        data: None for a page without a script.
    """
    templates = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    templates.filters["cell"] = cell_text
    style, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return templates.get_template(TEMPLATE).render(
        head=head,
        sections=sections,
        foot=foot,
        wide_cell=WIDE_CELL,
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        data=Markup(data.json) if data else "",
        explores=data is not None and data.explores,
    )


def _policy(style: str, script: str) -> str:
    """Content security policy: this style, this script and pictures within the page, and nothing else."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    allowed = "default-src 'none'; img-src data:; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'"
    return f"{allowed.format(*digests)}; form-action 'none'"


def _shown(text: str) -> str:
    """Show a text of the data whole; what the template wrote itself, which has a method `__html__`, is left alone."""
    return text if hasattr(text, "__html__") else visible(text)


def cell_text(value: object) -> str:
    """Write a table's value: thousands apart, three decimals, a dash for what is not known."""
    if value is None or (isinstance(value, float) and isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def embedded(number: int, drawn: Drawn, tables: Sequence[str] = ()) -> Figure:
    """Read a drawn figure into the page, as the page's `number`th; `tables` are what it is drawn from."""
    return Figure(f"figure-{number}", read_picture(drawn.path), drawn.title, drawn.alt, drawn.caption, tables)


def folded(table: Table, most: int, summary: str) -> Block:
    """Fold a table of more than `most` rows away behind a summary that counts them."""
    return table if len(table.rows) <= most else Details(f"{summary} ({len(table.rows)} rows)", [table])
