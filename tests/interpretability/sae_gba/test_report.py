import numpy as np
import pandas as pd
import pytest

from whp.interpretability import Training, sae_gba
from whp.studies.sae_gba.experiments import simulated

SMALL = {
    "n_neurons": 32,
    "training": Training(steps=60, batch_size=64, lr=3e-3),
    "n_groups": 4,
    "low": 0.02,
    "rng": 0,
}


@pytest.fixture(scope="module")
def model():
    return simulated(40, 20, (2,), 2000, np.random.default_rng(0))


@pytest.fixture(scope="module")
def fitted(model):
    return sae_gba(model[0], **SMALL)


def test_report_is_escaped_and_readable(fitted, tmp_path):
    texts = [f"<script>alert({i})</script> & more" for i in range(2000)]
    fitted.report(tmp_path / "features.html", texts)
    page = (tmp_path / "features.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<section") == min(100, int((fitted.frequency > 0).sum()))
    with pytest.raises(ValueError, match="texts"):
        fitted.report(tmp_path / "none.html", texts[:3])
    assert not (tmp_path / "none.html").exists()
    with pytest.raises(ValueError, match="neurons"):
        fitted.report(tmp_path / "none.html", texts, [99])


def test_texts_go_by_position_and_are_as_many_as_rows(fitted, tmp_path):
    texts = [f"text {i}" for i in range(2000)]
    index = np.random.default_rng(0).permutation(2000)
    fitted.report(tmp_path / "list.html", texts)
    fitted.report(tmp_path / "series.html", pd.Series(texts, index=index))
    assert (tmp_path / "list.html").read_bytes() == (tmp_path / "series.html").read_bytes()
    for wrong in (texts + texts, texts[:-1], "a" * 2000, dict.fromkeys(texts)):
        with pytest.raises((TypeError, ValueError), match="texts"):
            fitted.report(tmp_path / "none.html", wrong)
