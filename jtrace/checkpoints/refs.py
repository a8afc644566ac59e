"""References to checkpoints: what a `--checkpoints` spec names."""

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jtrace.checkpoints import suites
from jtrace.checkpoints.kept import RECORD, is_run, kept_steps, tokens_by_step
from jtrace.checkpoints.suite import SELECTIONS, Checkpoint, RevisionsOf, select
from jtrace.errors import InputError

# Folder names that say "a checkpoint of my parent": step300, ckpt_010, checkpoint-500, stage1-step100-tokens4B, …
STEP_NAME = re.compile(
    r"(?:stage\d+-(?:ingredient\d+-)?)?(?:global_?)?(?:step|ckpt|checkpoint|iter)[-_]?(\d+)(?:\D.*)?"
)
TOKENS_IN_NAME = re.compile(r"tokens(\d+)([BMT])(?![A-Za-z0-9])")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
LATER_STAGE = re.compile(r"stage(?!1\b)\d")
TOKEN_UNITS = {"M": 10**6, "B": 10**9, "T": 10**12}


@dataclass(frozen=True)
class HubSource:
    """A revision of a repository on the Hugging Face hub; as text `repo@revision`."""

    repo: str
    revision: str

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"


@dataclass(frozen=True)
class CheckpointRef:
    """One checkpoint: what it is called, and where its files are.

    Attributes:
        model, revision: as in the tables; revision is empty for a folder that is not called like a step.
        source: the local folder, resolved, or the hub revision that holds the files.
        step, tokens: of pre-training, `step` in the unit of the suite; None where neither name nor suite tells.
        warning: what is known to be wrong with the checkpoint; empty if nothing.
    """

    model: str
    revision: str
    source: Path | HubSource
    step: int | None = None
    tokens: int | None = None
    warning: str = ""

    @property
    def name(self) -> str:
        """`model@revision`, or `model`; `/` is written `--`. Names the checkpoint's files in a run directory."""
        return (f"{self.model}@{self.revision}" if self.revision else self.model).replace("/", "--")


def parse_specs(specs: Sequence[str], revisions_of: RevisionsOf) -> tuple[CheckpointRef, ...]:
    """All checkpoints that the specs name, in the order given, each once.

    Args:
        specs: values of --checkpoints; each may hold several, separated by `;`.
        revisions_of: lists a hub repository's revisions; asked only for suites whose revisions have irregular names.

    Raises:
        InputError: nothing named, a spec that names nothing, or one name for two different sources.
    """
    parts = [part.strip() for spec in specs for part in spec.split(";") if part.strip()]
    if not parts:
        raise InputError(
            "--checkpoints names nothing; give a folder, a glob of folders, org/name@revision, a suite such as "
            "pythia-160m:log, or several separated by ';'"
        )
    refs: dict[str, CheckpointRef] = {}
    for ref in (ref for part in parts for ref in parse_spec(part, revisions_of)):
        other = refs.setdefault(ref.name, ref)
        if other.source != ref.source:
            raise InputError(
                f"two checkpoints are called '{ref.name}': {other.source} and {ref.source}; rename a folder"
            )
    return tuple(refs.values())


def parse_spec(spec: str, revisions_of: RevisionsOf) -> list[CheckpointRef]:
    """The checkpoints of one spec, in pre-training order where it names several at once.

    - `path/to/model`: a local Hugging Face folder; one that exists wins over every other reading
    - `path/to/step*`: a glob of them, ordered by the number in the name
    - `path/to/run`: all kept steps of a pre-training run of jtrace's own; `path/to/run@100,200` some of them
    - `org/name@revision,revision`: revisions of a hub repository; `org/name` is its `main`
    - `suite:selection`: of a suite of `jtrace.checkpoints.suites`, selected as `jtrace.checkpoints.suite.select` says;
      `org/name:selection` is the suite at that hub id

    Raises:
        InputError: the spec names nothing; says what was found.
    """
    path = Path(spec)
    if path.is_dir():
        if is_run(path):
            return _kept(path)
        if not (path / "config.json").is_file():
            raise InputError(f"--checkpoints: '{spec}' holds no config.json; {_nearest(path)}")
        return [local_ref(path)]
    if glob.has_magic(spec):
        return _globbed(spec)
    if "://" in spec:
        raise InputError(f"--checkpoints: '{spec}' is an address; write org/name@revision")
    if ":" in spec:
        name, _, selection = spec.partition(":")
        suite, repo = suites.find(name.strip())
        return [_suite_ref(checkpoint) for checkpoint in select(suite, selection, revisions_of, repo)]
    if spec.partition("@")[0] in suites.SUITES:
        raise InputError(
            f"--checkpoints: '{spec.partition('@')[0]}' is a suite; say which checkpoints after a colon, as in "
            f"'{spec.partition('@')[0]}:log': {SELECTIONS}"
        )
    repo, at, revisions = spec.partition("@")
    if not at and path.parent.is_dir():
        hub = f"; '{spec}@main' is the hub's" if HUB_ID.fullmatch(spec) else ""
        raise InputError(f"--checkpoints: '{spec}' is neither a folder nor a suite{hub}; {_nearest(path.parent)}")
    if at and is_run(Path(repo)):
        return _kept(Path(repo), revisions)
    if at and Path(repo).is_dir() and not HUB_ID.fullmatch(repo):
        raise InputError(
            f"--checkpoints: '{spec}': '{repo}' is no pre-training run of jtrace's (no {RECORD}); name a folder of it"
        )
    if not HUB_ID.fullmatch(repo):
        raise InputError(
            f"--checkpoints: '{spec}' is neither a folder nor org/name of the hub; {_nearest(path.parent)}"
        )
    named = [revision.strip() for revision in revisions.split(",") if revision.strip()] if at else ["main"]
    if not named:
        raise InputError(f"--checkpoints: '{spec}' names no revision after '@'; give one, as in {repo}@main")
    return [hub_ref(repo, revision) for revision in named]


