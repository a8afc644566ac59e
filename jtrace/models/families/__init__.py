"""One file per Hugging Face model type: its config mapping and its weight-name table."""

from typing import Any

from jtrace.errors import InputError
from jtrace.models.config import DecoderConfig
from jtrace.models.families import (
    apertus,
    bloom,
    gemma2,
    gemma3_text,
    gpt2,
    gpt_neox,
    granite,
    hf_olmo,
    llama,
    mistral,
    olmo,
    olmo2,
    olmo3,
    olmoe,
    opt,
    phi3,
    qwen2,
    qwen3,
    qwen3_moe,
    smollm3,
    stablelm,
)
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import Family

FAMILIES: dict[str, Family] = {
    module.__name__.rpartition(".")[2]: module.FAMILY
    for module in (
        *(llama, mistral, gpt_neox, olmo, olmo2, olmo3, qwen2, qwen3, smollm3),
        *(gpt2, hf_olmo, opt, bloom, apertus, gemma2, gemma3_text, phi3, stablelm, granite, olmoe, qwen3_moe),
    )
}


def read_model_config(values: dict[str, Any], where: str) -> tuple[DecoderConfig, Family]:
    """Reads the decoder that a config.json describes.

    Raises:
        InputError: unknown model type, or a field that is missing, malformed or not implemented, by name.
    """
    model_type = values.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        own_code = ", and the repository's own code is never run" if "auto_map" in values else ""
        raise InputError(
            f"{where}: model type {model_type!r} is not implemented{own_code}; known are {', '.join(FAMILIES)}"
        )
    family = FAMILIES[model_type]
    fields = Fields(values, where)
    config = family.read_config(fields)
    fields.finish()
    return config, family
