"""Real streams: hourly bicycle hires, and breast cancer biopsies to be taken in random order."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pandas as pd
from jaxtyping import Float

from whp.datasets.packaged import available, packaged

__all__ = ["bikeshare", "bikeshare_regression", "breast_cancer", "has_bikeshare"]

BIKESHARE_SHA256 = "ac6950ae6f11efcc69c29d6bb13e8881c001e27d36434660d59444a1414f712c"
BUSIEST = 651  # bikers in the busiest hour


def has_bikeshare() -> bool:
    """Whether the package that carries it is installed."""
    return available("ISLP")


def bikeshare() -> pd.DataFrame:
    """Hours of Capital Bikeshare, Washington, 2011, in time order: 8,645 rows of weather, calendar and bikers, 15 columns.

    H. Fanaee-T and J. Gama, UCI Machine Learning Repository (CC BY 4.0); carried by the package ISLP 0.6.0 (BSD licence), 0.6
    MB.
    """
    return pd.read_csv(BytesIO(packaged("ISLP==0.6.0", "data/Bikeshare.csv", BIKESHARE_SHA256)))


def bikeshare_regression() -> tuple[pd.DataFrame, pd.Series]:
    """Weather, working day, holiday and the hour in 24 dummies; target is bikers over those of the busiest hour."""
    table = bikeshare()
    X = table[["temp", "atemp", "hum", "windspeed", "workingday", "holiday"]].astype(np.float64)
    hours = pd.get_dummies(table["hr"], prefix="hr", dtype=np.float64)
    return pd.concat([X, hours], axis=1), table["bikers"] / BUSIEST


def breast_cancer() -> tuple[Float[np.ndarray, "569 30"], np.ndarray]:
    """569 biopsies with 30 features scaled to mean 0 and variance 1, and ±1 labels (1: benign).

    Wolberg, Mangasarian, Street (UCI, CC BY 4.0); comes with scikit-learn.
    """
    from sklearn.datasets import load_breast_cancer

    X, y = load_breast_cancer(return_X_y=True)
    return (X - X.mean(axis=0)) / X.std(axis=0), np.where(y == 1, 1, -1)
