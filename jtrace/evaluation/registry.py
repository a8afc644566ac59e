"""The tasks that --tasks names, with their data read and their judges at hand."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import numpy as np

from jtrace.checkpoints.content import read_content
from jtrace.checkpoints.load import read_config_json
from jtrace.checkpoints.roberta import load_classifier
from jtrace.data.groups import groups_of
from jtrace.data.loading import read_statements
from jtrace.data.registry import BUILTIN, WORLD
from jtrace.data.statements import Statements
from jtrace.data.world.facts import make_world
from jtrace.data.world.questions import held_out_text
from jtrace.data.world.spec import names_world, parse_world
from jtrace.errors import InputError
from jtrace.evaluation import statement_labels, toxigen, truthfulqa, world
from jtrace.evaluation.capability import SHOTS, capability_task
from jtrace.evaluation.judges import judge_prompt, toxic, toxic_label, verdicts
from jtrace.evaluation.perplexity import parts, perplexity_task
from jtrace.evaluation.prompts import WORDINGS
from jtrace.evaluation.sources import LARGEST_TASK, read_capability, read_truthfulqa_choices, read_wikitext
from jtrace.evaluation.task import Task, Text
from jtrace.evaluation.task_facts import CAPABILITY, HARNESS
from jtrace.inference.language_model import load_language_model
from jtrace.models.families import read_model_config
from jtrace.probing.protocols import Protocol
from jtrace.runtime.small_files import MissingFileError, read_text

TASKS = (*WORDINGS, "toxigen", "truthfulqa", "perplexity", "capability", *CAPABILITY, "world", *WORLD)
HARNESS_TASK = f"{HARNESS}TASK"  # any of lm-eval's
# Whose completions another model judges.
JUDGED = ("toxigen", "truthfulqa")
WIKITEXT = "wikitext"


@dataclass(frozen=True)
class Judges:
    """Folders of the models that judge completions; None where there is none.

    Attributes:
        toxicity: a sequence classifier of two labels.
        truth, info: language models that answer yes.
    """

    toxicity: Path | None = None
    truth: Path | None = None
    info: Path | None = None


@dataclass(frozen=True)
class TaskSources:
    """Sources of the tasks' items.

    Attributes:
        statements: sets given by the user, which win over those of the same name elsewhere.
        vector_sets: names of the sets that vectors are made of: by default perplexity is measured on their texts.
        text: for perplexity: a text file, `wikitext`, `world…`, or None for the statements of the vectors' sets.
        data_dir, cache_dir: as for tracing.
        limit: only the first so many evaluation rows of each task.
        shots: worked examples of capability tasks; None for each task's usual number.
        seed: of guesses.
    """

    statements: tuple[Statements, ...] = ()
    vector_sets: tuple[str, ...] = ()
    text: str | None = None
    data_dir: Path | None = None
    cache_dir: Path | None = None
    limit: int | None = None
    shots: int | None = None
    seed: int = 0

    def given(self, name: str) -> Statements | None:
        """A set given by the user under this name or as a variant of it."""
        return next((s for s in self.statements if name in (s.name, s.name.partition("_")[0])), None)

    def set_named(self, name: str) -> Statements:
        """The set given by the user, else the one in `data_dir` or on the hub."""
        return self.given(name) or read_statements(name, self.data_dir, self.cache_dir)


def read_tasks(names: Sequence[str], protocols: Sequence[Protocol], data: TaskSources, judges: Judges) -> list[Task]:
    """The tasks of --tasks, each as every wanted protocol measures it.

    Raises:
        InputError: an unknown task, data that cannot be had, or a judge that is missing or is none.
    """
    if not names:
        raise InputError(f"--tasks names nothing; there are {', '.join(TASKS)}")
    tasks = [task for name in dict.fromkeys(names) for task in _read_task(name, protocols, data, judges)]
    for task in tasks:
        if not task.items:
            raise InputError(f"{task.name}: no row is left to evaluate; take a larger set")
    return [task for task in tasks if set(task.protocols) & set(protocols)]


def assumed_meanings(names: Sequence[str], data: TaskSources) -> list[str]:
    """A warning for each task that asks a file of the user's own what a built-in set's labels mean."""
    warnings = []
    for name in dict.fromkeys(names):
        known, statements = BUILTIN.get(name.partition("_")[0]), data.given(name)
        if known and statements and statements.info is None:
            warnings.append(
                f"{statements.source}: not the published rows; task {name} takes label 1 for '{known.label_one}', "
                "as of the built-in set"
            )
    return warnings


def _read_task(name: str, protocols: Sequence[Protocol], data: TaskSources, judges: Judges) -> list[Task]:
    kind = name.partition("_")[0]
    if kind in WORDINGS:
        return _statement_tasks(data.set_named(name), protocols, data)
    if kind == "toxigen":
        return _toxigen_tasks(data.set_named(name), protocols, data, judges)
    if name == "truthfulqa":
        return _truthfulqa_tasks(protocols, data, judges)
    if name == "perplexity":
        return [_perplexity_task(data)]
    if name == "capability":
        return [_capability_task(task, data) for task in CAPABILITY]
    if name in CAPABILITY:
        return [_capability_task(name, data)]
    if names_world(name):
        return _world_tasks(name, data)
    if name.startswith(HARNESS):
        return _harness_tasks(name.removeprefix(HARNESS), data)
    raise InputError(f"--tasks: no task '{name}'; there are {', '.join((*TASKS, HARNESS_TASK))}")


def _statement_tasks(statements: Statements, protocols: Sequence[Protocol], data: TaskSources) -> list[Task]:
    groups = _groups(statements)
    tasks = []
    if "paper" in protocols:
        rows = statement_labels.evaluation_rows(statements)[: data.limit]
        tasks.append(statement_labels.published_task(statements, rows, groups, data.seed))
    if "sound" in protocols:
        rows = statement_labels.clean_rows(statements, groups)[: data.limit]
        tasks.append(statement_labels.likelihood_task(statements, rows, groups))
    return tasks


def _toxigen_tasks(
    statements: Statements, protocols: Sequence[Protocol], data: TaskSources, judges: Judges
) -> list[Task]:
    if judges.toxicity is None:
        raise InputError(
            "toxigen: no judge of its continuations; give --toxicity_judge=FOLDER with a sequence classifier such as "
            "tomh/toxigen_roberta"
        )
    classifier, groups = load_classifier(judges.toxicity, jnp.float32), _groups(statements)
    toxic_label(classifier)  # refused now, not after the completions are made
    rows = {
        "paper": statement_labels.evaluation_rows(statements),
        "sound": statement_labels.clean_rows(statements, groups),
    }

    def judge(texts: Sequence[str]) -> np.ndarray:
        return toxic(classifier, texts)

    return [
        toxigen.continuation_task(
            statements, rows[protocol][: data.limit], groups, judge, protocol, read_content(judges.toxicity).key
        )
        for protocol in protocols
    ]


def _truthfulqa_tasks(protocols: Sequence[Protocol], data: TaskSources, judges: Judges) -> list[Task]:
    """Questions that no vector is made of: the published test questions, or those that the statement set leaves."""
    truth, info = _answer_judge(judges.truth, "truth"), _answer_judge(judges.info, "info")
    judged = truth is not None or info is not None
    if tuple(protocols) == ("paper",) and not judged:
        raise InputError(
            "truthfulqa: protocol paper judges generated answers; give --truth_judge=FOLDER and --info_judge=FOLDER "
            "(allenai/truthfulqa-truth-judge-llama2-7B and -info-judge-), or take --protocol=sound, which needs none"
        )
    published = data.data_dir / "truthfulqa_test.csv" if data.data_dir else None
    tasks = []
    if judged:
        if published is not None and published.is_file():
            questions = _published_questions(published)
        else:
            questions = [row.question for row in _held_out_choices(data)]
        primers, judged_by = (
            {"paper": "published", "sound": "canonical"},
            f"{_key(judges.truth)}, {_key(judges.info)}",
        )
        tasks += [
            truthfulqa.generation_task(questions[: data.limit], primers[protocol], truth, info, judged_by)
            for protocol in protocols
        ]
    if "sound" in protocols:
        tasks.append(truthfulqa.multiple_choice_task(_held_out_choices(data)[: data.limit]))
    return tasks


def _held_out_choices(data: TaskSources) -> list[truthfulqa.MultipleChoice]:
    """Of the questions that the statement set, which vectors are made of, does not ask."""
    seen = truthfulqa.questions_of(data.set_named("truthfulqa"))
    rows = truthfulqa.from_hub_rows(read_truthfulqa_choices(data.data_dir, data.cache_dir))
    return [row for row in rows if row.question not in seen]


def _published_questions(path: Path) -> list[str]:
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path).removeprefix("\ufeff"), newline="")))
        return [row["Question"].strip() for row in rows]
    except (InputError, KeyError, AttributeError, csv.Error):
        raise InputError(f"{path}: no CSV file with a column 'Question'; take the published one") from None


def _answer_judge(folder: Path | None, kind: Literal["truth", "info"]) -> truthfulqa.Judge | None:
    if folder is None:
        return None
    read_model_config(read_config_json(folder), str(folder / "config.json"))  # refused now, read when it is needed
    load = cache(lambda: load_language_model(folder, folder.name, jnp.bfloat16 if _large(folder) else jnp.float32))

    def judge(questions: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        prompts = [judge_prompt(*pair, kind) for pair in zip(questions, answers, strict=True)]
        return verdicts(prompts, load().complete)

    return judge


def _large(folder: Path) -> bool:
    return int(read_config_json(folder).get("hidden_size", 0)) >= 2048


def _perplexity_task(data: TaskSources) -> Task:
    if data.text == WIKITEXT:
        documents = parts(read_wikitext(data.data_dir, data.cache_dir))
    elif data.text is not None and names_world(data.text):
        documents = [Text(i, text) for i, text in enumerate(held_out_text(make_world(parse_world(data.text)[1])))]
    elif data.text is not None:
        documents = parts(_text_of(Path(data.text)))
    else:
        documents = [text for name in data.vector_sets for text in _texts_of(name, data)]
    if not documents:
        raise InputError("perplexity: no text to predict; give --text=FILE, wikitext or world")
    return perplexity_task(documents[: data.limit])


def _texts_of(name: str, data: TaskSources) -> list[Text]:
    """The rows that a vector's set leaves to evaluate on."""
    if name not in BUILTIN and all(name != statements.name for statements in data.statements):
        raise InputError(
            f"perplexity: the texts of '{name}' are not known; give --text=FILE, wikitext or world, or --statements"
        )
    statements = data.set_named(name)
    groups = _groups(statements)
    rows = statement_labels.clean_rows(statements, groups)
    if not len(rows):
        raise InputError(f"perplexity: the vector of '{name}' is made of all of its rows; give --text=FILE or wikitext")
    return [Text(int(row), statements.texts[row], f"{name} {groups[row]}") for row in rows]


