"""Kinds of input from others: for each a sound file, how it is damaged, and what reads it."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save

from jtrace.checkpoints.content import read_content
from jtrace.checkpoints.formats.weights import SafetensorsFile, TorchFile, read_index
from jtrace.checkpoints.load import check_folder, load_params, params_bytes, read_config_json
from jtrace.checkpoints.orbax import check_stored, load_store, save_store
from jtrace.checkpoints.pretraining_run import kept_steps, tokens_by_step
from jtrace.checkpoints.roberta import read_classifier_config
from jtrace.data.corpus.readers import read_documents
from jtrace.data.corpus.token_store import read_tokens
from jtrace.data.statement_files import read_file
from jtrace.data.statement_tokens import statement_tokens
from jtrace.data.tokenizer import class_disagreement, encode, read_tokenizer
from jtrace.dynamics.trajectory import trajectories
from jtrace.errors import InputError
from jtrace.evaluation.registry import _text_of
from jtrace.evaluation.sources import read_capability
from jtrace.hub.files import parse_refs, parse_revision, shards
from jtrace.inference.language_model import _stop_tokens
from jtrace.models.families import FAMILIES, read_model_config
from jtrace.pretraining.directory import check_config, check_documents
from jtrace.probing.vector_export import write_vector
from jtrace.probing.vector_files import VECTORS_KEY, ModelFacts, Vectors, read_vectors
from jtrace.probing.vector_formats import FORMATS
from jtrace.runs import log
from jtrace.runs.completion_files import read_completions
from jtrace.runs.dynamics_files import COLUMNS, TEXTS
from jtrace.runs.run_directory import RunDirectory
from jtrace.runs.score_files import SCORE_SCHEMA
from jtrace.runs.steering_files import SteeringTable
from jtrace.runtime.small_files import parse_json
from jtrace.sweep.eviction import _read as read_note
from tests.conftest import GOLDENS, letter_tokenizer
from tests.fuzz import mutations
from tests.fuzz.mutations import Mutation
from tests.tables import REF, metrics_table, steering_table, write_run, write_traced
from tests.tiny_chat import write_set, write_vectors

TEMPLATE = (
    b"{% for message in messages %}{{ message['role'] }} {{ message['content'] | trim }}\n{% endfor %}"
    b"{% if add_generation_prompt %}{{ bos_token }}assistant{% endif %}"
)
UNREAD = ("commit_success.txt", "orbax.checkpoint")
Reader = Callable[[Path], object]

# Cases for one of a kind that takes less than a millisecond: no kind takes most of the time, and each but the one that
# starts processes has a thousand of a million.
TABLE = 0.5  # 2 ms, as pyarrow takes
CURVES = 0.3  # 4 ms: a table is read and worked on
CONFIG = 0.15  # 5 ms: shapes of a model are traced where it is taken
FOLDER = 0.1  # 7 ms: tensors are held against the shapes
STORE = 0.05  # 80 ms: Orbax
CHILD = 0.01  # 1 s: a process is started


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes:
        file: its path in a folder.
        content: a sound one.
        read: reads the folder, and refuses by `InputError` alone.
        others: that lie beside it, by path.
        named: whether a refusal names the file or its folder.
        share: cases for one of a kind that is read in less than a millisecond.
        by_command: whether it is read by `tests.fuzz.run` alone, not in the tests.
    """

    file: str
    content: bytes
    damage: Mutation
    read: Reader
    others: Mapping[str, bytes] = field(default_factory=dict)
    named: bool = True
    share: float = 1.0
    by_command: bool = False


def make_kinds(place: Path) -> dict[str, Kind]:
    """All kinds, by name.

    Args:
        place: an empty folder to make sound files in.
    """
    return {
        **_configs(),
        **_tokenizers(place / "tokenizer"),
        **_weights(place),
        **_orbax(place / "store"),
        **_run_files(place / "run"),
        **_data(place),
        **_answers(),
    }


# Checkpoints


def _configs() -> dict[str, Kind]:
    def read(folder: Path) -> None:
        config, _ = read_model_config(read_config_json(folder), str(folder / "config.json"))
        params_bytes(config, jnp.float32)

    kinds = {}
    for family in FAMILIES:
        for at, path in enumerate(sorted(GOLDENS.glob(f"{family}-*/config.json"))[:3]):
            kinds[f"config {family} {at}"] = Kind(
                "config.json", path.read_bytes(), mutations.damaged_json, read, share=CONFIG
            )
    classifier = {
        "model_type": "roberta", "architectures": ["RobertaForSequenceClassification"], "vocab_size": 100,
        "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32,
        "max_position_embeddings": 66, "type_vocab_size": 1, "id2label": {"0": "a", "1": "b"}, "pad_token_id": 1,
    }  # fmt: skip

    def read_classifier(folder: Path) -> None:
        read_classifier_config(read_config_json(folder), str(folder / "config.json"))

    kinds["config classifier"] = Kind(
        "config.json", json.dumps(classifier).encode(), mutations.damaged_json, read_classifier
    )
    return kinds


