"""GGUF control vectors, as llama.cpp (`--control-vector`) and repeng read and write them.

Layers. `direction.{N}` is added to the output of block N, counted from 0, at all positions: jtrace's layer N.

- llama.cpp: `common_control_vector_load_one` (common/common.cpp) puts `direction.N` at row N − 1 of a table, and
  `llama_adapter_cvec::apply` (src/llama-adapter.cpp) hands row il − 1 to block il, so that the shifts cancel; a model's
  graph calls `build_cvec` after the block's last residual sum. Block 0 has no row: a file with `direction.0` is
  refused whole. No other key is looked at, and only float32 vectors are taken.
- repeng 0.4.0: `ControlVector.directions[N]` is made of `hidden_states[N + 1]`, the output of block N, and
  `ControlModule` adds it to the output of `layers[N]`; `export_gguf` writes it as `direction.N`, with
  `controlvector.model_hint` (Hugging Face's model type) and `controlvector.layer_count` (how many directions).

Strength has no place in the file: strength × vector is written, and llama.cpp's `--control-vector-scaled` comes on top.
Metadata of jtrace are one more key, which others pass over. The format is read and written here and not by the package
`gguf`, whose reader never ends on a file of 52 bytes that announces a long array. Layout: the GGUF specification in
ggml's docs/gguf.md, versions 2 and 3, little-endian.
"""

import re
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jtrace.checkpoints.formats.mapped_file import quote
from jtrace.errors import InputError
from jtrace.probing.vector_formats.content import VECTORS_KEY, FileContent, LayerVector, layer_key
from jtrace.runtime.foreign import foreign
from jtrace.runtime.small_files import read_small

ARCHITECTURE = "controlvector"
METADATA = f"{VECTORS_KEY}.vectors"
MOST_ENTRIES = 100_000  # keys, tensors, texts of an array
_MAGIC, _VERSIONS, _ALIGNMENT = b"GGUF", (2, 3), 32
_MOST_ALIGNMENT = 1 << 20
_UINT32, _STRING, _ARRAY = 4, 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # of numbers, by type
_FLOAT32 = 0
_DIRECTION = re.compile(r"direction\.(0|[1-9]\d{0,3})", re.ASCII)


def encode(vector: LayerVector) -> bytes:
    """Makes a file of strength × vector.

    Raises:
        InputError: the vector is for layer 0, which llama.cpp does not steer.
    """
    rows = vector.scaled
    if 0 in rows:
        others = f"leave it out by --layers=1-{max(rows)}" if max(rows) else "write another format, as npz"
        raise InputError(f"a control vector of GGUF cannot hold layer 0, llama.cpp refuses the file; {others}")
    fields = [
        _field("general.architecture", ARCHITECTURE),
        _field(f"{ARCHITECTURE}.model_hint", vector.model_type or "unknown"),
        _text(f"{ARCHITECTURE}.layer_count") + struct.pack("<II", _UINT32, len(rows)),
        _field(METADATA, vector.about),
    ]
    tensors, data = [], b""
    for layer, row in rows.items():
        tensors.append(_text(f"direction.{layer}") + struct.pack("<IQIQ", 1, row.size, _FLOAT32, len(data)))
        data += _padded(row.astype("<f4").tobytes())
    head = _MAGIC + struct.pack("<IQQ", _VERSIONS[-1], len(tensors), len(fields))
    return _padded(head + b"".join(fields + tensors)) + data


def read(path: Path) -> FileContent:
    """Reads the directions of a file.

    Raises:
        MissingFileError, InputError: as `read_small`, or it is damaged or no control vector.
    """
    content = read_small(path)
    with foreign(path, "cannot be read as a control vector"):
        return _parse(content)


def _parse(content: bytes) -> FileContent:
    """The content of a file's bytes.

    Raises:
        ValueError: they are no control vector.
    """
    reader = _Reader(content)
    if reader.take(4) != _MAGIC:
        raise ValueError("it does not begin as GGUF")
    (version,) = reader.numbers("I")
    if version not in _VERSIONS:
        raise ValueError(f"version {version}, and not 2 or 3")
    tensors, keys = (reader.count(number) for number in reader.numbers("QQ"))
    fields = {reader.text(): reader.value() for _ in range(keys)}
    if fields.get("general.architecture") != ARCHITECTURE:
        raise ValueError(f"its architecture is {quote(str(fields.get('general.architecture')))}, not {ARCHITECTURE}")
    places = [reader.tensor() for _ in range(tensors)]
    alignment = fields.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or not 0 < alignment <= _MOST_ALIGNMENT:
        raise ValueError(f"an alignment of {quote(str(alignment))}")
    data = _Reader(content, -(-reader.at // alignment) * alignment)
    arrays = {layer_key(layer): data.floats(start, size) for layer, size, start in places}
    if len(arrays) < len(places):
        raise ValueError("two directions of one layer")
    about = fields.get(METADATA, "{}")
    return FileContent(arrays, str(about))


class _Reader:
    """A place in a file's bytes; what reaches beyond their end raises ValueError."""

    def __init__(self, content: bytes, at: int = 0) -> None:
        self.content = content
        self.at = at

    def take(self, size: int) -> bytes:
        if self.at + size > len(self.content):
            raise ValueError("it ends too early")
        self.at += size
        return self.content[self.at - size : self.at]

    def numbers(self, kinds: str) -> Sequence[int]:
        return struct.unpack(f"<{kinds}", self.take(struct.calcsize(f"<{kinds}")))

    def count(self, number: int) -> int:
        if number > MOST_ENTRIES:
            raise ValueError(f"it announces {number} entries")
        return number

    def text(self) -> str:
        return self.take(self.numbers("Q")[0]).decode("utf-8")

    def value(self) -> str | int | None:
        """A text, or a number of type uint32; None for others, which are passed over."""
        (kind,) = self.numbers("I")
        if kind == _STRING:
            return self.text()
        if kind == _UINT32:
            return self.numbers("I")[0]
        if kind == _ARRAY:
            kind, count = self.numbers("IQ")
            if kind == _STRING:
                for _ in range(self.count(count)):
                    self.text()
                return None
        else:
            count = 1
        if kind not in _SIZES:
            raise ValueError(f"a value of type {kind}")
        self.take(_SIZES[kind] * count)
        return None

    def tensor(self) -> tuple[int, int, int]:
        """Layer, number of values and first byte of a direction."""
        name = self.text()
        match = _DIRECTION.fullmatch(name)
        (axes,) = self.numbers("I")
        if match is None or axes != 1:
            raise ValueError(f"tensor {quote(name)} of {axes} axes is no direction of a layer")
        size, kind, start = self.numbers("QIQ")
        if kind != _FLOAT32:
            raise ValueError(f"tensor {quote(name)} is of type {kind}, and not float32")
        return int(match[1]), size, start

    def floats(self, start: int, size: int) -> np.ndarray:
        return np.frombuffer(_Reader(self.content, self.at + start).take(4 * size), "<f4").astype(np.float32)


def _field(key: str, text: str) -> bytes:
    return _text(key) + struct.pack("<I", _STRING) + _text(text)


def _text(text: str) -> bytes:
    content = text.encode("utf-8")
    return struct.pack("<Q", len(content)) + content


def _padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % _ALIGNMENT)
