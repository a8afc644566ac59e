"""jtrace traces how trustworthiness forms while a language model is pre-trained, and steers the finished model with it.

    import jtrace

    model = jtrace.load_model("runs/models/smollm2")
    data = jtrace.load_statements("stereoset", data_dir="data")
    acts = model.activations(data)
    probes = jtrace.fit_probes(acts, data)
    vector = jtrace.steering_vector(acts, data)
    model.generate(["The nurse said"], steer=vector.at(layer=15, strength=2.0))

Names are loaded when they are first used: importing jtrace loads neither JAX nor transformers, and starts no device.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from jtrace.errors import InputError

if TYPE_CHECKING:
    from jtrace.api.activations import Activations
    from jtrace.api.heads import Heads, probe_heads
    from jtrace.api.model import Model, load_model
    from jtrace.api.probes import Probes, fit_probes
    from jtrace.api.runs import Run, load_statements, open_run, trace, write_report
    from jtrace.api.vectors import load_vectors, steering_vector
    from jtrace.data.statements import Statements
    from jtrace.probing.sound_set import SoundConfig
    from jtrace.steering.vector import SteeringVector

# jtrace needs no torch, so that transformers need not advise it.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

# Where each name lies.
_PLACES = {
    "Activations": "api.activations",
    "Heads": "api.heads",
    "Model": "api.model",
    "Probes": "api.probes",
    "Run": "api.runs",
    "SoundConfig": "probing.sound_set",
    "Statements": "data.statements",
    "SteeringVector": "steering.vector",
    "fit_probes": "api.probes",
    "load_model": "api.model",
    "load_statements": "api.runs",
    "load_vectors": "api.vectors",
    "open_run": "api.runs",
    "probe_heads": "api.heads",
    "steering_vector": "api.vectors",
    "trace": "api.runs",
    "write_report": "api.runs",
}
__all__ = [
    "Activations",
    "Heads",
    "InputError",
    "Model",
    "Probes",
    "Run",
    "SoundConfig",
    "Statements",
    "SteeringVector",
    "fit_probes",
    "load_model",
    "load_statements",
    "load_vectors",
    "open_run",
    "probe_heads",
    "steering_vector",
    "trace",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'jtrace' has no attribute {name!r}")
    value = getattr(import_module(f"jtrace.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
