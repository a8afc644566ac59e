"""Activations convert to what others work with."""

import sys

import numpy as np
import pytest

from jtrace import InputError


def test_they_are_arrays_to_numpy(acts):
    assert np.asarray(acts).shape == (3, 60, 24)
    assert acts.to_numpy().dtype == np.float32
    assert np.asarray(acts, np.float64).dtype == np.float64
    assert len(acts) == 60


def test_equal_statements_have_equal_rows(model):
    values = model.activations(["ba be", "bi", "ba be"]).to_numpy()
    np.testing.assert_array_equal(values[:, 0], values[:, 2])


def test_xarray_is_used_where_it_is_installed(acts):
    xarray = pytest.importorskip("xarray")
    array = acts.to_xarray()

    assert isinstance(array, xarray.DataArray)
    assert array.dims == ("layer", "statement", "width")
    assert array.sel(layer=2).shape == (60, 24)


def test_without_xarray_the_way_out_is_said(acts, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(InputError, match=r"xarray is not installed; pip install xarray, or take to_numpy\(\)"):
        acts.to_xarray()
