import math

import pytest

from whp.privacy import epsilon_of_rho, gaussian_epsilon, rho_of_epsilon
from whp.privacy._dp_continual_release.budget import Budget, simple_epsilon


def test_conversions():
    wanted = [
        (0.005, 0.429941, 0.530652, 0.396857),
        (0.05, 1.471595, 1.712258, 1.367571),
        (0.5, 5.221534, 5.756522, 4.886554),
        (1, 7.766217, 8.433844, 7.286081),
    ]
    for rho, epsilon, loose, gaussian in wanted:
        assert epsilon_of_rho(rho, 1e-6) == pytest.approx(epsilon, abs=1e-6)
        assert simple_epsilon(rho, 1e-6) == pytest.approx(loose, abs=1e-6)
        assert gaussian_epsilon(math.sqrt(2 * rho), 1e-6) == pytest.approx(gaussian, abs=1e-6)
        assert gaussian <= epsilon <= loose
    for epsilon, delta, rho in ((1, 1e-6, 0.024356), (0.5, 1e-6, 0.006642), (2, 1e-9, 0.056131)):
        assert rho_of_epsilon(epsilon, delta) == pytest.approx(rho, abs=1e-6)


def test_rho_has_no_epsilon_at_zero():
    with pytest.raises(ValueError, match="delta must be above 0 with rho"):
        Budget.of(0.5, None, 0)
