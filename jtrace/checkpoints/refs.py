"""References to checkpoints, as `--checkpoints` specs name them."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jtrace.checkpoints import suites
from jtrace.checkpoints.names import is_unfinished, natural, read_folder_step, read_step, resembles_step
from jtrace.checkpoints.pretraining_run import RECORD, is_run, kept_steps, tokens_by_step
from jtrace.checkpoints.suite import SELECTIONS, Checkpoint, RevisionsOf, select
from jtrace.errors import InputError
from jtrace.runtime.names import check_name, check_utf8, checkpoint_name, file_name
from jtrace.runtime.paths import matching

NO_STEP = "its name tells no step, so it comes after those whose names do; call it as step500, checkpoint-500 or 500"
STAGE = re.compile(r"stage(\d+)-(?:ingredient\d+-)?", re.A)
STAGE_ANEW = (
    "its stage counts steps anew, so that curves put it among an earlier stage's; trace each stage into its own --out"
)
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class HubSource:
    """A revision of a repository on the Hugging Face hub; as text `repo@revision`."""

    repo: str
    revision: str

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"


@dataclass(frozen=True)
class CheckpointRef:
    """One checkpoint: its names, and the place of its files.

    Attributes:
        model, revision: names in the tables; revision is empty for a folder that is not named like a step.
        source: the local folder, resolved, or the hub revision that holds the files.
        step, tokens: place in pre-training, `step` in the suite's unit; None where neither name nor suite gives it.
        warning: the known fault of the checkpoint; empty if there is none.
    """

    model: str
    revision: str
    source: Path | HubSource
    step: int | None = None
    tokens: int | None = None
    warning: str = ""

    @property
    def name(self) -> str:
        """Name of the checkpoint's files in a run directory: `model@revision`, or `model`, with `/` written `--`."""
        return file_name(checkpoint_name(self.model, self.revision))


def parse_specs(specs: Sequence[str], revisions_of: RevisionsOf) -> tuple[CheckpointRef, ...]:
    """Returns all checkpoints that the specs name, in the given order, each once.

    Args:
        specs: values of --checkpoints; each may hold several, separated by `;`.
        revisions_of: function that lists a hub repository's revisions; called only for suites of irregular names.

    Raises:
        InputError: there is no spec, a spec names nothing, or two different sources have one name.
    """
    parts = [part.strip() for spec in specs for part in _separated(spec) if part.strip()]
    if not parts:
        raise InputError(
            "--checkpoints names nothing; give a folder, a glob of folders, org/name@revision, a suite such as "
            "pythia-160m:log, or several separated by ';'"
        )
    refs: dict[str, CheckpointRef] = {}
    for ref in (ref for part in parts for ref in parse_spec(part, revisions_of)):
        check_utf8(str(ref.source), "--checkpoints:")
        check_name(ref.name, "--checkpoints:")
        other = refs.setdefault(ref.name, ref)
        if other.source != ref.source:
            raise InputError(
                f"two checkpoints are called '{ref.name}': {other.source} and {ref.source}; rename a folder"
            )
    _check_models(list(refs.values()))
    return tuple(_with_stages(list(refs.values())))


def parse_one(spec: str, revisions_of: RevisionsOf, name: str = "--checkpoint") -> CheckpointRef:
    """Returns the one checkpoint that a spec names.

    Args:
        name: of the argument, for messages.

    Raises:
        InputError: it names several, or none.
    """
    try:
        refs = parse_specs([spec], revisions_of)
    except InputError as error:
        raise InputError(str(error).replace("--checkpoints", name, 1)) from None
    if len(refs) != 1:
        raise InputError(f"{name}={spec} names {len(refs)} checkpoints; name one")
    return refs[0]


