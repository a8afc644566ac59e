"""lm-eval's tasks as jtrace's: lm-eval makes the requests and judges the answers, jtrace answers under conditions.

An item is a document with all of its requests, so that intervals are over documents.
"""

import contextlib
import difflib
import hashlib
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import Task as HarnessTask
from lm_eval.defaults import DEFAULT_OTHER_SEED
from lm_eval.tasks import TaskManager

from jtrace.errors import InputError
from jtrace.evaluation.answers import Completions, Decoding
from jtrace.evaluation.harness.decoding import CompletionSettings
from jtrace.evaluation.harness.metrics import outcome_of
from jtrace.evaluation.harness.model import HarnessModel
from jtrace.evaluation.task import Answers, Choice, Item, Outcome, Prompt, Task, Text
from jtrace.evaluation.task_facts import HARNESS, LOWER_IS_BETTER, main_metric
from jtrace.inference.language_model import LanguageModel
from jtrace.models.intervention import Edit
from jtrace.probing.protocols import PROTOCOLS
from jtrace.runtime.foreign import foreign

GENERATED, ROLLING, SCORED = "generate_until", "loglikelihood_rolling", "loglikelihood"


def read_harness_tasks(name: str, limit: int | None, shots: int | None) -> list[Task]:
    """The tasks that a name of lm-eval stands for: one, those of a group or tag, or those of local files.

    Args:
        name: as lm-eval's `--tasks` has it, or a YAML file, or a folder of such files.
        limit: only the first so many documents of each; None for all.
        shots: worked examples, where a task does not insist on none; None for each task's own number.

    Raises:
        InputError: no such task, data that cannot be had, or a task that jtrace cannot ask.
    """
    return [_as_task(task, limit, shots) for task in _loaded(name)]


def _loaded(name: str) -> list[HarnessTask]:
    path = Path(name)
    where = f"{HARNESS}{name}"
    is_file = path.suffix in (".yaml", ".yml")
    if is_file and not path.is_file():
        raise InputError(f"{where}: no such file; name a task of lm-eval, its YAML file, or a folder of them")
    local = is_file or path.is_dir()
    remedy = "see whether lm-eval itself takes it"
    with foreign(where, "lm-eval cannot load it", remedy):
        manager = TaskManager(include_path=str(path) if path.is_dir() else None, include_defaults=not local)
        names = [name] if is_file else manager.all_subtasks if path.is_dir() else [name]
        if not names:
            raise InputError(f"{where}: the folder holds no task of lm-eval; name its YAML file, or another folder")
        if not local and name not in manager.all_tasks:
            near = difflib.get_close_matches(name, manager.all_tasks, n=3)
            meant = f"; did you mean {', '.join(near)}?" if near else "; `lm-eval ls tasks` lists them"
            raise InputError(f"{where}: lm-eval has no task of this name{meant}")
        return list(manager.load(list(names))["tasks"].values())


def _as_task(task: HarnessTask, limit: int | None, shots: int | None) -> Task:
    name = f"{HARNESS}{task.task_name}"
    if getattr(task, "UNSAFE_CODE", False):
        raise InputError(f"{name}: runs code that a model wrote; ask it by `jtrace harness`, which has a flag for that")
    if getattr(task, "MULTIMODAL", False):
        raise InputError(f"{name}: asks about images or sound, and jtrace's models read text alone")
    instances = _instances(task, name, limit, shots)
    kinds = sorted({instance.request_type for instance in instances})
    if len(kinds) > 1:
        raise InputError(f"{name}: asks in several ways ({', '.join(kinds)}); jtrace takes tasks of one output type")
    if any((instance.repeats or 1) > 1 for instance in instances):
        raise InputError(f"{name}: asks every document several times; jtrace asks once, so take a task without repeats")
    documents = _by_document(instances)
    asker = HarnessAsker(kinds[0], name, tuple(map(tuple, documents)), _settings(kinds[0], instances, name))
    directions = _directions(task)
    main = main_metric(name, list(directions))
    if main is None:
        raise InputError(f"{name}: has no metric; name one in its metric_list")
    if directions[main] == (main in LOWER_IS_BETTER):
        raise InputError(f"{name}: {main} is better where it is {'higher' if directions[main] else 'lower'}, not here")
    return Task(
        name,
        PROTOCOLS,
        tuple(_item(documents[at]) for at in range(len(documents))),
        partial(_measure, task, documents),
        main=main,
        max_new_tokens=asker.settings.max_new_tokens if asker.settings else 0,
        key=_key(task, documents),
        asker=asker,
    )


def _instances(task: HarnessTask, name: str, limit: int | None, shots: int | None) -> list[Instance]:
    """All requests of a task, worked examples chosen as lm-eval's command does."""
    usual = task.get_config("num_fewshot")
    if shots is not None and usual != 0:
        task.set_config("num_fewshot", shots)
    elif usual is None:
        task.set_config("num_fewshot", 0)
    task.set_fewshot_seed(DEFAULT_OTHER_SEED)
    with foreign(name, "lm-eval cannot make its requests", "see whether lm-eval itself takes it"):
        # It shows a bar whether or not that is wanted.
        with contextlib.redirect_stderr(io.StringIO()):
            task.build_all_requests(limit=limit)
        return list(task.instances)


def _by_document(instances: Sequence[Instance]) -> list[list[Instance]]:
    by_document: dict[int, list[Instance]] = {}
    for instance in instances:
        by_document.setdefault(int(instance.doc_id or 0), []).append(instance)
    return [sorted(requests, key=lambda request: request.idx) for _, requests in sorted(by_document.items())]


