"""Probes of real residuals beside float64: every layer of both protocols, on the authors' sets.

All thirty layers: `python -m pytest -m long tests/probing/test_optimum.py -s` (some forty minutes on two cores).
"""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jtrace.checkpoints.load import load_params
from jtrace.data.groups import groups_of
from jtrace.data.loading import read_statements
from jtrace.data.splits import prefix_split, repeated_folds
from jtrace.data.tokenizer import encode, read_tokenizer
from jtrace.inference.residuals import extract_residuals, pack_sets
from jtrace.kernels.logistic import fit_logistic
from jtrace.kernels.standardise import scaled, standardise
from jtrace.probing.cross_validation import cross_validate, fold_rows
from jtrace.probing.paper import paper_trace
from tests.bars import within
from tests.optima import beside_optimum

SETS = ("truthfulqa", "toxigen", "confaide", "stereoset", "sst2")
fit_jitted = jax.jit(fit_logistic)
cross_validated = jax.jit(cross_validate)


def all_residuals(smollm2, shared, depth):
    """Residuals of all sets in the first layers, and where each set's rows lie."""
    sets = [read_statements(name, shared / "data") for name in SETS]
    tokenizer = read_tokenizer(smollm2)
    config, params = load_params(smollm2, jnp.float32, depth=depth)
    packed = pack_sets({s.name: encode(tokenizer, s.texts) for s in sets}, config)
    return sets, packed.members, extract_residuals(params, config, packed.packed, dtype=jnp.float32)


@pytest.fixture(scope="module")
def first_layers(smollm2, shared):
    """Layer 0 has the worst condition of all."""
    return all_residuals(smollm2, shared, 2)


@pytest.fixture(scope="module")
def all_layers(smollm2, shared):
    return all_residuals(smollm2, shared, None)


def check_paper(statements, x, layer):
    """Of one layer's residuals: the bars, and AUROC on the published test rows."""
    split, z = prefix_split(statements.labels), np.asarray(standardise(x))
    labels = statements.labels.astype(np.float32)
    fit = fit_jitted(z[split.train], labels[split.train])
    excess, scores, exact = beside_optimum(z[split.train], labels[split.train], 1.0, fit, z[split.test])
    told = statements.labels[split.test]
    return compare("paper", statements.name, layer, fit.converged, excess, scores, exact, told)


def check_sound(statements, x, layer):
    """Of one layer's residuals: every fold at the C that was chosen, on the rows that it holds out."""
    labels = statements.labels.astype(np.float32)
    folds = repeated_folds(statements.labels, groups_of(statements))
    found = jax.device_get(
        cross_validated(x, jnp.asarray(labels), jnp.asarray(labels)[None], fold_rows(folds, len(labels)))
    )
    scores, exact, excess = np.zeros(len(labels)), np.zeros(len(labels)), 0.0
    for at, fold in enumerate(folds):
        z = np.asarray(scaled(x, jnp.asarray(found.mean[at]), jnp.asarray(found.scale[at])))
        fit = SimpleNamespace(weights=found.weights[at], intercept=found.intercept[at])
        above, scores[fold.test], exact[fold.test] = beside_optimum(
            z[fold.train], labels[fold.train], float(found.c[at]), fit, z[fold.test]
        )
        excess = max(excess, above)
    return compare("sound", statements.name, layer, found.converged.all(), excess, scores, exact, statements.labels)


def compare(protocol, name, layer, converged, excess, scores, exact, labels):
    other = np.mean((scores > 0) != (exact > 0))
    auroc = abs(roc_auc_score(labels, scores) - roc_auc_score(labels, exact))
    print(f"{protocol:5} {name:10} {layer:2} above {excess:.1e} decisions {other:.4f} AUROC {auroc:.1e}", flush=True)
    assert converged
    within(f"SmolLM2, {protocol}: objective above the optimum's", excess, 1e-6)
    within(f"SmolLM2, {protocol}: decisions other than the optimum's, of a layer", other, 1e-3)
    within(f"SmolLM2, {protocol}: AUROC beside the optimum's", auroc, 1e-3)


CHECKS = {"paper": check_paper, "sound": check_sound}


def check_layers(traced, name, protocol, layers):
    sets, members, residuals = traced
    statements = next(s for s in sets if s.name == name)
    for layer in layers:
        CHECKS[protocol](statements, residuals[layer][members[name]].astype(jnp.float32), layer)


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("name", SETS)
def test_the_first_layer_is_at_its_optimum(first_layers, name):
    check_layers(first_layers, name, "paper", [0])


@pytest.mark.slow
@pytest.mark.real
def test_the_folds_of_the_first_layer_are_at_their_optimum(first_layers):
    check_layers(first_layers, "confaide", "sound", [0])


@pytest.mark.slow
@pytest.mark.real
def test_tables_do_not_depend_on_what_else_is_listed(first_layers):
    sets, members, residuals = first_layers
    statements = next(s for s in sets if s.name == "confaide")
    alone = paper_trace(residuals[:1], members[statements.name], statements, [0], kinds=("mass_mean", "probe"))
    both = paper_trace(residuals, members[statements.name], statements, [0, 1], kinds=("mass_mean", "probe"))
    values = {(m.layer, m.metric): m.value for m in both.metrics}
    for metric in alone.metrics:
        assert metric.value == pytest.approx(values[0, metric.metric], rel=1e-5)
    np.testing.assert_allclose(alone.vectors["probe"][0], both.vectors["probe"][0], rtol=1e-3, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("protocol", CHECKS)
@pytest.mark.parametrize("name", SETS)
def test_every_layer_is_at_its_optimum(all_layers, name, protocol):
    check_layers(all_layers, name, protocol, range(len(all_layers[2])))