def parse_spec(spec: str, revisions_of: RevisionsOf) -> list[CheckpointRef]:
    """Returns the checkpoints of one spec, in pre-training order where it names several at once.

    - `path/to/model`: a local Hugging Face folder; if it exists, no other reading is tried
    - `path/to/step*`: a glob of folders, ordered by step; saves that Orbax has not finished are left out
    - `path/to/run`: all kept steps of a pre-training run of jtrace; `path/to/run@100,200` are some of them
    - `org/name@revision,revision`: revisions of a hub repository; `org/name` is its `main`
    - `suite:selection`: a part of a suite of `jtrace.checkpoints.suites`, see `jtrace.checkpoints.suite.select`;
      `org/name:selection` is the suite at that hub id

    Raises:
        InputError: the spec names nothing; the message says what was found.
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
    repo, at, revisions = spec.rpartition("@") if "@" in spec else (spec, "", "")
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
    """Returns the reference to a revision of a hub repository, with the suites' facts about it.

    Raises:
        InputError: `main` of a repository that is known to hold no model there.
    """
    if checkpoint := suites.known(repo, revision):
        return _suite_ref(checkpoint)
    at_hub = suites.suites_at(repo)
    if revision == "main" and any(suite.main_is_empty for suite in at_hub):
        raise InputError(
            f"--checkpoints: {repo} holds no model on 'main'; select from its suite, as {at_hub[0].name}:log"
        )
    parsed = read_step(revision)
    step, tokens = (parsed.step, parsed.tokens) if parsed else (None, None)
    warning = at_hub[0].warning_beside(revision) if at_hub else ""
    return CheckpointRef(repo, revision, HubSource(repo, revision), step, tokens, warning)


def local_ref(path: Path) -> CheckpointRef:
    """Makes the reference to a local folder from its name.

    Raises:
        InputError: the name would hide its table, or is that of a save that Orbax has not finished.
    """
    # The name is the user's; the resolved target identifies the files.
    path, target = Path(os.path.abspath(path)), path.resolve()
    if is_unfinished(path.name):
        raise InputError(f"--checkpoints: '{path}' is a save that Orbax has not finished; name a finished one")
    parsed = read_folder_step(path.name)
    model = path.name if parsed is None else path.parent.name
    if model.startswith(("_", ".")):
        raise InputError(f"--checkpoints: '{model}' begins with '{model[0]}', which hides its table; rename the folder")
    if parsed is None:
        return CheckpointRef(model, "", target, warning=NO_STEP if resembles_step(path.name) else "")
    tokens = tokens_by_step(path.parent).get(parsed.step) if is_run(path.parent) else parsed.tokens
    return CheckpointRef(model, path.name, target, parsed.step, tokens)


def _kept(run: Path, steps: str | None = None) -> list[CheckpointRef]:
    """Returns kept steps of a pre-training run, all or the listed ones."""
    kept = kept_steps(run)
    if not kept:
        raise InputError(f"--checkpoints: '{run}' has kept no step yet; let jtrace pretrain go on")
    wanted = [str(step) for step in kept] if steps is None else [part.strip() for part in steps.split(",")]
    unknown = [step for step in wanted if not step.isdecimal() or int(step) not in kept]
    if unknown:
        raise InputError(f"--checkpoints: '{run}' has not kept step '{unknown[0]}'; it has {', '.join(map(str, kept))}")
    return [local_ref(kept[int(step)]) for step in wanted]


def _suite_ref(checkpoint: Checkpoint) -> CheckpointRef:
    source = HubSource(checkpoint.repo, checkpoint.revision)
    return CheckpointRef(
        checkpoint.repo, checkpoint.revision, source, checkpoint.number, checkpoint.tokens, checkpoint.warning
    )


def _globbed(pattern: str) -> list[CheckpointRef]:
    paths = [Path(path) for path in matching(pattern) if not is_unfinished(Path(path).name)]
    # A folder named like a step counts even if files are missing: it has to fail by name, not to be left out.
    folders = [p for p in paths if p.is_dir() and (read_folder_step(p.name) or (p / "config.json").is_file())]
    if not folders:
        what = f"{len(paths)} entries without config.json" if paths else f"nothing; {_nearest(Path(pattern).parent)}"
        raise InputError(f"--checkpoints: '{pattern}' matches {what}")
    refs = [local_ref(path) for path in sorted(folders, key=_order)]
    course = any(ref.step is not None for ref in refs)
    return [replace(ref, warning=NO_STEP) if course and ref.step is None else ref for ref in refs]


def _order(path: Path) -> tuple[str, bool, list[int], int, list[tuple[str, int]]]:
    """Returns a sort key: parent, numbers before the step (stages), step (step20 before step100); others last."""
    parsed = read_folder_step(path.name)
    before, step = (path.name, 0) if parsed is None else (parsed.before, parsed.step)
    return str(path.parent), parsed is None, [int(n) for n in re.findall(r"\d+", before)], step, natural(path.name)


def _separated(spec: str) -> list[str]:
    """Splits specs at `;`, except within the name of an existing folder."""
    return [spec] if os.path.isdir(spec) else spec.split(";")


def _check_models(refs: Sequence[CheckpointRef]) -> None:
    """Checks that the checkpoints of one folder are of one model: no step occurs under two models' names.

    Raises:
        InputError: it does, as with `pythia-step0` beside `olmo-step0`.
    """
    first: dict[tuple[str, int], tuple[str, str]] = {}
    for ref in refs:
        parsed = read_folder_step(ref.revision)
        if parsed is None or isinstance(ref.source, HubSource):
            continue
        stage = STAGE.match(parsed.before)
        this = parsed.before[stage.end() if stage else 0 :], ref.revision
        other = first.setdefault((ref.model, parsed.step), this)
        if other[0] != this[0]:
            raise InputError(
                f"--checkpoints: '{other[1]}' and '{this[1]}' are both step {parsed.step} of '{ref.model}'; give each "
                "model a folder of its own"
            )


def _with_stages(refs: Sequence[CheckpointRef]) -> Iterator[CheckpointRef]:
    """Yields the checkpoints, with a warning on those of a later stage whose steps are not above an earlier stage's."""
    reached: dict[str, list[tuple[int, int]]] = {}
    for ref in refs:
        if (stage := _stage(ref)) is not None and ref.step is not None:
            reached.setdefault(ref.model, []).append((stage, ref.step))
    for ref in refs:
        stage, step = _stage(ref), ref.step
        before = [at for earlier, at in reached.get(ref.model, ()) if stage is not None and earlier < stage]
        if step is not None and ref.tokens is None and any(step <= at for at in before):
            yield replace(ref, warning="; ".join(filter(None, (ref.warning, STAGE_ANEW))))
        else:
            yield ref


def _stage(ref: CheckpointRef) -> int | None:
    match = STAGE.match(ref.revision)
    return int(match[1]) if match else None


def _nearest(folder: Path, most: int = 5) -> str:
    """Lists what an existing folder holds, for a message."""
    if not folder.is_dir():
        return f"'{folder}' does not exist"
    names = sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    listed = ", ".join(names[:most]) + (", …" if len(names) > most else "")
    return f"folders in '{folder}': {listed or 'none'}"
