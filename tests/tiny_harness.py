"""A tiny model that reads characters, and tasks of lm-eval as local files, in the hub's columns."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tests.conftest import GOLDENS

CHARACTERS = "abcdefghijklmnopqrstuvwxyz \n.:,-ABCDEQ0123456789"
WORDS = tuple("the cat sat on a mat and saw two dogs in an old red house by my sea".split())  # noqa: SIM905
TAKE_FIRST = {"function": "take_first"}


def write_model(folder: Path, context: int = 256, begins: bool = False, golden: str = "llama-full") -> Path:
    """A model of one token per character. Args: begins: whether its tokeniser puts a token before a text."""
    shutil.copytree(GOLDENS / golden, folder)
    (folder / "expected.npz").unlink()
    about = {"max_position_embeddings": context, "eos_token_id": 0}
    config = json.loads((folder / "config.json").read_text()) | about
    (folder / "config.json").write_text(json.dumps(config))
    vocabulary = {text: i for i, text in enumerate(["</s>", "<s>", "?", *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    named = {"unk_token": "?", "eos_token": "</s>", "pad_token": "</s>"}
    if begins:
        named["bos_token"] = "<s>"
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)
    if begins:
        fast.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
        )
    fast.save_pretrained(folder)
    return folder


def sentence(number: int, words: int = 5) -> str:
    return " ".join(WORDS[(number * 7 + 3 * i) % len(WORDS)] for i in range(words))


def write_task(folder: Path, name: str, rows: Sequence[Mapping[str, Any]], **settings: Any) -> Path:
    """A task whose documents are JSON lines beside its file; JSON is YAML too."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "metadata": {"version": 1.0},
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(config | settings))
    return path


def metrics(*names: str) -> list[dict[str, Any]]:
    return [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in names]


def mmlu_task(folder: Path, rows: int = 12, **settings: Any) -> Path:
    """Letters are scored; two worked examples, as lm-eval's `mmlu_…` has five."""
    questions = [
        {"question": f"{sentence(i)}", "choices": [sentence(i + j, 2) for j in range(4)], "answer": i % 4}
        for i in range(rows)
    ]
    listed = "".join(f"{letter}. {{{{choices[{i}]}}}}\n" for i, letter in enumerate("ABCD"))
    return write_task(
        folder,
        "tiny_mmlu",
        questions,
        **{
            "fewshot_config": {"sampler": "first_n", "samples": questions[:2]},
            "num_fewshot": 2,
            "description": "the following are questions about cats.\n\n",
            "output_type": "multiple_choice",
            "doc_to_text": f"{{{{question.strip()}}}}\n{listed}A:",
            "doc_to_choice": ["A", "B", "C", "D"],
            "doc_to_target": "answer",
            "metric_list": metrics("acc"),
        }
        | settings,
    )


def arc_task(folder: Path, rows: int = 12, **settings: Any) -> Path:
    """Whole answers are scored; some have one more."""
    questions = [
        {
            "id": f"q{i}",
            "question": sentence(i, 4),
            "choices": {
                "text": [sentence(i + j, 1 + (i + j) % 4) for j in range(3 + i % 2)],
                "label": list("ABCD")[: 3 + i % 2],
            },
            "answerKey": "ABC"[i % 3],
        }
        for i in range(rows)
    ]
    return write_task(
        folder,
        "tiny_arc",
        questions,
        **{
            "output_type": "multiple_choice",
            "doc_to_text": "Q: {{question}}\nA:",
            "doc_to_target": "{{choices.label.index(answerKey)}}",
            "doc_to_choice": "{{choices.text}}",
            "metric_list": metrics("acc", "acc_norm"),
        }
        | settings,
    )


def generation_task(folder: Path, rows: int = 8, **settings: Any) -> Path:
    """Completions up to a text; their first letter is right or wrong."""
    return write_task(
        folder,
        "tiny_generation",
        [{"question": sentence(i, 3 + i), "answer": "abcd"[i % 4]} for i in range(rows)],
        **{
            "output_type": "generate_until",
            "doc_to_text": "Q: {{question}}\nA:",
            "doc_to_target": "{{answer}}",
            "generation_kwargs": {"until": ["e", "q1"], "max_gen_toks": 40, "do_sample": False},
            "filter_list": [
                {
                    "name": "first",
                    "filter": [{"function": "regex", "regex_pattern": "([a-z])"}, TAKE_FIRST],
                },
                {"name": "whole", "filter": [TAKE_FIRST]},
            ],
            "metric_list": metrics("exact_match"),
        }
        | settings,
    )


def perplexity_task(folder: Path, rows: int = 5, **settings: Any) -> Path:
    """Documents, the longest of several windows, as lm-eval's `wikitext`."""
    return write_task(
        folder,
        "tiny_wikitext",
        [{"page": sentence(i, 4 + 40 * i)} for i in range(rows)],
        **{
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{page}}",
            "metric_list": [{"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
        }
        | settings,
    )


def evaluated(model: Any, tasks: Sequence[str]) -> dict[str, Any]:
    """What lm-eval makes of a model, without its own tasks and what it finds out about the machine, which take long."""
    from lm_eval import evaluator
    from lm_eval.tasks import TaskManager

    with mock.patch.object(evaluator, "add_env_info"), mock.patch.object(evaluator, "get_git_commit_hash"):
        manager = TaskManager(include_defaults=False)
        found = evaluator.simple_evaluate(model, tasks=list(tasks), bootstrap_iters=0, task_manager=manager)
    assert found is not None
    return found