def _tokenizers(place: Path) -> dict[str, Kind]:
    place.mkdir()
    letter_tokenizer(place)
    files = {path.name: path.read_bytes() for path in place.iterdir()}

    def read(folder: Path) -> None:
        encode(read_tokenizer(folder), ["a cat", "", "é\U0001f642"])

    def read_whole(folder: Path) -> None:
        read(folder)
        class_disagreement(folder)

    def read_conversation(folder: Path) -> None:
        chats = [[{"role": "user", "content": "a cat"}, {"role": "assistant", "content": "b"}]]
        statement_tokens(read_tokenizer(folder), chats, 512, str(folder), lambda row: str(folder))

    def stop(folder: Path) -> None:
        class Words:
            eos_token_id = 1

        words: Any = Words()
        _stop_tokens(folder, {"eos_token_id": 2}, words)

    bpe = json.loads(files["tokenizer.json"])
    bpe["model"] = {
        "type": "BPE", "dropout": None, "unk_token": "?", "continuing_subword_prefix": None, "end_of_word_suffix": None,
        "fuse_unk": False, "byte_fallback": True, "ignore_merges": False,
        "vocab": {letter: at for at, letter in enumerate([*"?abct ", "ca", "cat"])},
        "merges": [["c", "a"], ["ca", "t"]],
    }  # fmt: skip
    bpe["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Prepend", "prepend": "▁"}]}
    bpe["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "?", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {"?": {"id": "?", "ids": [0], "tokens": ["?"]}},
    }  # fmt: skip
    named = {name: content for name, content in files.items() if name != "tokenizer.json"}
    config = json.loads(files["tokenizer_config.json"]) | {"model_max_length": 512, "chat_template": "{{ messages }}"}
    return {
        "tokenizer.json words": Kind("tokenizer.json", files["tokenizer.json"], mutations.damaged_json, read, named),
        "tokenizer.json merges": Kind(
            "tokenizer.json", json.dumps(bpe).encode(), mutations.damaged_json, read, named, share=TABLE
        ),
        "tokenizer_config.json": Kind(
            "tokenizer_config.json",
            json.dumps(config).encode(),
            mutations.damaged_json,
            read_whole,
            files,
            share=CURVES,
        ),
        "generation_config.json": Kind(
            "generation_config.json", b'{"eos_token_id": [1, 2], "temperature": 0.5}', mutations.damaged_json, stop
        ),
        "chat template": Kind(
            "chat_template.jinja",
            TEMPLATE,
            mutations.damaged_template,
            read_conversation,
            files,
            share=CHILD,
            by_command=True,
        ),
    }


def _orbax(place: Path) -> dict[str, Kind]:
    """The files of an Orbax checkpoint that are read; those that are no JSON are its index and its arrays."""
    source = GOLDENS / "llama-full"
    save_store(place, read_config_json(source), load_params(source, jnp.float32)[1])
    files = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}

    def read(folder: Path) -> None:
        check_stored(folder, *read_model_config(read_config_json(folder), str(folder / "config.json")))
        load_store(folder, jnp.float32)

    kinds = {}
    for name in sorted(name for name in files if name.startswith("params/") and Path(name).name not in UNREAD):
        is_json = files[name].lstrip().startswith(b"{")
        damage = mutations.damaged_json if is_json else mutations.damaged_bytes
        part = "arrays" if len(files[name]) == max(map(len, files.values())) else Path(name).parent.name
        kinds[f"orbax {name if is_json else part}"] = Kind(
            name, files[name], damage, read, files, share=STORE, by_command=True
        )
    return kinds


