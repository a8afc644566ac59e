"""Facts of the device that JAX computes on."""

import jax


def computing_dtype(name: str) -> str:
    """The dtype that `auto` stands for: bfloat16, or float32 on a CPU; any other name as it is."""
    if name != "auto":
        return name
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"