def hub_ref(repo: str, revision: str) -> CheckpointRef:
    """The reference to a revision of a hub repository, with what the suites know of it.

    Raises:
        InputError: `main` of a repository that is known to hold no model there.
    """
    if checkpoint := suites.known(repo, revision):
        return _suite_ref(checkpoint)
    of = suites.suites_at(repo)
    if revision == "main" and any(suite.main_is_empty for suite in of):
        raise InputError(f"--checkpoints: {repo} holds no model on 'main'; select from its suite, as {of[0].name}:log")
    return CheckpointRef(repo, revision, HubSource(repo, revision), *_step_and_tokens(revision))


def local_ref(path: Path) -> CheckpointRef:
    """The reference that a local folder's name makes."""
    # Named as the user names it; a link's target tells the same files apart from others.
    path, target = Path(os.path.abspath(path)), path.resolve()
    match = STEP_NAME.fullmatch(path.name)
    model = path.name if match is None else path.parent.name
    if model.startswith(("_", ".")):
        raise InputError(f"--checkpoints: '{model}' begins with '{model[0]}', which hides its table; rename the folder")
    if match is None:
        return CheckpointRef(model, "", target)
    step, tokens = _step_and_tokens(path.name)
    if is_run(path.parent) and step is not None:
        tokens = tokens_by_step(path.parent).get(step)
    return CheckpointRef(model, path.name, target, step, tokens)


def _kept(run: Path, steps: str | None = None) -> list[CheckpointRef]:
    """Kept steps of a pre-training run, all of them or those listed."""
    kept = kept_steps(run)
    if not kept:
        raise InputError(f"--checkpoints: '{run}' has kept no step yet; let launch/pretrain.py go on")
    wanted = [str(step) for step in kept] if steps is None else [part.strip() for part in steps.split(",")]
    unknown = [step for step in wanted if not step.isdecimal() or int(step) not in kept]
    if unknown:
        raise InputError(f"--checkpoints: '{run}' has not kept step '{unknown[0]}'; it has {', '.join(map(str, kept))}")
    return [local_ref(kept[int(step)]) for step in wanted]


def _suite_ref(found: Checkpoint) -> CheckpointRef:
    source = HubSource(found.repo, found.revision)
    return CheckpointRef(found.repo, found.revision, source, found.number, found.tokens, found.warning)


def _globbed(pattern: str) -> list[CheckpointRef]:
    found = [Path(path) for path in glob.glob(pattern)]
    # A folder called like a step is one even if its files are not whole: it shall fail by name, not be passed over.
    folders = [p for p in found if p.is_dir() and (STEP_NAME.fullmatch(p.name) or (p / "config.json").is_file())]
    if not folders:
        what = f"{len(found)} entries without config.json" if found else f"nothing; {_nearest(Path(pattern).parent)}"
        raise InputError(f"--checkpoints: '{pattern}' matches {what}")
    return [local_ref(path) for path in sorted(folders, key=_order)]


def _order(path: Path) -> tuple[str, list[int], str]:
    """By parent, then by the numbers in the name, so that step20 comes before step100."""
    return str(path.parent), [int(number) for number in re.findall(r"\d+", path.name)], path.name


def _step_and_tokens(name: str) -> tuple[int | None, int | None]:
    """The step and the tokens seen that a revision's name tells."""
    step, tokens = STEP_NAME.fullmatch(name), TOKENS_IN_NAME.search(name)
    if step is None:
        return None, None
    # A later stage's name tells the tokens of that stage alone.
    whole = tokens is not None and not LATER_STAGE.match(name)
    return int(step[1]), (int(tokens[1]) * TOKEN_UNITS[tokens[2]] if tokens and whole else None)


def _nearest(folder: Path, most: int = 5) -> str:
    """What an existing folder holds, for a message."""
    if not folder.is_dir():
        return f"'{folder}' does not exist"
    names = sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    listed = ", ".join(names[:most]) + (", …" if len(names) > most else "")
    return f"folders in '{folder}': {listed or 'none'}"
