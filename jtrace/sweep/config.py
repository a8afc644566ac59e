"""Settings that decide the numbers of a sweep."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jtrace.data.tokenizer import SpecialTokens
from jtrace.probing.protocols import Protocol
from jtrace.probing.sound_set import SoundConfig
from jtrace.probing.vectors import MASS_MEAN


@dataclass(frozen=True)
class SweepConfig:
    """Settings that decide the numbers of a sweep, beside checkpoints and statements.

    Attributes:
        dtype: of params, forward and kept activations; statistics are float32 always.
        layers: which layers to report; None for all.
        tokenizer: folder of the tokeniser; None for each checkpoint's own.
        special_tokens: what special tokens that are written out in a statement are read as.
        keep_activations: also write the residuals themselves.
        vector_kinds: of steering vectors (`jtrace.probing.vectors.KINDS`), the published one among them.
        sound: of protocol `sound`.
    """

    dtype: str = "bfloat16"
    protocols: tuple[Protocol, ...] = ("paper",)
    layers: tuple[int, ...] | None = None
    tokenizer: Path | None = None
    special_tokens: SpecialTokens = "parse"
    keep_activations: bool = False
    vector_kinds: tuple[str, ...] = (MASS_MEAN,)
    sound: SoundConfig = field(default_factory=SoundConfig)

    @property
    def is_paper(self) -> bool:
        """Tell whether protocol `paper` is asked for."""
        return "paper" in self.protocols

    @property
    def most_in_matrices(self) -> int | None:
        """Rows of a set that matrices of rows by rows have at most; None under `paper`, which takes all that train."""
        return None if self.is_paper else self.sound.information_rows

    @property
    def is_sound(self) -> bool:
        """Tell whether protocol `sound` is asked for."""
        return "sound" in self.protocols

    def record(self) -> dict[str, Any]:
        """The settings as JSON values, for run.json."""
        # Not the kinds of vectors: another one changes no number that is there.
        return {
            "dtype": self.dtype,
            "protocols": list(self.protocols),
            "layers": "all" if self.layers is None else list(self.layers),
            "tokenizer": None if self.tokenizer is None else str(self.tokenizer.resolve()),
            "keep_activations": self.keep_activations,
            # Where it is the default it is left out, as runs of earlier releases do.
            **({"special_tokens": self.special_tokens} if self.special_tokens != "parse" else {}),
            **{f"sound_{name}": value for name, value in dataclasses.asdict(self.sound).items() if self.is_sound},
        }