def _key(folder: Path | None) -> str:
    return "" if folder is None else read_content(folder).key


def _text_of(path: Path) -> str:
    try:
        return read_text(path, LARGEST_TASK, "save it as UTF-8 text").removeprefix("\ufeff")  # no text
    except MissingFileError:
        raise InputError(f"--text={path}: no such file; name a text file, wikitext or world") from None


def _capability_task(name: str, data: TaskSources) -> Task:
    test, dev = read_capability(name, data.data_dir, data.cache_dir)
    return capability_task(name, test[: data.limit], dev, SHOTS[name] if data.shots is None else data.shots)


def _world_tasks(name: str, data: TaskSources) -> list[Task]:
    part, config = parse_world(name)
    place = make_world(config)
    dimensions = [info.dimension for info in WORLD.values()]
    if part and part not in dimensions:
        raise InputError(f"--tasks: '{name}' is no part of the world; it has {', '.join(WORLD)}")
    makers: tuple[Callable[..., Task], ...] = (world.question_task, world.prompt_task)
    return [make(place, one, data.limit) for one in ([part] if part else dimensions) for make in makers]


def _harness_tasks(name: str, data: TaskSources) -> list[Task]:
    try:
        from jtrace.evaluation.harness.tasks import read_harness_tasks
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lm_eval":
            raise
        raise InputError(
            f"{HARNESS}{name}: lm-eval is not installed; install jtrace with its extra: pip install 'jtrace[lm-eval]'"
        ) from None
    return read_harness_tasks(name, data.limit, data.shots)


def _groups(statements: Statements) -> list[str]:
    return [str(group) for group in groups_of(statements)]
