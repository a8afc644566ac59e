"""What a suite of public pre-training checkpoints is, and how some of its checkpoints are selected."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jtrace.errors import InputError

RevisionsOf = Callable[[str], Sequence[str]]
"""Lists a hub repository's revisions; raises InputError where the hub cannot be asked."""

SELECTIONS = "all, log, numbers (0,1,2), ranges (0-100), ranges with a stride (0-100/10) or revisions by name"
NUMBER = re.compile(r"[0-9]{1,18}")
RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})(?:/([0-9]{1,18}))?")


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint of a suite.

    Attributes:
        repo, revision: where it lies on the hub.
        number: its place in the suite's own count.
        tokens: seen in pre-training, all stages together; None where not established.
        warning: what is known to be wrong with this revision; empty if nothing.
    """

    repo: str
    revision: str
    number: int
    tokens: int | None
    warning: str = ""


@dataclass(frozen=True)
class Fault:
    """Revisions known to be bad: their numbers, what is wrong, and where that is recorded."""

    numbers: Sequence[int]
    warning: str


@dataclass(frozen=True)
class Suite:
    """One pre-training run, or one stage of it, whose checkpoints are public.

    Attributes:
        name: what a spec calls it.
        repo: hub id.
        unit: what its numbers count.
        grid: (revision's template, numbers) in order, where names are regular; the hub is not asked then.
        pattern: of a revision's name where the grid is irregular: groups `number`, and where the name tells them
            `tokens` (billions seen in this stage, rounded) and `ingredient` (one of several parallel runs of a stage).
        members: (hub id, number, tokens) of suites in which each checkpoint is the `main` of its own repository.
        tokens_per_unit, tokens_before: exact tokens of one unit, and seen before unit 0; None where not established.
        main: number of the checkpoint on `main`; None where that is none of the suite, or not established.
        main_is_empty: `main` holds no model.
        parameters: trained scalars, tied ones once; None where not established.
        bytes_per_parameter: of the weights on the hub; None where not established.
        unmoved: numbers between which training does not move, so that their weights are rightly equal.
        tokenizer: hub id with the same tokeniser, for revisions that carry none.
        mirrors: further hub ids of the same repository.
    """

    name: str
    repo: str
    unit: str = "step"
    grid: tuple[tuple[str, Sequence[int]], ...] = ()
    pattern: str = ""
    members: tuple[tuple[str, int, int], ...] = ()
    tokens_per_unit: int | None = None
    tokens_before: int | None = 0
    main: int | None = None
    main_is_empty: bool = False
    parameters: int | None = None
    bytes_per_parameter: int | None = None
    unmoved: tuple[int, ...] = ()
    tokenizer: str | None = None
    mirrors: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()

    @property
    def weight_bytes(self) -> int | None:
        """Of one checkpoint on the hub, headers aside; None where not established."""
        known = self.parameters is not None and self.bytes_per_parameter is not None
        return self.parameters * self.bytes_per_parameter if known else None  # type: ignore[operator]

    @property
    def repos(self) -> tuple[str, ...]:
        """Every hub id at which the suite, or a part of it, lies."""
        return tuple(repo for repo, _, _ in self.members) or (self.repo, *self.mirrors)

    def checkpoints(self, revisions_of: RevisionsOf, repo: str = "") -> tuple[Checkpoint, ...]:
        """All checkpoints in pre-training order; parallel ingredients one after another.

        Args:
            revisions_of: asked only where names are irregular.
            repo: a mirror to take them from.
        """
        if self.members:
            return tuple(Checkpoint(repo, "main", number, tokens) for repo, number, tokens in self.members)
        repo = repo or self.repo
        if self.grid:
            return tuple(
                self._checkpoint(repo, template.format(number), number)
                for template, numbers in self.grid
                for number in numbers
            )
        named = [match for name in revisions_of(repo) if (match := re.fullmatch(self.pattern, name))]
        named.sort(key=lambda match: (int(match.groupdict().get("ingredient") or 0), int(match["number"]), match[0]))
        return tuple(self._matched(repo, match) for match in named)

    def named(self, repo: str, revision: str) -> Checkpoint | None:
        """The checkpoint of that name, None if the suite has no such name; the hub is not asked."""
        if self.members:
            return next((c for c in self.checkpoints(lambda _: ()) if (c.repo, c.revision) == (repo, revision)), None)
        if revision == "main" and self.main is not None:
            return self._checkpoint(repo, revision, self.main)
        if self.grid:
            return next((c for c in self.checkpoints(lambda _: (), repo) if c.revision == revision), None)
        match = re.fullmatch(self.pattern, revision)
        return self._matched(repo, match) if match else None

    def _matched(self, repo: str, match: re.Match[str]) -> Checkpoint:
        billions = match.groupdict().get("tokens")
        return self._checkpoint(repo, match[0], int(match["number"]), int(billions) * 10**9 if billions else None)

    def _checkpoint(self, repo: str, revision: str, number: int, in_stage: int | None = None) -> Checkpoint:
        if in_stage is None and self.tokens_per_unit is not None:
            in_stage = number * self.tokens_per_unit
        tokens = None if in_stage is None or self.tokens_before is None else self.tokens_before + in_stage
        # `main` is what it is; a faulty branch of the same number is another matter.
        faults = () if revision == "main" else self.faults
        warnings = [fault.warning for fault in faults if number in fault.numbers]
        return Checkpoint(repo, revision, number, tokens, "; ".join(warnings))


def select(suite: Suite, selection: str, revisions_of: RevisionsOf, repo: str = "") -> tuple[Checkpoint, ...]:
    """Checkpoints of a suite, in pre-training order, each once.

    Args:
        selection: items separated by commas: `all`; `log`, the first, the last, and the nearest to each power of two
            between them, so that each has about twice the number of the one before; a number; `A-B`, what lies
            between both, ends included; `A-B/S`, of that what lies a multiple of S above A; a revision's name.
        revisions_of: asked once, and only if the suite's names are irregular.
        repo: a mirror to take them from.

    Raises:
        InputError: nothing selected, or something listed that does not exist; says what does.
    """
    items = [item.strip() for item in selection.split(",") if item.strip()]
    if not items:
        raise InputError(f"--checkpoints: '{suite.name}:' selects nothing; give {SELECTIONS}")
    by_name = [suite.named(repo or suite.repo, item) for item in items]
    if suite.pattern and all(by_name):  # nothing that only the hub could tell
        return tuple(sorted(filter(None, by_name), key=lambda checkpoint: checkpoint.number))
    every = suite.checkpoints(revisions_of, repo)
    if not every:
        raise InputError(f"--checkpoints: {repo or suite.repo} has no revision named like the suite '{suite.name}'")
    chosen = {checkpoint for item in items for checkpoint in _item(suite, item, every)}
    return tuple(checkpoint for checkpoint in every if checkpoint in chosen)


def _item(suite: Suite, item: str, every: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The checkpoints that one item of a selection names."""
    numbers = sorted({checkpoint.number for checkpoint in every})
    if item == "all":
        return list(every)
    if item == "log":
        wanted = _log_spaced(numbers)
    elif NUMBER.fullmatch(item):
        wanted = {int(item)}
        if int(item) not in numbers:
            below = [number for number in numbers if number < int(item)][-1:]
            above = [number for number in numbers if number > int(item)][:1]
            nearest = " and ".join(map(str, below + above))
            raise InputError(f"--checkpoints: '{suite.name}' has no {suite.unit} {item}; the nearest: {nearest}")
    elif match := RANGE.fullmatch(item):
        first, last, stride = int(match[1]), int(match[2]), int(match[3] or 1)
        if stride == 0:
            raise InputError(f"--checkpoints: '{suite.name}:{item}': the stride is 0; give 1 or more")
        wanted = {n for n in numbers if first <= n <= last and (n - first) % stride == 0}
    else:
        found = [checkpoint for checkpoint in every if _label(suite, checkpoint) == item]
        if not found:
            raise InputError(
                f"--checkpoints: '{item}' is no checkpoint of '{suite.name}', which has {_extent(suite, every)}; "
                f"give {SELECTIONS}"
            )
        return found
    if not wanted:
        raise InputError(f"--checkpoints: '{suite.name}:{item}' selects nothing; the suite has {_extent(suite, every)}")
    return [checkpoint for checkpoint in every if checkpoint.number in wanted]


def _log_spaced(numbers: Sequence[int]) -> set[int]:
    """The first, the last, and the nearest to each power of two between them."""
    powers = [2**i for i in range(numbers[-1].bit_length()) if numbers[0] < 2**i < numbers[-1]]
    nearest = (min((abs(number - power), number) for number in numbers)[1] for power in powers)
    return {numbers[0], numbers[-1], *nearest}


def _label(suite: Suite, checkpoint: Checkpoint) -> str:
    """What tells the checkpoint apart within its suite."""
    return checkpoint.repo if suite.members else checkpoint.revision


def _extent(suite: Suite, every: Sequence[Checkpoint]) -> str:
    first, last = every[0], every[-1]
    names = f"{_label(suite, first)} to {_label(suite, last)}"
    return f"{len(every)} checkpoints, {suite.unit} {first.number} to {last.number} ({names})"
