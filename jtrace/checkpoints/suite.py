"""Suites of public pre-training checkpoints, and selections of their checkpoints."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from jtrace.checkpoints.names import UNITS
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
        repo, revision: its place on the hub.
        number: its number in the suite's count.
        tokens: tokens seen in pre-training, over all stages; None where not established.
        warning: the known fault of this revision; empty if there is none.
    """

    repo: str
    revision: str
    number: int
    tokens: int | None
    warning: str = ""


@dataclass(frozen=True)
class Fault:
    """A known fault of revisions: their numbers (None: every revision's), a description, and its source."""

    numbers: Sequence[int] | None
    warning: str


@dataclass(frozen=True)
class Ramp:
    """A batch that grows at the start of training, as Megatron's `--rampup-batch-size` makes it.

    Attributes:
        first, rise, last: sequences of the first batch, of each rise, and of the batch at the end.
        over: sequences until the last rise, which come at even distances.
        length: tokens of a sequence.
    """

    first: int
    rise: int
    last: int
    over: int
    length: int

    def tokens(self, step: int) -> int:
        """Counts the tokens seen after so many steps."""
        rises, left, seen = (self.last - self.first) // self.rise, step, 0
        for done in range(rises):
            batch = self.first + done * self.rise
            # A batch is of one size: the one that goes past the place of a rise is still of the size before.
            steps = min(left, max(0, -((seen * rises - self.over * (done + 1)) // (batch * rises))))
            left, seen = left - steps, seen + steps * batch
        return (seen + left * self.last) * self.length


@dataclass(frozen=True)
class Suite:
    """One pre-training run, or one stage of it, whose checkpoints are public.

    Attributes:
        name: its name in specs.
        repo: hub id.
        unit: unit of its numbers.
        grid: (revision's template, numbers) in order, where names are regular; the hub is not asked then.
        pattern: pattern of revisions' names where the grid is irregular, with groups `number` and, if in the name,
            `tokens` (seen in this stage, rounded; in billions, or in the group `unit`, which is B or T) and
            `ingredient` (one of several parallel runs of a stage).
        members: (hub id, number, tokens) of suites in which each checkpoint is the `main` of its own repository.
        tokens_per_unit, tokens_before: exact tokens of one unit, and seen before unit 0; None where not established.
        ramp: tokens of its units where the batch grows at the start; `tokens_per_unit` is not used then.
        main: number of the checkpoint on `main`; None where that is none of the suite, or not established.
        main_is_empty: `main` holds no model.
        main_is: what `main` holds where that is no checkpoint of the suite; empty where not established.
        parameters: trained scalars, tied ones once; None where not established.
        bytes_per_parameter: bytes of each in the hub's weights; None where not established.
        unmoved: numbers between which training does not move, so that equal weights are no fault.
        tokenizer: hub id with the same tokeniser, for revisions that carry none.
        mirrors: further hub ids of the same repository.
        faults: known faults of its revisions.
        note: a fault that concerns the repository as a whole, or whose revisions are not established.
    """

    name: str
    repo: str
    unit: str = "step"
    grid: tuple[tuple[str, Sequence[int]], ...] = ()
    pattern: str = ""
    members: tuple[tuple[str, int, int], ...] = ()
    tokens_per_unit: int | None = None
    tokens_before: int | None = 0
    ramp: Ramp | None = None
    main: int | None = None
    main_is_empty: bool = False
    main_is: str = ""
    parameters: int | None = None
    bytes_per_parameter: int | None = None
    unmoved: tuple[int, ...] = ()
    tokenizer: str | None = None
    mirrors: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    note: str = ""

    @property
    def weight_bytes(self) -> int | None:
        """Bytes of one checkpoint on the hub, without headers; None where not established."""
        known = self.parameters is not None and self.bytes_per_parameter is not None
        return self.parameters * self.bytes_per_parameter if known else None  # type: ignore[operator]

    @property
    def repos(self) -> tuple[str, ...]:
        """All hub ids of the suite or of a part of it."""
        return tuple(repo for repo, _, _ in self.members) or (self.repo, *self.mirrors)

    def checkpoints(self, revisions_of: RevisionsOf, repo: str = "") -> tuple[Checkpoint, ...]:
        """Lists all checkpoints in pre-training order; parallel ingredients one after another.

        Args:
            revisions_of: function that lists a repository's revisions; called only where names are irregular.
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
        """Returns the checkpoint of that name, None if the suite has none; the hub is not asked."""
        if self.members:
            return next((c for c in self.checkpoints(lambda _: ()) if (c.repo, c.revision) == (repo, revision)), None)
        if revision == "main" and self.main is not None:
            return self._checkpoint(repo, revision, self.main)
        if self.grid:
            return next((c for c in self.checkpoints(lambda _: (), repo) if c.revision == revision), None)
        match = re.fullmatch(self.pattern, revision)
        return self._matched(repo, match) if match else None

    def warning_beside(self, revision: str) -> str:
        """Returns the warning of a revision of its repository that is none of its checkpoints; empty if there is none.

        It tells the faults that all revisions have, and of `main` what it holds.
        """
        main = (f"main is {self.main_is}",) if revision == "main" and self.main_is else ()
        return "; ".join((*main, *(fault.warning for fault in self.faults if fault.numbers is None)))

    def _matched(self, repo: str, match: re.Match[str]) -> Checkpoint:
        named = match.groupdict()
        tokens = int(Fraction(named["tokens"]) * UNITS[named.get("unit") or "B"]) if named.get("tokens") else None
        return self._checkpoint(repo, match[0], int(match["number"]), tokens)

    def _checkpoint(self, repo: str, revision: str, number: int, in_stage: int | None = None) -> Checkpoint:
        if in_stage is None and self.ramp is not None:
            in_stage = self.ramp.tokens(number)
        elif in_stage is None and self.tokens_per_unit is not None:
            in_stage = number * self.tokens_per_unit
        tokens = None if in_stage is None or self.tokens_before is None else self.tokens_before + in_stage
        # A fault of the branch with `main`'s number does not concern `main`.
        warnings = [
            fault.warning
            for fault in self.faults
            if fault.numbers is None or (revision != "main" and number in fault.numbers)
        ]
        return Checkpoint(repo, revision, number, tokens, "; ".join(warnings))


def select(suite: Suite, selection: str, revisions_of: RevisionsOf, repo: str = "") -> tuple[Checkpoint, ...]:
    """Selects checkpoints of a suite, in pre-training order, each once.

    Args:
        selection: items separated by commas: `all`; `log`, the first, the last, and the nearest to each power of two
            between them, so that each has about twice the number of the one before; a number; `A-B`, those from
            A to B, ends included; `A-B/S`, of these the ones a multiple of S above A; a revision's name.
        revisions_of: function that lists a repository's revisions; called once, and only for irregular names.
        repo: a mirror to take them from.

    Raises:
        InputError: nothing is selected, or an item does not exist; the message says what exists.
    """
    items = [item.strip() for item in selection.split(",") if item.strip()]
    if not items:
        raise InputError(f"--checkpoints: '{suite.name}:' selects nothing; give {SELECTIONS}")
    by_name = [suite.named(repo or suite.repo, item) for item in items]
    if suite.pattern and all(by_name):  # the hub need not be asked
        return tuple(sorted(filter(None, by_name), key=lambda checkpoint: checkpoint.number))
    every = suite.checkpoints(revisions_of, repo)
    if not every:
        raise InputError(f"--checkpoints: {repo or suite.repo} has no revision named like the suite '{suite.name}'")
    chosen = {checkpoint for item in items for checkpoint in _item(suite, item, every)}
    return tuple(checkpoint for checkpoint in every if checkpoint in chosen)


def _item(suite: Suite, item: str, every: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Returns the checkpoints that one item of a selection names."""
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
        named = [checkpoint for checkpoint in every if _label(suite, checkpoint) == item]
        if not named:
            raise InputError(
                f"--checkpoints: '{item}' is no checkpoint of '{suite.name}', which has {_extent(suite, every)}; "
                f"give {SELECTIONS}"
            )
        return named
    if not wanted:
        raise InputError(f"--checkpoints: '{suite.name}:{item}' selects nothing; the suite has {_extent(suite, every)}")
    return [checkpoint for checkpoint in every if checkpoint.number in wanted]


def _log_spaced(numbers: Sequence[int]) -> set[int]:
    """Returns the first, the last, and the nearest to each power of two between them."""
    powers = [2**i for i in range(numbers[-1].bit_length()) if numbers[0] < 2**i < numbers[-1]]
    nearest = (min((abs(number - power), number) for number in numbers)[1] for power in powers)
    return {numbers[0], numbers[-1], *nearest}


def _label(suite: Suite, checkpoint: Checkpoint) -> str:
    """Returns a label that is unique within the suite."""
    return checkpoint.repo if suite.members else checkpoint.revision


def _extent(suite: Suite, every: Sequence[Checkpoint]) -> str:
    first, last = every[0], every[-1]
    names = f"{_label(suite, first)} to {_label(suite, last)}"
    return f"{len(every)} checkpoints, {suite.unit} {first.number} to {last.number} ({names})"
