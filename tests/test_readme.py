"""Commands of the README and of the pages it names, in their order, in a folder that holds the repository alone.

A comment before a block says what it needs: without one, and with `needs: hub`, the block is run (the hub is one on
loopback that serves a tiny model under the names that are asked for); of other needs (`network`, `hours`, `own test`,
which is tests/commands/test_quickstart.py) the commands parse the flags themselves. `with: FLAGS` adds flags that make
a command shorter or keep it off the network.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import GOLDENS, ROOT, letter_tokenizer
from tests.hub_server import HubServer, serve

BLOCK = re.compile(r"((?:<!--[^\n]*-->\n)*)```bash\n(.*?)```", re.S)
SERVED = "EleutherAI/pythia-160m"
STEPS = [0, *(2**power for power in range(10)), *range(1000, 144_000, 1000)]


@dataclass(frozen=True)
class Block:
    """Commands that belong together, what they need, and the flags that are added to the last of each line."""

    lines: tuple[str, ...]
    needs: str
    extra: str

    def __str__(self) -> str:
        return " ".join(self.lines[-1].split()[-1:])


def blocks(text: str) -> list[Block]:
    """All bash blocks of a Markdown text."""
    found = []
    for comments, body in BLOCK.findall(text):
        needs, extra = (re.search(rf"{word}: ([^;]*?)\s*(?:;|-->)", comments) for word in ("needs", "with"))
        found.append(Block(tuple(body.splitlines()), needs[1] if needs else "", extra[1] if extra else ""))
    return found


# In the README's order, since later commands use what earlier ones have made.
PAGES = (
    "README.md",
    *(
        f"docs/{page}.md"
        for page in (
            *("inputs", "suites", "sweeps", "results", "steering", "export", "chat", "pretraining"),
            "which_checkpoint",
        )
    ),
)
COMMANDS = [block for page in PAGES for block in blocks((ROOT / page).read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """A hub on loopback that has a tiny model as every step of Pythia."""
    folder = tmp_path_factory.mktemp("served") / "model"
    shutil.copytree(GOLDENS / "gpt_neox-full", folder)
    letter_tokenizer(folder)
    with serve({(SERVED, f"step{step}"): folder for step in STEPS}) as server:
        server.refs[SERVED, "main"] = folder
        yield server


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's files, and nothing that any command has made."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("jtrace", "launch", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", folder)
    return folder


def run(line: str, checkout: Path, environment: dict[str, str]) -> None:
    python = f"{shlex.quote(sys.executable)} "
    # They compute for longer than hasty compilation saves.
    about = {
        "PYTHONPATH": str(checkout),
        "HF_HOME": str(checkout.parent / "huggingface"),
        "MPLBACKEND": "agg",
        "XLA_FLAGS": "",
    }
    done = subprocess.run(
        re.sub(r"^(python|jtrace) ", lambda word: python + ("-P -m jtrace " if word[1] == "jtrace" else ""), line),
        shell=True,
        cwd=checkout,
        env=os.environ | about | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{line}\n{done.stderr[-3000:]}"


def parts(block: Block) -> Iterator[str]:
    """jtrace's own commands of a block, and Python scripts; what pip and pytest do is `.ci/run`'s to run."""
    for line in block.lines:
        *first, last = line.split(" && ")
        yield from (
            part
            for part in (*first, f"{last} {block.extra}")
            if part.startswith(("jtrace ", "python ")) and " -m " not in part
        )


@pytest.mark.slow
@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_commands_work(block, checkout, hub):
    environment = hub.environment if block.needs == "hub" else {"HF_HUB_OFFLINE": "1"}
    for command in parts(block):
        program, script = command.split()[:2]
        assert program == "jtrace" or (checkout / script).is_file()
        if block.needs in ("", "hub"):
            run(command, checkout, environment)
        elif program == "jtrace":
            run(f"{command} --only_check_args", checkout, environment)


def test_blocks_are_found_with_their_needs_and_flags():
    text = "<!-- main -->\n<!-- needs: hub; with: --a=1 --b -->\n```bash\nx && python y\nz\n```\n\n```bash\nw\n```\n"
    assert blocks(text) == [Block(("x && python y", "z"), "hub", "--a=1 --b"), Block(("w",), "", "")]
    assert list(parts(Block(("pip x && python y", "python z"), "", "--a"))) == ["python y --a", "python z --a"]


def test_the_needs_of_every_command_are_known():
    """A block whose needs are misspelt would be parsed only."""
    assert {block.needs for block in COMMANDS} <= {"", "hub", "network", "hours", "own test"}
    assert len(COMMANDS) > 8


@pytest.mark.parametrize(
    "page", sorted(page.relative_to(ROOT).as_posix() for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
)
def test_links_lead_to_what_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'src="([^"]+)"', text)]:
        path, _, heading = target.partition("#")
        if "://" in target:
            continue
        named = (ROOT / page).parent / path if path else ROOT / page
        assert named.exists(), target
        if heading:
            headings = re.findall(r"(?m)^#+ (.*)$", named.read_text(encoding="utf-8"))
            assert heading in {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}, target


DECISIONS = [page for page in (ROOT / "docs" / "decisions").glob("*.md") if page.stem not in ("README", "tried")]


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_has_its_three_parts(page):
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"(?m)^(?:# |\*\*(\w+)\.\*\*)", text) == ["", "Context", "Decision", "Consequence"]
    assert 10 <= len(text.splitlines()) <= 35


def test_every_decision_is_in_the_index():
    index = (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\| \[[\w-]+\]\(([\w-]+)\.md\) \|", index)) == sorted(page.stem for page in DECISIONS)
