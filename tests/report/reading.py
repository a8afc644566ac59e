"""A page of the report, read back."""

from collections.abc import Iterable
from html.parser import HTMLParser

from jtrace.report.page import Block, Head, Section, render

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Parts of a page; unclosed or crossing elements fail the test."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids, self.links, self.images, self.tags, self.text = [], [], [], set(), []
        self.scripts = 0
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.add(tag)
        self.scripts += tag == "script"
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[key] for key in ("href", "src") if key in given]
        self.images += [given] if tag == "img" else []
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open[-1:] not in (["script"], ["style"]):
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def words(blocks: Iterable[Block]) -> str:
    """The text of blocks as a page shows them, spaces made single."""
    return Page(render(Head("", "", "", "", []), [Section("x", "", list(blocks))], "")).words
