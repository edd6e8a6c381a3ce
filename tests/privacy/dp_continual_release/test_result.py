import io

import matplotlib.pyplot as plt
import numpy as np
import pytest

from whp.privacy import release_stream


@pytest.fixture
def X():
    return np.random.default_rng(0).integers(0, 2, (300, 3))


@pytest.mark.parametrize("query", ["counts", "maxsum", "sumselect"])
def test_pictures_and_tables(X, query):
    shown = release_stream(X, query=query, T=300, rho=0.5)
    shown.plot()
    plt.close("all")
    assert len(shown.artifacts()["answers.csv"]) == 300


def test_answers_of_many_columns_are_thinned():
    wide = np.zeros((3000, 400), np.uint8)
    made = release_stream(wide, query="counts", T=3000, rho=0.5, strategy="tree")
    table = made.artifacts()["answers.csv"]
    assert table.size < 1.01e6
    assert table["record"].iloc[-1] == 3000
    assert made.artifacts()["plan.json"]["answers_of_every"] == 2
    text = io.StringIO()
    table.to_csv(text)
    assert len(text.getvalue()) < 10e6


def test_every_so_many_answers_are_written(X):
    made = release_stream(X, T=300, rho=0.5, every=70)
    assert made.artifacts()["answers.csv"]["record"].tolist() == [70, 140, 210, 280, 300]


def test_a_column_named_record_does_not_hide_the_number(X):
    import pandas as pd

    frame = pd.DataFrame(X, columns=["record", "b", "c"])
    table = release_stream(frame, query="counts", T=300).artifacts()["answers.csv"]
    assert list(table)[:2] == ["number of the record", "record"]


def test_the_measured_error_is_nowhere(X):
    made = release_stream(X, query="counts", T=300, rho=0.5, measure=True)
    error = f"{made.errors.max():.6g}"
    assert made.errors is not None
    assert "errors" not in str(made.artifacts()) + str(made.summary())
    assert "errors" not in repr(made)
    assert error not in str([c.to_dict() for c in made.certificates])
