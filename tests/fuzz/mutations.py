"""Damage of every kind, drawn from a seed: of bytes, of text, of JSON trees, and of formats by their parts."""

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Mutation = Callable[[bytes, Random], bytes]

WHOLE = (0, 1, -1, 2, 64, 255, 2**15, 2**16, 2**24, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**400)
REAL = (0.0, -0.0, 0.5, -1.5, 1e-320, 1e30, 1e308, -1e308)
TEXTS = (
    *("", " ", "a", "0", "true", "null", "NaN", "../../../x", "/etc/passwd", "a/b", "a\0b", "\x1b[2J", "\ud800"),
    *("\u2028", "\ufeff", "é", "a" * 5000, "{}", "[", "%s%n", "{0.__class__}", "ß\n\r\t", "\U0001f642", "-1", "1e999"),
)
# Texts that take a value's place in JSON, which json.dumps would not write.
RAW = (
    *("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "0x10", "01", "nul", "'a'", "9" * 5000, "{", "]", ""),
    *("[" * 3000, "[" * 3000 + "]" * 3000, '{"a":' * 3000 + "1" + "}" * 3000, "[" * 60 + "]" * 60, '{"a":1,"a":2}'),
    *('"\\ud800"', '"\\u0000"', "[]", "{}", "null", "true", "[[]]", '{"": {}}'),
)
LONGEST_LINE = 1 << 20  # bytes of one that is made longer, as often as that happens
PLACE = "\uf8ffplace\uf8ff"


def damaged_bytes(content: bytes, random: Random) -> bytes:
    """A few changes to bytes, wherever they fall."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((1, 2, 4, 8, 64, 1024)))
        match random.randrange(8):
            case 0 if at < len(data):
                data[at] ^= 1 << random.randrange(8)
            case 1 if at < len(data):
                data[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
            case 2:
                del data[at:end]
            case 3:
                data[at:at] = data[at:end] * random.choice((1, 2, 50))
            case 4:
                del data[at:]
            case 5:
                number = random.choice(WHOLE[:-1]) % 2**64
                data[at : at + 8] = number.to_bytes(8, random.choice(("little", "big")))
            case 6:
                data[at:at] = random.randbytes(random.choice((1, 4, 100)))
            case _:
                other = random.randrange(len(data) + 1)
                data[at:end] = data[other : other + end - at]
    return bytes(data)


def damaged_text(content: bytes, random: Random) -> bytes:
    """Lines doubled, dropped, joined or filled with odd texts; or bytes damaged."""
    if random.random() < 0.3:
        return damaged_bytes(content, random)
    lines = content.split(b"\n")
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(lines))
        odd = random.choice(TEXTS).encode("utf-8", "surrogatepass")
        match random.randrange(6):
            case 0:
                lines.insert(at, lines[at])
            case 1:
                lines[at] = odd
            case 2:
                cells = lines[at].split(b",")
                cells[random.randrange(len(cells))] = random.choice((odd, b'"' + odd, b'"' + odd + b'"'))
                lines[at] = b",".join(cells)
            case 3:
                lines[at] = lines[at] + random.choice((b"\r", b"\0", b'"', b",", b",,", b"\xff", b"\xef\xbb\xbf")) + odd
            case 4 if len(lines) > 1:
                del lines[at]
            case _:
                lines[at] = (lines[at] * random.choice((2, 100)))[:LONGEST_LINE]
    return b"\n".join(lines)


def damaged_tree(value: Any, random: Random) -> Any:
    """A JSON value with one part exchanged, dropped, doubled, renamed or wrapped."""
    if isinstance(value, dict | list) and value and random.random() < 0.85:
        copy = dict(value) if isinstance(value, dict) else list(value)
        key = random.choice(list(copy)) if isinstance(copy, dict) else random.randrange(len(copy))
        match random.randrange(10):
            case 0:
                del copy[key]  # type: ignore[arg-type]
            case 1 if isinstance(copy, dict):
                copy[random.choice(TEXTS)] = copy.pop(key)  # type: ignore[arg-type]
            case 1 if isinstance(copy, list):
                copy *= random.choice((2, 20))
            case 2:
                other = random.choice(list(copy)) if isinstance(copy, dict) else random.randrange(len(copy))
                copy[key] = copy[other]  # type: ignore[index]
            case _:
                copy[key] = damaged_tree(copy[key], random)  # type: ignore[index]
        return copy
    match random.randrange(8):
        case 0:
            return random.choice(WHOLE)
        case 1:
            return random.choice(REAL)
        case 2:
            return random.choice(TEXTS)
        case 3:
            return random.choice((None, True, False, [], {}, [value], {"a": value}, [value] * 5))
        case 4 if isinstance(value, int | float):
            return random.choice((-value, value * 2, value + 1, value * 10**9, str(value), [value], bool(value)))
        case 4 if isinstance(value, str):
            return random.choice(
                (value * 2, value[: len(value) // 2], value.upper(), value + "\n", [value], len(value))
            )
        case _:
            return PLACE  # for raw text


def damaged_json(content: bytes, random: Random) -> bytes:
    """A JSON text whose tree is damaged, or that is none any more."""
    if random.random() < 0.1:
        return damaged_bytes(content, random)
    try:
        value = json.loads(content)
    except ValueError:
        return damaged_bytes(content, random)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        value = damaged_tree(value, random)
    text = json.dumps(value, ensure_ascii=random.random() < 0.5)
    while (quoted := _quoted(text)) is not None:
        text = text.replace(quoted, random.choice(RAW), 1)
    return text.encode("utf-8", "surrogatepass")


def _quoted(text: str) -> str | None:
    return next((form for form in (json.dumps(PLACE), json.dumps(PLACE, ensure_ascii=False)) if form in text), None)


def damaged_jsonl(content: bytes, random: Random) -> bytes:
    """Lines of JSON, one of them damaged as JSON, or all as text."""
    lines = content.split(b"\n")
    if random.random() < 0.3 or not lines:
        return damaged_text(content, random)
    at = random.randrange(len(lines))
    lines[at] = damaged_json(lines[at], random).replace(b"\n", b" ")
    return b"\n".join(lines)


def damaged_safetensors(content: bytes, random: Random) -> bytes:
    """The header damaged as JSON, its length changed, or bytes damaged."""
    size = int.from_bytes(content[:8], "little")
    header, body = content[8 : 8 + size], content[8 + size :]
    match random.randrange(6):
        case 0:
            return damaged_bytes(content, random)
        case 1:
            length = random.choice((size + 1, size - 1, 0, 2**63, 2**64 - 1, len(content), 17 << 20, 95 << 20))
            return (length % 2**64).to_bytes(8, "little") + header + body
        case 2:
            return content[:8] + header + damaged_bytes(body, random)
    header = damaged_header(header, random)
    return len(header).to_bytes(8, "little") + header + body


def damaged_header(header: bytes, random: Random) -> bytes:
    """A safetensors header; what is told in its metadata is JSON itself."""
    try:
        values = json.loads(header)
        about = values["__metadata__"]
        key = random.choice(list(about))
    except (ValueError, KeyError, IndexError, TypeError):
        return damaged_json(header, random)
    if random.random() < 0.5:
        return damaged_json(header, random)
    about[key] = damaged_json(about[key].encode(), random).decode("utf-8", "replace")
    return json.dumps(values).encode()


# Parts of a chat template that reach for what they may not have, never end, or take memory; and that are none.
TEMPLATE_PARTS = (
    *("{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ self._TemplateReference__context }}", "{% break %}"),
    "{{ cycler.__init__.__globals__.os.system('touch executed.txt') }}",
    *("{{ lipsum.__globals__ }}", "{% include '/etc/passwd' %}", "{% import 'os' as os %}", "{% set messages = 1 %}"),
    *("{{ 'a' * 8000000000 }}", "{{ messages * 100000000 }}", "{{ 10 ** 10 ** 9 }}", "{{ range(10 ** 9) | list }}"),
    "{% for a in range(100000) %}{% for b in range(100000) %}{{ a * b }}{% endfor %}{% endfor %}",
    *("{{ '%9999999999d' % 1 }}", "{{ ' ' | center(9999999999) }}", "{{ " + "(" * 3000, "{% if %}", "{%", "}}"),
    *("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "{{ raise_exception('\x1b[2J\n' * 1000) }}", "{{ 1 / 0 }}"),
    *("{{ messages[0].content.format(messages) }}", "{{ strftime_now('%9999d') }}", "{{ none.a.b }}"),
    *("{% generation %}a{% endgeneration %}", "{{ undefined | tojson }}"),
)


def damaged_template(content: bytes, random: Random) -> bytes:
    """A chat template with parts of others, or damaged as text."""
    if random.random() < 0.3:
        return damaged_text(content, random)
    pieces = content.decode("utf-8", "replace").split("{")
    for _ in range(random.choice((1, 1, 2))):
        pieces.insert(random.randrange(len(pieces) + 1), random.choice(TEMPLATE_PARTS).removeprefix("{"))
    return "{".join(pieces).encode("utf-8", "surrogatepass")


# Opcodes that run something where a pickle is loaded, and that take memory.
PAYLOADS = (
    b"cos\nsystem\nX\x10\x00\x00\x00touch executed.txt\x85R0",
    b"cbuiltins\nexec\nX\x1f\x00\x00\x00open('executed.txt', 'w').close()\x85R0",
    b"cposix\nsystem\n\x8c\x12touch executed.txt\x85R0",
    b"r\xff\xff\xff\x7f",
    b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"(" * 1000,
    b")\x81",
    b"2" * 100,
    b"}" + b"2s" * 50,
    b"\x8b\xff\xff\xff\x7f",
)


def damaged_torch(content: bytes, random: Random) -> bytes:
    """A record of the archive damaged or exchanged, most often the pickle; or bytes of the archive."""
    if random.random() < 0.35:
        return damaged_bytes(content, random)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        records = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    pickle = next((i for i, (name, _) in enumerate(records) if name.endswith("data.pkl")), 0)
    at = pickle if random.random() < 0.8 else random.randrange(len(records))
    name, data = records[at]
    match random.randrange(6):
        case 0:
            del records[at]
        case 1:
            records.append((random.choice((name, "../x", "a/" * 50 + "data.pkl", "x/data.pkl")), data))
        case 2:
            place = random.randrange(2, len(data)) if len(data) > 2 else 0
            records[at] = name, data[:place] + random.choice(PAYLOADS) + data[place:]
        case 3:
            records[at] = name, data[:-1] + random.choice(PAYLOADS) + b"."
        case _:
            records[at] = name, damaged_bytes(data, random)
    made = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if random.random() < 0.05 else zipfile.ZIP_STORED
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, data in records:
            with archive.open(zipfile.ZipInfo(name[:1000]), "w") as file:
                file.write(data)
    return made.getvalue()


def damaged_parquet(content: bytes, random: Random) -> bytes:
    """A column dropped, doubled, of another type or of odd values; no rows; metadata damaged; or bytes damaged."""
    if random.random() < 0.4:
        return damaged_bytes(content, random)
    table = pq.read_table(io.BytesIO(content))
    for _ in range(random.choice((1, 1, 2))):
        table = _damaged_table(table, random)
    made = io.BytesIO()
    pq.write_table(table, made)
    return made.getvalue()


def _damaged_table(table: pa.Table, random: Random) -> pa.Table:
    if not table.num_columns:
        return table
    at, rows = random.randrange(table.num_columns), table.num_rows
    name = table.column_names[at]
    match random.randrange(8):
        case 0:
            return table.remove_column(at)
        case 1:
            return table.append_column(random.choice((name, "a", "label", "")), table.column(at))
        case 2:
            return table.slice(0, random.choice((0, 1)))
        case 3:
            metadata = dict(table.schema.metadata or {b"jtrace.warnings": b"[]"})
            key = random.choice(list(metadata))
            metadata[key] = damaged_json(metadata[key], random)
            return table.replace_schema_metadata(metadata)
        case 4:
            return table.rename_columns(
                [random.choice(TEXTS) if i == at else n for i, n in enumerate(table.column_names)]
            )
        case _:
            return table.set_column(at, name, random.choice(ODD_COLUMNS)(rows))


ODD_COLUMNS: Sequence[Callable[[int], pa.Array]] = (
    lambda rows: pa.nulls(rows, pa.string()),
    lambda rows: pa.nulls(rows),
    lambda rows: pa.array([2**31 - 1] * rows, pa.int32()).view(pa.date32()),
    lambda rows: pa.array([2**62] * rows, pa.int64()).view(pa.timestamp("s")),
    lambda rows: pa.array([-(2**62)] * rows, pa.int64()).view(pa.timestamp("us")),
    lambda rows: pa.array([float("inf")] * rows),
    lambda rows: pa.array([float("nan")] * rows),
    lambda rows: pa.array([1e308] * rows),
    lambda rows: pa.array([2**63 - 1] * rows),
    lambda rows: pa.array([-1] * rows, pa.int64()),
    lambda rows: pa.array([True] * rows),
    lambda rows: pa.array([b"\xff"] * rows),
    lambda rows: pa.array([["a", None]] * rows),
    lambda rows: pa.array([{"a": 1}] * rows),
    lambda rows: pa.array([""] * rows),
    lambda rows: pa.array(["a\x1b[2J\n/../x"] * rows),
    lambda rows: pa.array(["x" * 10_000] * rows),
    lambda rows: pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array(["paper"])),
    lambda rows: pa.array([0] * rows, pa.time32("s")),
)
