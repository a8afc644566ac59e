"""The model `jtrace` of lm-eval: a checkpoint, steered by one vector or as it is.

`jtrace harness run --model jtrace --model_args checkpoint=…` finds it. lm-eval itself knows only the models of its own
package and what was registered before, which importing this module does: `import jtrace.api.lm_eval_model`.
"""

from typing import Any

from lm_eval.api.registry import register_model

from jtrace.api.arguments import in_python_words
from jtrace.api.model import Model, load_model
from jtrace.errors import InputError
from jtrace.evaluation.answers import Decoding
from jtrace.evaluation.harness.model import HarnessModel
from jtrace.models.intervention import POSITIONS
from jtrace.steering.target_vectors import VectorChoice, vectors_for
from jtrace.steering.vector import OPERATORS, Condition, SteeringVector, combined, edit_of


@register_model("jtrace")
class JtraceModel(HarnessModel):
    """A checkpoint for lm-eval, under one vector or as it is.

    Args:
        checkpoint: as `jtrace.load_model` takes it.
        vector: a file of vectors, of jtrace or another tool; the model as it is if None.
        vector_set: whose vector, or a sum as `stereoset+-0.5*toxigen`; may be left out where the file holds one.
        layer: the layer to steer, or several at once as `10+15`; may be left out where the vector has one layer.
        strength: what the vector is multiplied by.
        positions, operator: see `SteeringVector.at`.
        any_family: see `vectors_for`.
        dtype, tokenizer, cache_dir: see `jtrace.load_model`.
        max_length, add_bos_token, prefix_token_id: see `HarnessModel`.
        seed: of sampling.
        batch_size, max_batch_size, device: what lm-eval hands to every model; jtrace packs by memory, and computes
            where JAX does.

    Raises:
        InputError: a checkpoint or vector that cannot be had, or that do not belong together.
    """

    @in_python_words
    def __init__(
        self,
        checkpoint: str,
        vector: str | None = None,
        vector_set: str = "",
        layer: int | str | None = None,
        strength: float = 1.0,
        positions: str = "last",
        operator: str = "add",
        any_family: bool = False,
        dtype: str = "auto",
        tokenizer: str | None = None,
        cache_dir: str | None = None,
        max_length: int | None = None,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        seed: int = 0,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
    ) -> None:
        if positions not in POSITIONS or operator not in OPERATORS:
            raise InputError(
                f"positions={positions}, operator={operator}: there are {', '.join(POSITIONS)}, and "
                f"{', '.join(OPERATORS)}"
            )
        if vector is None and (vector_set or layer is not None):
            raise InputError("vector_set and layer need a vector; name its file by vector=RUN/vectors/NAME.safetensors")
        model = load_model(str(checkpoint), dtype=dtype, tokenizer=tokenizer, cache_dir=cache_dir)
        edit, about = None, None
        if vector is not None:
            chosen = _vector_in(model, str(vector), vector_set, any_family)
            layers = _layers(chosen, layer)
            edit = edit_of(chosen, [Condition(layers, float(strength))], operator)
            about = f"{strength:g}*({chosen.dataset}) of {chosen.source}, layer {'+'.join(map(str, layers))}"
        super().__init__(
            model.language_model,
            edit,
            (0,) if edit is None else (1,),
            Decoding(positions, seed=seed),
            max_length=max_length,
            add_bos_token=add_bos_token,
            prefix_token_id=prefix_token_id,
            progress=model.name,
        )
        self._info = {
            "checkpoint": str(checkpoint),
            "vector": about,
            "model_dtype": model.dtype,
        }

    def get_model_info(self) -> dict[str, Any]:
        """The facts about the model that lm-eval writes into its results."""
        return dict(self._info)


def _vector_in(model: Model, file: str, dataset: str, any_family: bool) -> SteeringVector:
    choice = VectorChoice((file,), (dataset,) if dataset else (), any_family=any_family)
    files = choice.read()
    if len(files) > 1:
        raise InputError(f"vector={file}: names {len(files)} files; name one")
    ((path, held),) = files
    (expression,) = choice.sets_of(files, ())
    return combined(expression, vectors_for(model.language_model, held, path, any_family), "vector_set")


def _layers(vector: SteeringVector, layer: int | str | None) -> tuple[int, ...]:
    """The layers that are steered at once."""
    if layer is None:
        if len(vector.layers) > 1:
            raise InputError(f"layer: the vector of '{vector.dataset}' has {len(vector.layers)} layers; say layer=15")
        return vector.layers
    try:
        return tuple(int(part) for part in str(layer).split("+"))
    except ValueError:
        raise InputError(f"layer={layer}: write one layer as 15, or several at once as 10+15") from None
