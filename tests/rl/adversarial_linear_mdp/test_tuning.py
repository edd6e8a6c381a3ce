import pytest

from whp.rl._adversarial_linear_mdp.tuning import regret_bound, theory, tuned


def test_the_rates_of_the_theory():
    made = theory("log-barrier", 3, 3, 6, 10**6)
    assert (made.eta, made.beta, made.gamma) == pytest.approx(
        (1.12236711e-4, 2.02026e-3, 1.109454e-5), rel=1e-6
    )
    assert regret_bound("log-barrier", 3, 3, 6, 10**6) == pytest.approx(2_224_629.9, rel=1e-7)
    assert theory("magnitude-reduced", 3, 3, 6, 10**6).eta == pytest.approx(1.02443e-5, rel=1e-5)
    assert regret_bound("magnitude-reduced", 3, 3, 6, 10**6) == pytest.approx(6.434e5, rel=1e-4)
    assert regret_bound("magnitude-reduced", 1, 2, 2, 20_000) == pytest.approx(3442.76, abs=0.01)
    assert regret_bound("log-barrier", 1, 2, 2, 20_000) == pytest.approx(7625, abs=1)
    assert regret_bound("log-barrier", 1, 8, 4, 20_000) == pytest.approx(21_163, abs=1)
    assert regret_bound("magnitude-reduced", 1, 8, 4, 20_000) == pytest.approx(8433, abs=1)


@pytest.mark.parametrize("H", [1, 2, 5])
@pytest.mark.parametrize("method", ["log-barrier", "magnitude-reduced"])
def test_they_are_what_the_proof_asks_for(method, H):
    e, made = 2.718281828459045, theory(method, H, 3, 4, 10_000)
    largest = 2 * e * H * made.beta / made.gamma  # of the bonus
    if method == "log-barrier":
        assert made.beta == pytest.approx(2 * made.eta * H**2)
        assert made.eta * largest == pytest.approx(1 / H)
    else:
        assert made.beta == pytest.approx(16 * made.eta * H**2)
        assert 2 * made.eta * largest == pytest.approx(1 / H)
        assert made.eta * (H / made.gamma**0.5 + largest) <= 1


def test_tuned_rates_are_faster():
    for method in ("log-barrier", "magnitude-reduced"):
        assert tuned(method, 3, 3, 4, 10_000).eta > 5 * theory(method, 3, 3, 4, 10_000).eta
