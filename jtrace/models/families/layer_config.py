"""Reads the settings that may differ from layer to layer: rotary embeddings and sliding windows."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jtrace.models.config import LinearScaling, Llama3Scaling, Rope, YarnScaling
from jtrace.models.families.config_reader import Fields

LAYER_TYPES = ("sliding_attention", "full_attention")
THETA = 10_000.0
ROPE_TYPES = ("default", "linear", "llama3", "yarn")
NO_SETTINGS: Mapping[str, Any] = {}


def read_rope(
    fields: Fields,
    theta: float = THETA,
    old_theta: str = "rope_theta",
    fraction_of: tuple[int, str, float] | None = None,
    absent: Mapping[str, Any] = NO_SETTINGS,
    kinds: Sequence[str] = ROPE_TYPES,
) -> Rope:
    """Reads rotary settings from `rope_parameters` (transformers 5), or `rope_scaling` and fields beside it (before).

    Args:
        theta: base where none is given.
        old_theta: name of the older field for the base.
        fraction_of: for heads of which a part rotates: head size, name of the older field for the fraction, and the
            fraction where none is given.
        absent: settings where none are given.
        kinds: the rotary types that the family's own code takes for what they are.

    Raises:
        InputError: a rotary type or setting that is not implemented.
    """
    old_theta_value = fields.take(old_theta, theta)
    new, old = fields.take("rope_parameters", None), fields.take("rope_scaling", None)
    if new and old and new != old:
        raise fields.refuse("rope_parameters and rope_scaling are both given and differ; keep one")
    settings = _settings(fields, old or new or dict(absent))
    kind = settings.get("rope_type") or settings.get("type") or "default"
    if kind in ROPE_TYPES and kind not in kinds:
        raise fields.refuse(f"rope type '{kind}' is not implemented for this model type; known are {', '.join(kinds)}")
    base = fields.positive("rope_theta", settings.pop("rope_theta", old_theta_value))
    if fraction_of is None:
        if settings.get("partial_rotary_factor") == 1.0:
            del settings["partial_rotary_factor"]
        return _rope(fields, settings, base)
    head_dim, old_fraction, fraction = fraction_of
    fraction = fields.number(old_fraction, fraction)
    fraction = fields.positive("partial_rotary_factor", settings.pop("partial_rotary_factor", fraction))
    dims = int(head_dim * fraction)
    if dims % 2 or not 0 < dims <= head_dim:
        raise fields.refuse(f"the rotary fraction {fraction} rotates {dims} of {head_dim} dimensions; it must be even")
    return _rope(fields, settings, base, dims)


def read_ropes_by_layer_type(fields: Fields, theta: float, sliding: tuple[str, float] | None = None) -> dict[str, Rope]:
    """Reads rotary settings of sliding and full layers: nested `rope_parameters`, or `rope_scaling` for full ones only.

    Args:
        theta: base where none is given.
        sliding: name of the older field for the base of sliding layers, and the base where none is given; None for a
            family without that field.

    Raises:
        InputError: settings are not given per layer type, or transformers would use them for one type only.
    """
    top = fields.number("rope_theta", theta)
    older = {LAYER_TYPES[1]: top}
    older[LAYER_TYPES[0]] = top if sliding is None else fields.number(*sliding)
    nested, old = fields.take("rope_parameters", {}), fields.take("rope_scaling", None)
    if nested and old:
        raise fields.refuse("both rope_parameters and rope_scaling are given; keep rope_parameters")
    by_type = dict(nested) if isinstance(nested, dict) else {}
    if not isinstance(nested, dict) or any(key not in LAYER_TYPES for key in by_type):
        raise fields.refuse(f"rope_parameters are {nested!r}; an object for each of {', '.join(LAYER_TYPES)} is needed")
    if old:
        by_type["full_attention"] = old
    ropes = {}
    for kind in LAYER_TYPES:
        settings = _settings(fields, by_type.get(kind) or {})
        if "rope_theta" not in settings and top != theta and sliding is None:
            raise fields.refuse(
                f"rope_theta = {top} does not say for which layers; write it into rope_parameters of {kind} layers"
            )
        if settings.get("truncate") is False and nested:
            raise fields.refuse(f"rope setting 'truncate' of {kind} layers is not implemented")
        ropes[kind] = _rope(fields, settings, fields.positive("rope_theta", settings.pop("rope_theta", older[kind])))
    return ropes


def read_windows(fields: Fields, window: int | None, sliding: Sequence[bool]) -> list[int | None]:
    """Reads each layer's window: by `layer_types`, or by the family's rule where that field is absent.

    Args:
        window: window of the sliding layers; None where windows are off.
        sliding: the family's rule: whether each layer slides.

    Raises:
        InputError: unknown layer types, another number of them, or sliding layers without a window.
    """
    default = [LAYER_TYPES[0] if slides else LAYER_TYPES[1] for slides in sliding]
    types = fields.take("layer_types", default)
    if not isinstance(types, list) or len(types) != len(sliding) or any(kind not in LAYER_TYPES for kind in types):
        raise fields.refuse(
            f"the field 'layer_types' is {types!r}; a list of {len(sliding)} of {', '.join(LAYER_TYPES)} is needed"
        )
    if window is None and LAYER_TYPES[0] in types:
        raise fields.refuse("layer_types has sliding layers, but no sliding window is set or used")
    return [window if kind == LAYER_TYPES[0] else None for kind in types]


def _settings(fields: Fields, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise fields.refuse(f"the rotary settings are {value!r}; an object is needed")
    return dict(value)


def _rope(fields: Fields, settings: dict[str, Any], theta: float, dims: int | None = None) -> Rope:
    """Builds one rotary embedding; refuses any setting that is not implemented."""
    context = fields.size("max_position_embeddings")
    legacy_kind = settings.pop("type", "default")
    kind = settings.pop("rope_type", legacy_kind)

    def setting(name: str, default: float | None = None) -> float:
        value = settings.pop(name, None)
        return fields.positive(f"rope {name}", default if value is None else value)

    def original_context() -> float:
        value = setting("original_max_position_embeddings", context)
        if value < 1:
            raise fields.refuse(f"rope original_max_position_embeddings is {value}; a whole number is needed")
        return value

    scaling: LinearScaling | Llama3Scaling | YarnScaling | None
    match kind:
        case "default":
            scaling = None
        case "linear":
            scaling = LinearScaling(setting("factor"))
        case "llama3":
            factor, low, high = (setting(name) for name in ("factor", "low_freq_factor", "high_freq_factor"))
            if low >= high:
                raise fields.refuse(f"rope low_freq_factor {low} is not below high_freq_factor {high}")
            scaling = Llama3Scaling(factor, low, high, int(original_context()))
        case "yarn":
            if theta <= 1:  # its logarithm divides
                raise fields.refuse(f"rope_theta is {theta}; yarn needs one above 1")
            original = original_context()
            factor = setting("factor", context / original)
            truncate = settings.pop("truncate", True)
            if not isinstance(truncate, bool):
                raise fields.refuse(f"rope setting 'truncate' is {truncate!r}; true or false is needed")
            scaling = YarnScaling(
                factor,
                beta_fast=setting("beta_fast", 32.0),
                beta_slow=setting("beta_slow", 1.0),
                original_context=int(original),
                # Equation 22 of the YaRN paper.
                attention_factor=setting("attention_factor", 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0),
                truncate=truncate,
            )
        case _:
            raise fields.refuse(f"rope type '{kind}' is not implemented; known are {', '.join(ROPE_TYPES)}")
    left = sorted(name for name, value in settings.items() if value is not None)
    if left:
        raise fields.refuse(f"rope setting '{left[0]}' is not implemented for rope type '{kind}'")
    return Rope(theta, scaling, dims)
