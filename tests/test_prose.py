"""Docstrings say what a thing is or does, and names say what they hold, in every package."""

import ast
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT

# A docstring that begins with one of these is a part of a sentence. Its first line is a verb phrase ("Reads …") or a
# noun phrase ("The layout of …").
NO_BEGINNING = {"as", "each", "from", "how", "in", "of", "that", "what", "where", "whether", "which", "who"}
NO_BEGINNING |= {"args:", "attributes:", "raises:", "returns:", "yields:"}
# Names that fit any value.
NO_NAME = {"found", "of", "own", "there", "told"}
PACKAGE = ROOT / "jtrace"
PARTS = sorted(path.name for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file())


def docstrings(node: ast.Module | ast.ClassDef) -> Iterator[tuple[int, str]]:
    """Line and docstring of a module or class, and of everything public inside it."""
    if text := ast.get_docstring(node):
        yield node.body[0].lineno, text
    members = [child for child in node.body if isinstance(child, ast.ClassDef | ast.FunctionDef)]
    for child in (child for child in members if not child.name.startswith("_")):
        if isinstance(child, ast.ClassDef):
            yield from docstrings(child)
        elif text := ast.get_docstring(child):
            yield child.body[0].lineno, text


def bad_prose(source: str) -> list[tuple[int, str]]:
    """Lines of docstrings and of names that say nothing, with the first line of the one or the other itself."""
    tree = ast.parse(source)
    bad = [(at, text.split("\n")[0]) for at, text in docstrings(tree) if text.split()[0].lower() in NO_BEGINNING]
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in NO_NAME and isinstance(node.ctx, ast.Store):
            bad.append((node.lineno, node.id))
        elif isinstance(node, ast.arg) and node.arg in NO_NAME:
            bad.append((node.lineno, node.arg))
    return bad


@pytest.mark.parametrize("part", PARTS)
def test_prose_of_a_package(part):
    paths = [PACKAGE / part] if part.endswith(".py") else sorted((PACKAGE / part).rglob("*.py"))
    bad = {path.relative_to(ROOT).as_posix(): bad_prose(path.read_text(encoding="utf-8")) for path in paths}
    assert {path: lines for path, lines in bad.items() if lines} == {}


def test_bad_beginnings_are_seen():
    source = '"""What is here."""\nclass A:\n    """An object."""\n    def f(self):\n        """Whether it is."""\n'
    assert bad_prose(source) == [(1, "What is here."), (5, "Whether it is.")]
    assert bad_prose('def f():\n    """\n    Raises:\n        OSError: always.\n    """\n') == [(2, "Raises:")]
    assert bad_prose('def f():\n    """Returns the layer."""\ndef _g():\n    """Of it."""\n') == []


def test_bad_names_are_seen():
    names = [name for _, name in bad_prose("found = 1\ndef f(of, *, own):\n    return [there for there in of]\n")]
    assert sorted(names) == ["found", "of", "own", "there"]
    assert bad_prose("def of(x):\n    return x.own\nf(told=1)\n") == []
