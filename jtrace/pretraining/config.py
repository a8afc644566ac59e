"""`PretrainConfig`: the settings that, with the documents, decide the params of every step of a pre-training."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jtrace.errors import InputError
from jtrace.models.presets import find_preset
from jtrace.pretraining.step import Optimisation


@dataclass(frozen=True)
class PretrainConfig:
    """Settings that, together with the documents, decide the params of every step.

    Attributes:
        preset: the size of a new model; this or `init_from` is given.
        init_from: a folder, Hugging Face's or Orbax, whose weights training begins with.
        tokenizer: folder of the tokeniser; None trains one, or takes that of `init_from`.
        vocab_size: tokens of a trained tokeniser; None takes the preset's number.
        context: tokens of a row.
        rows: rows of a step.
        keep: steps whose params are kept; a step's number counts the updates before it.
        dtype: dtype of the forward; params and moments are float32.
        save_every: steps between saved states; the last step has one too.
        validate_every: steps between validation losses; kept steps and the last have one too.
        device_rows: rows that one device computes at once; more are split into micro-batches.
        remat: compute blocks again for their gradient, which takes less memory and a third more time.
    """

    optimisation: Optimisation
    keep: tuple[int, ...]
    context: int
    rows: int
    preset: str | None = None
    init_from: Path | None = None
    tokenizer: Path | None = None
    vocab_size: int | None = None
    dtype: str = "float32"
    seed: int = 0
    validate_every: int = 100
    # Settings of time and memory, which change at most the last bits of a number.
    save_every: int = field(default=500, kw_only=True)
    device_rows: int = field(default=64, kw_only=True)
    remat: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        o = self.optimisation
        positive = {
            "steps": o.steps,
            "learning_rate": o.learning_rate,
            "rows": self.rows,
            "save_every": self.save_every,
            "validate_every": self.validate_every,
            "device_rows": self.device_rows,
            "clip": o.clip,
        }
        for name, value in positive.items():
            if not 0 < value < math.inf:
                raise InputError(f"--{name}={value}: a number above 0 is needed")
        ranges = {"beta1": (o.beta1, 0.9999), "beta2": (o.beta2, 0.99999), "final_fraction": (o.final_fraction, 1.0)}
        ranges |= {"weight_decay": (o.weight_decay, 1e3), "seed": (self.seed, 2**63)}
        for name, (number, most) in ranges.items():
            if not 0 <= number <= most:
                raise InputError(f"--{name}={number}: give 0 to {most:g}")
        if self.context < 2:
            raise InputError(f"--context={self.context}: a row needs two tokens at least")
        if not 0 <= o.warmup <= o.steps:
            raise InputError(f"--warmup={o.warmup}: give 0 to {o.steps}, the number of steps")
        if bad := [step for step in self.keep if not 0 <= step <= o.steps]:
            raise InputError(f"--keep: step {bad[0]} is not among 0 to {o.steps}")
        if (self.preset is None) == (self.init_from is None):
            raise InputError("give either --preset, for a new model, or --init_from")
        if self.preset is not None:
            find_preset(self.preset)

    def record(self) -> dict[str, Any]:
        """Returns the settings as JSON values for the run's record; folders as absolute paths."""
        values = dataclasses.asdict(self)
        flat = values.pop("optimisation") | values | {"keep": list(self.keep)}
        for name in ("save_every", "device_rows", "remat"):
            del flat[name]
        return {name: str(v.resolve()) if isinstance(v, Path) else v for name, v in flat.items()}