def _settings(kind: str, instances: Sequence[Instance], name: str) -> CompletionSettings | None:
    if kind != GENERATED:
        return None
    each = {CompletionSettings.of(instance.args[1], None, name) for instance in instances}
    if len(each) > 1:
        raise InputError(f"{name}: documents have other generation_kwargs; jtrace takes tasks of one")
    return each.pop()


def _item(requests: Sequence[Instance]) -> Item:
    """A document as a table and its completions know it; where contexts differ, each stands before its continuation."""
    first = requests[0]
    index = int(first.doc_id or 0)
    if first.request_type == GENERATED:
        return Prompt(index, first.args[0])
    if first.request_type == ROLLING:
        return Text(index, first.args[0])
    contexts, continuations = zip(*(request.args for request in requests), strict=True)
    if len(set(contexts)) == 1:
        return Choice(index, contexts[0], continuations)
    return Choice(index, "", tuple(map("".join, zip(contexts, continuations, strict=True))))


@dataclass(frozen=True)
class HarnessAsker:
    """Requests of a task, asked as lm-eval's own models are; an `jtrace.evaluation.answers.Asker`.

    Attributes:
        kind: lm-eval's type of request.
        name: the task's.
        documents: the requests of each.
        settings: of completions; None where there are none.
    """

    kind: str
    name: str
    documents: tuple[tuple[Instance, ...], ...]
    settings: CompletionSettings | None = None

    def __repr__(self) -> str:
        return f"{self.kind} {self.settings}"

    def check(self, model: LanguageModel) -> None:
        """Refuses completions that may be longer than the model's context, and a text that nothing stands before."""
        if self.settings is not None:
            HarnessModel(model).room(self.settings)
        elif self.kind == ROLLING:
            _ = HarnessModel(model).prefix_token_id

    def ask(
        self,
        model: LanguageModel,
        edit: Edit | None,
        conditions: Sequence[int],
        how: Decoding,
        *,
        kept: Mapping[int, Completions] | None = None,
        keep: Callable[[int, Completions], None] | None = None,
        progress: str | None = None,
    ) -> list[list[Any]]:
        """The answers of every document, one list per condition: a text, a log-likelihood, or those of its choices."""
        asked = HarnessModel(model, edit, conditions, how, progress=progress)
        if self.kind == GENERATED:
            return self._complete(asked, how, kept or {}, keep)
        if self.kind == ROLLING:
            rolling = asked.rolling_loglikelihoods([requests[0] for requests in self.documents])
            return [[(total,) for total in of_condition] for of_condition in zip(*rolling, strict=True)]
        every = asked.loglikelihoods([request for requests in self.documents for request in requests])
        return [list(self._split(of_condition)) for of_condition in zip(*every, strict=True)]

    def _split(self, scores: Sequence[Any]) -> Iterator[Sequence[Any]]:
        at = 0
        for requests in self.documents:
            yield scores[at : at + len(requests)]
            at += len(requests)

    def _complete(
        self,
        asked: HarnessModel,
        how: Decoding,
        kept: Mapping[int, Completions],
        keep: Callable[[int, Completions], None] | None,
    ) -> list[list[Any]]:
        contexts = [requests[0].args[0] for requests in self.documents]
        settings = asked.settings(self.documents[0][0].args[1], self.name)
        if how.temperature > 0:
            settings = replace(settings, temperature=how.temperature)
        missing = [at for at in range(len(contexts)) if at not in kept]
        made = asked.completions([contexts[at] for at in missing], settings, numbers=missing, keep=keep)
        whole = {**kept, **made}
        by_condition = zip(*(whole[at] for at in range(len(contexts))), strict=True)
        return [[(settings.text(asked.model, tokens),) for tokens in of_condition] for of_condition in by_condition]


def _measure(task: HarnessTask, documents: Sequence[Sequence[Instance]], answers: Answers) -> Mapping[str, Outcome]:
    """Lets lm-eval filter and judge the answers to all documents, and names metrics as it does.

    Raises:
        InputError: lm-eval fails on an answer.
    """
    for requests, of_document in zip(documents, answers, strict=True):
        for request, answer in zip(requests, of_document, strict=True):
            request.resps, request.filtered_resps = [answer], {}
    values: dict[tuple[str, str], list[Any]] = {}
    with foreign(f"{HARNESS}{task.task_name}", "lm-eval cannot judge an answer", "see what lm-eval itself says"):
        task.apply_filters()
        for at, requests in enumerate(documents):
            for filtered in requests[0].filtered_resps:
                judged = task.process_results(requests[0].doc, [r.filtered_resps[filtered] for r in requests])
                for metric, value in judged.items():
                    values.setdefault((metric, filtered), [None] * len(documents))[at] = value
        aggregations = task.aggregation()
        return {
            metric_name(metric, filtered): outcome_of(every, aggregations.get(metric, mean))
            for (metric, filtered), every in values.items()
        }


def metric_name(metric: str, filtered: str) -> str:
    """lm-eval's name of a metric: `acc`, or with the filter of the answers, `exact_match,strict-match`."""
    return metric if filtered == "none" else f"{metric},{filtered}"


def _directions(task: HarnessTask) -> dict[str, bool]:
    """Tells whether more is better, of each metric under each filter, in lm-eval's order."""
    filters = [each.name for each in getattr(task, "_filters", [])] or ["none"]
    return {
        metric_name(metric, filtered): higher is not False
        for metric, higher in task.higher_is_better().items()
        for filtered in filters
    }


def _key(task: HarnessTask, documents: Sequence[Sequence[Instance]]) -> str:
    """A hash of all that judges answers: version and settings of the task, and its documents."""
    judged_by = repr((task.VERSION, task.dump_config(), [requests[0].doc for requests in documents]))
    # Functions without source are named by their places in memory.
    return hashlib.sha256(re.sub(r" at 0x[0-9a-fA-F]+", "", judged_by).encode()).hexdigest()
