"""Reading a Hugging Face `config.json` without overlooking a field."""

import math
from typing import Any

from jtrace.errors import InputError
from jtrace.models.config import LinearScaling, Llama3Scaling, Rope

# Fields that say nothing of the forward: provenance, training, tokens, generation and serving.
INERT = frozenset(
    {
        "_attn_implementation_autoset",
        "_commit_hash",
        "_name_or_path",
        "architectures",
        "attention_dropout",
        "auto_map",
        "bos_token_id",
        "chunk_size_feed_forward",
        "dtype",
        "eos_token_id",
        "id2label",
        "initializer_range",
        "is_llama_config",
        "keys_to_ignore_at_inference",
        "label2id",
        "max_sequence_length",
        "model_type",
        "name_or_path",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "pretraining_tp",
        "problem_type",
        "return_dict",
        "torch_dtype",
        "transformers.js_config",
        "transformers_version",
        "unsloth_version",
        "use_cache",
    }
)
# Fields whose listed value changes nothing; any other value asks for what is not implemented.
HARMLESS_VALUES: dict[str, tuple[Any, ...]] = {
    "is_decoder": (False, True),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "rope_interleaved": (False,),
    "tie_encoder_decoder": (False,),
    "torchscript": (False,),
    "use_bfloat16": (False, True),
    "pruned_heads": ({},),
}
_REQUIRED = object()


class Fields:
    """A config dict that remembers what was read, so that `finish` can refuse the rest by name.

    Args:
        values: the parsed config.json.
        where: its path, for error messages.
    """

    def __init__(self, values: dict[str, Any], where: str) -> None:
        self._values, self.where, self._read = values, where, set(INERT)

    def refuse(self, what: str) -> InputError:
        """An error that names this config."""
        return InputError(f"{self.where}: {what}")

    def take(self, name: str, default: Any = _REQUIRED) -> Any:
        """The field's value, or the default where it is absent or null."""
        self._read.add(name)
        value = self._values.get(name)
        if value is None and default is _REQUIRED:
            raise self.refuse(f"the field '{name}' is missing; it is needed to build the model")
        return default if value is None else value

    def is_null(self, name: str) -> bool:
        """Whether the field is there and null: for families where that differs from being absent."""
        return name in self._values and self._values[name] is None

    def size(self, name: str, default: Any = _REQUIRED) -> int:
        """A positive whole number."""
        value = self.take(name, default)
        if type(value) is not int or value < 1:
            raise self.refuse(f"the field '{name}' is {value!r}; a positive whole number is needed")
        return value

    def number(self, name: str, default: Any = _REQUIRED) -> float:
        """A positive finite number."""
        return self._positive(name, self.take(name, default))

    def flag(self, name: str, default: bool) -> bool:
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise self.refuse(f"the field '{name}' is {value!r}; true or false is needed")
        return value

    def choice(self, name: str, choices: dict[str, Any], default: str) -> Any:
        """A named value that must be one of the implemented ones."""
        value = self.take(name, default)
        if not isinstance(value, str) or value not in choices:
            raise self.refuse(f"{name} '{value}' is not implemented; known are {', '.join(sorted(choices))}")
        return choices[value]

    def rope(self, context: int) -> Rope:
        """Rotary settings from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before)."""
        theta, new, old = (self.take(name, None) for name in ("rope_theta", "rope_parameters", "rope_scaling"))
        settings = new or old or {}
        if not isinstance(settings, dict):
            raise self.refuse(f"the rotary settings are {settings!r}; an object is needed")
        settings = dict(settings)
        theta = self._positive("rope_theta", settings.pop("rope_theta", 10000.0 if theta is None else theta))
        legacy_kind = settings.pop("type", "default")
        kind = settings.pop("rope_type", legacy_kind)

        def setting(name: str, default: Any = None) -> float:
            return self._positive(f"rope {name}", settings.pop(name, default))

        match kind:
            case "default":
                rope = Rope(theta)
            case "linear":
                rope = Rope(theta, LinearScaling(setting("factor")))
            case "llama3":
                factor, low, high = (setting(n) for n in ("factor", "low_freq_factor", "high_freq_factor"))
                if low >= high:
                    raise self.refuse(f"rope low_freq_factor {low} is not below high_freq_factor {high}")
                original = setting("original_max_position_embeddings", context)
                rope = Rope(theta, Llama3Scaling(factor, low, high, int(original)))
            case _:
                raise self.refuse(f"rope type '{kind}' is not implemented; known are default, linear, llama3")
        if settings:
            raise self.refuse(f"rope setting '{min(settings)}' is not implemented for rope type '{kind}'")
        return rope

    def finish(self) -> None:
        """Refuse every field that nobody read, unless it is null or at a value that changes nothing."""
        for name, value in self._values.items():
            if name in self._read or value is None or value in HARMLESS_VALUES.get(name, ()):
                continue
            raise self.refuse(f"the field '{name}' = {value!r} is not implemented")

    def _positive(self, name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            raise self.refuse(f"the field '{name}' is {value!r}; a positive number is needed")
        return float(value)
