import numpy as np
import pytest

from whp.calibration._h_calibration import HCalibrationMap
from whp.calibration._h_calibration.maps import softmax


def test_maps_survive_a_dictionary_and_ignore_constants():
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((20, 4))
    maps = [
        HCalibrationMap.temperature(0.3),
        HCalibrationMap("ensemble", betas=np.array([0.2, 2.0]), weights=np.array([0.25, 0.75])),
        HCalibrationMap(
            "piecewise", edges=np.array([0.0, 1.0, 4.0]), slopes=np.array([0.5, 2.0, 0.1])
        ),
    ]
    for made in maps:
        again = HCalibrationMap.from_dict(made.to_dict())
        np.testing.assert_array_equal(again(logits), made(logits))
        np.testing.assert_allclose(made(logits + 1000), made(logits), atol=1e-12)
        np.testing.assert_allclose(made(logits).sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(
        HCalibrationMap.temperature(1.0)(logits), softmax(logits), atol=1e-14
    )
    straight = HCalibrationMap("piecewise", edges=np.array([0.0, 1.0, 4.0]), slopes=np.full(3, 0.7))
    np.testing.assert_allclose(
        straight(logits), HCalibrationMap.temperature(0.7)(logits), atol=1e-12
    )


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "temperature"},
        {"kind": "temperature", "betas": [1.0], "weights": [0.5]},
        [],
        {"kind": "piecewise", "edges": [1.0], "slopes": [1.0]},
        {"kind": "temperature", "betas": [-1.0], "weights": [1.0]},
        {"kind": "piecewise", "edges": [0.0, 1.0], "slopes": [1.0]},
        {"kind": "other", "betas": [1.0], "weights": [1.0]},
        {"kind": "piecewise", "edges": [0.0], "slopes": [0.0]},
        {"kind": "temperature", "betas": ["a"], "weights": [1.0]},
    ],
)
def test_broken_maps_are_refused(bad):
    with pytest.raises(ValueError, match=r"map|betas|weights|edges|slopes|kind|convert"):
        HCalibrationMap.from_dict(bad)