def _weights(place: Path) -> dict[str, Kind]:
    arrays = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "b.c": np.ones(3, np.int64), "e": np.ones(0, bool)}
    golden = {name: (GOLDENS / "llama-full" / name).read_bytes() for name in ("config.json", "model.safetensors")}

    def read_file(opener: Callable[[Path], Any], name: str) -> Reader:
        def read(folder: Path) -> None:
            with opener(folder / name) as file:
                for tensor in file.tensors:
                    file.read(tensor).tobytes()
                    file.sample(tensor)

        return read

    def read_folder(folder: Path) -> None:
        check_folder(folder, *read_model_config(read_config_json(folder), str(folder / "config.json")))
        read_content(folder)

    index = {"metadata": {"total_size": 3}, "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}
    parts = {"m-1.safetensors": save({"a": arrays["a"]}), "m-2.safetensors": save({"b": arrays["a"]})}
    write_vectors(place / "vectors.safetensors")
    probes = {
        "set": np.ones((4, 2, 5), np.float32), "set/folds": np.array([[0, 1, 1], [1, 0, 0]], np.int16),
        "set/labels": np.array([0, 1, 1], np.int8),
    }  # fmt: skip
    how = {VECTORS_KEY: json.dumps({"layers": [0, 1], "seed": 0})}
    run_file = "probes/a.safetensors"
    damage = mutations.damaged_safetensors
    return {
        "safetensors": Kind(
            "m.safetensors", save(arrays, {"format": "pt"}), damage, read_file(SafetensorsFile, "m.safetensors")
        ),
        "checkpoint": Kind("model.safetensors", golden["model.safetensors"], damage, read_folder, golden, share=FOLDER),
        "torch": Kind("m.bin", _torch_file(), mutations.damaged_torch, read_file(TorchFile, "m.bin")),
        "index": Kind(
            "model.safetensors.index.json", json.dumps(index).encode(), mutations.damaged_json,
            lambda folder: read_index(folder / "model.safetensors.index.json"), parts,
        ),
        "index of a hub": Kind(
            "model.safetensors.index.json", json.dumps(index).encode(), mutations.damaged_json,
            lambda folder: shards(folder / "model.safetensors.index.json", str(folder), parts), parts,
        ),
        "vectors": Kind(
            "v.safetensors", (place / "vectors.safetensors").read_bytes(), damage,
            lambda folder: read_vectors(folder / "v.safetensors"),
        ),
        **_exported_vectors(place),
        "probes": Kind(run_file, save(probes, how), damage, lambda folder: RunDirectory(folder).read_probes("a")),
        "activations": Kind(
            "activations/a/set.safetensors", save({"activations": np.ones((2, 3, 4), np.float32)}), damage,
            lambda folder: RunDirectory(folder).read_activations("a", "set"),
        ),
    }  # fmt: skip


def _exported_vectors(place: Path) -> dict[str, Kind]:
    damage: dict[str, Mutation] = {
        "gguf": mutations.damaged_bytes,
        "safetensors": mutations.damaged_safetensors,
        "lm-eval": mutations.damaged_torch,
        "npz": mutations.damaged_torch,
    }
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    vectors = Vectors("a", "mass_mean", {"set": rows}, (1, 2), {"set": True}, ModelFacts("llama", 4, 3))
    kinds = {}
    for name, how in FORMATS.items():
        path = place / f"exported{how.suffixes[0]}"
        write_vector(path, vectors)

        def read(folder: Path, file: str = path.name) -> None:
            read_vectors(folder / file)

        kinds[f"vectors of {name}"] = Kind(path.name, path.read_bytes(), damage[name], read)
    return kinds


def _torch_file() -> bytes:
    """A dict of two tensors of four floats, as torch writes it."""

    def tensor(name: str, key: str) -> bytes:
        head = b"X" + len(name).to_bytes(4, "little") + name.encode() + b"ctorch._utils\n_rebuild_tensor_v2\n("
        storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00" + key.encode()
        return (
            head
            + storage
            + b"X\x03\x00\x00\x00cpuK\x04tQK\x00K\x02K\x02\x86K\x02K\x01\x86\x89ccollections\nOrderedDict\n)RtR"
        )

    pickle = b"\x80\x02}(" + tensor("a", "0") + tensor("b.c", "1") + b"u."
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("m/data.pkl", pickle)
        archive.writestr("m/byteorder", "little")
        for key in "01":
            archive.writestr(f"m/data/{key}", np.arange(4, dtype=np.float32).tobytes())
    return made.getvalue()


# Runs


def _run_files(place: Path) -> dict[str, Kind]:
    run = write_run(place, metrics_table([1, 10, 100, 1000]), id="0123456789abcdef", steering_commands=[])
    record = (place / "run.json").read_bytes()
    for path in (place / "metrics").iterdir():
        path.unlink()
    write_traced(run)
    table = run.table_path(REF)
    about = pq.read_table(table).schema.metadata
    several = pa.Table.from_pandas(metrics_table([1, 10]), schema=pq.read_schema(table), preserve_index=False)
    span = {"start": 1.0, "end": 2.5}
    passage = {
        "checkpoint": "a", "time": "2026-01-01T00:00:00+00:00", "process": "host:1:2", "fetch": None, "read": span,
        "extract": span, "statistics": span, "behaviour": None, "fetched_bytes": 1, "read_bytes": 2, "tokens": 3,
        "memory_bytes": 4, "disk_bytes": 5,
        "best": {"dataset": "a", "layer": 1, "protocol": "paper", "probe_accuracy": 0.5},
    }  # fmt: skip
    note = {"checkpoint": "a", "model": "a", "revision": "", "source": "/a", "error": "b", "time": "2026"}
    unit = SteeringTable(Path("steering"), ("a", "b", "c", "d"), {})
    steering = pa.Table.from_pandas(steering_table(["a"], strengths=(-1.0, 0.0)), preserve_index=False)
    said = {"layer": 1, "strength": 0.5, "index": 3, "tokens": [1, 2], "text": "a"}

    def read_record(folder: Path) -> None:
        folder_run = RunDirectory(folder)
        folder_run.record()
        assert "/" not in folder_run.identity

    def read_metrics(folder: Path) -> None:
        folder_run = RunDirectory(folder)
        folder_run.is_damaged(REF)
        metrics = folder_run.read_metrics()
        trajectories(metrics)
        folder_run.audit()
        folder_run.warnings()

    def read_log(folder: Path) -> None:
        passages = log.read(folder / "log.jsonl")
        if passages:
            log.overlap(passages)
            "".join(map(str, passages))

    def here(folder: Path) -> SteeringTable:
        return SteeringTable(folder / "steering", unit.names, unit.settings)

    damaged = mutations.damaged_parquet
    dynamics = {
        f"dynamics {name}": Kind(
            f"dynamics/{name}.parquet",
            _parquet(pa.table({column: ["a", "b"] if column in TEXTS else [1.0, 2.0] for column in columns})),
            damaged,
            lambda folder, name=name: RunDirectory(folder).read_dynamics(name),
            share=TABLE,
        )
        for name, columns in COLUMNS.items()
    }
    return {
        "run.json": Kind("run.json", record, mutations.damaged_json, read_record),
        "failures.jsonl": Kind(
            "failures.jsonl", _lines(note, note | {"checkpoint": "b"}), mutations.damaged_jsonl,
            lambda folder: RunDirectory(folder).failures(),
        ),
        "log.jsonl": Kind("log.jsonl", _lines(passage, passage, passage), mutations.damaged_jsonl, read_log),
        "completions": Kind(
            f"completions/{unit.completions_path.name}", _lines(said, said | {"index": 4}), mutations.damaged_jsonl,
            lambda folder: here(folder).read_completions(),
        ),
        "metrics": Kind(f"metrics/{table.name}", table.read_bytes(), damaged, read_metrics, share=CURVES),
        "metrics of two": Kind(
            f"metrics/{table.name}", _parquet(several.replace_schema_metadata(about)), damaged, read_metrics,
            share=CURVES,
        ),
        "projections": Kind(
            "projections/a.parquet", run.projections_path(REF.name).read_bytes(), damaged,
            lambda folder: RunDirectory(folder).read_projections("a"), share=TABLE,
        ),
        "scores": Kind(
            "scores/a.parquet",
            _parquet(pa.table([["mine"] * 2, ["sound"] * 2, [1, 1], [0, 1], [0, 1], [-1.5, 0.5]], schema=SCORE_SCHEMA)),
            damaged, lambda folder: RunDirectory(folder).read_scores("a"), share=TABLE,
        ),
        "completions shown": Kind(
            "completions/a.jsonl", _lines(said, said | {"index": 4}), mutations.damaged_jsonl,
            lambda folder: read_completions(folder, 1),
        ),
        "steering": Kind(
            "steering/a.parquet", _parquet(steering), damaged, lambda folder: RunDirectory(folder).read_steering(),
            share=CURVES,
        ),
        "steering unit": Kind(
            f"steering/{unit.table_path.name}", _parquet(steering), damaged, lambda folder: here(folder).read_table(),
            share=TABLE,
        ),
        **dynamics,
        "note of downloads": Kind(
            "note.json", json.dumps({"repo": "a/b", "commit": "0" * 40, "files": {"a": "0" * 64}}).encode(),
            mutations.damaged_json, lambda folder: read_note(folder / "note.json"),
        ),
    }  # fmt: skip


# Data


def _data(place: Path) -> dict[str, Kind]:
    statements = write_set(place / "set.csv").read_bytes()
    rows = [{"statement": f"text {i}", "label": i % 2, "group": i // 2} for i in range(8)]
    asked = [{"question": "q", "choices": ["a", "b"], "answer": i % 2, "subject": "s"} for i in range(4)]
    csv = "question,choices,answer,subject\n" + '"q","[""a"", ""b""]",1,s\n' * 3
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    training = {"config": {"rows": 1, "text": ["a"]}, "documents": {"count": 3}, "time": "2026"}

    def capability(folder: Path) -> None:
        read_capability("mmlu", folder, None)

    def documents(name: str) -> Reader:
        return lambda folder: list(read_documents([str(folder / name)]))

    def read_training(folder: Path) -> None:
        check_config(folder, training["config"])  # type: ignore[arg-type]
        check_documents(folder, training["documents"])  # type: ignore[arg-type]

    def read_training_log(folder: Path) -> None:
        tokens_by_step(folder)
        kept_steps(folder)

    store = {"ids.bin": np.arange(6, dtype=np.uint16).tobytes(), "offsets.bin": np.array([0, 2, 6]).tobytes()}
    return {
        "statements csv": Kind("s.csv", statements, mutations.damaged_text, lambda f: read_file("s", str(f / "s.csv"))),
        "statements jsonl": Kind(
            "s.jsonl", _lines(*rows), mutations.damaged_jsonl, lambda f: read_file("s", str(f / "s.jsonl"))
        ),
        "statements parquet": Kind(
            "s.parquet", _parquet(pa.Table.from_pylist(rows)), mutations.damaged_parquet,
            lambda f: read_file("s", str(f / "s.parquet")), share=TABLE,
        ),
        "task csv": Kind("mmlu_test.csv", csv.encode(), mutations.damaged_text, capability),
        "task jsonl": Kind("mmlu_test.jsonl", _lines(*asked), mutations.damaged_jsonl, capability),
        "task json": Kind("mmlu_test.json", json.dumps(asked).encode(), mutations.damaged_json, capability),
        "task parquet": Kind(
            "mmlu_test.parquet", _parquet(pa.Table.from_pylist(asked)), mutations.damaged_parquet, capability,
            share=TABLE,
        ),
        "text": Kind("t.txt", b"one\ntwo\n\nthree\n", mutations.damaged_text, documents("t.txt")),
        "text jsonl": Kind("t.jsonl", _lines({"text": "a"}, chat), mutations.damaged_jsonl, documents("t.jsonl")),
        "text to predict": Kind("p.txt", b"one two\n", mutations.damaged_text, lambda f: _text_of(f / "p.txt")),
        "pretrain.json": Kind("pretrain.json", json.dumps(training).encode(), mutations.damaged_json, read_training),
        "pretraining log": Kind(
            "log.jsonl", _lines({"step": 1, "tokens": 5, "loss": 2.0}, {"step": 2, "tokens": 9, "loss": 1.0}),
            mutations.damaged_jsonl, read_training_log,
        ),
        "tokens.json": Kind("tokens.json", b'{"dtype": "uint16"}', mutations.damaged_json, read_tokens, store),
        "offsets": Kind(
            "offsets.bin", store["offsets.bin"], mutations.damaged_bytes, read_tokens,
            store | {"tokens.json": b'{"dtype": "uint16"}'},
        ),
    }  # fmt: skip


def _answers() -> dict[str, Kind]:
    """An answer of a hub, read from a file here."""
    answer = {
        "sha": "a" * 40,
        "siblings": [
            {"rfilename": "config.json", "size": 10, "blobId": "b" * 40},
            {"rfilename": "model.safetensors", "size": 10**10, "blobId": "c" * 40, "lfs": {"sha256": "d" * 64}},
        ],
    }
    refs = {"branches": [{"name": "main"}, {"name": "step1"}], "tags": [{"name": "v1"}]}

    def parsed(parse: Callable[[Any, str], object]) -> Reader:
        def read(folder: Path) -> None:
            try:
                value = parse_json((folder / "answer").read_bytes())
            except ValueError as error:
                raise InputError(f"{folder}: {error}") from None
            parse(value, str(folder))

        return read

    return {
        "answer revision": Kind("answer", json.dumps(answer).encode(), mutations.damaged_json, parsed(parse_revision)),
        "answer refs": Kind("answer", json.dumps(refs).encode(), mutations.damaged_json, parsed(parse_refs)),
    }


def _lines(*values: object) -> bytes:
    return "".join(json.dumps(value) + "\n" for value in values).encode()


def _parquet(table: pa.Table) -> bytes:
    made = io.BytesIO()
    pq.write_table(table, made)
    return made.getvalue()
