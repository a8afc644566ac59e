"""Whatever a parser of others raises is one line; signals pass."""

import os
import sys

import pytest
from tokenizers import Tokenizer

from jtrace.errors import LONGEST, InputError, StoppedError
from jtrace.runtime.foreign import foreign, foreign_rust

PANICS = (
    '{"version":"1.0","normalizer":{"type":"Precompiled","precompiled_charsmap":"AAAA"},"pre_tokenizer":null,'
    '"post_processor":null,"decoder":null,"model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"a"}}'
)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (ValueError("two\nlines"), "two lines"),
        (KeyError(), "KeyError"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (MemoryError(), "it takes more memory than there is"),
        (OverflowError("too large"), "too large"),
    ],
)
def test_what_a_parser_raises_is_one_line(raised, told):
    with pytest.raises(InputError, match=rf"^a\.json: cannot be read \({told}\); copy it again"), foreign("a.json"):
        raise raised


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, StoppedError, InputError("as it was")])
def test_signals_and_own_errors_pass(raised):
    with pytest.raises(type(raised) if isinstance(raised, Exception) else raised) as error, foreign("a.json"):
        raise raised
    assert "a.json" not in str(error.value)


def test_a_panic_of_rust_is_one_line_and_its_own_words_are_not_printed(capfd):
    def parse():
        with foreign_rust("tokenizer.json"):
            os.write(2, b"printed before\n")
            Tokenizer.from_str(PANICS)

    with pytest.raises(InputError, match=r"^tokenizer\.json: .*charsmap"):
        parse()
    print("printed after", file=sys.stderr)
    assert capfd.readouterr().err == "printed before\nprinted after\n"


def test_messages_are_one_printable_line_of_bounded_length():
    message = str(InputError("a.json: " + "\x1b[2J\r\n\u2028\ud800" + "x" * 10_000_000 + "; copy it again"))
    assert message.isprintable()
    assert message.startswith("a.json: \\x1b[2J\\r\\n\\u2028\\ud800xx")
    assert message.endswith("x; copy it again")
    assert len(message) <= LONGEST
    assert str(InputError("a  b\u3000c")) == "a  b\u3000c"
