"""The front door: a table, a log that is still growing, or an iterator in; private answers out."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from scipy.sparse import issparse

from whp.certificate import Certificate
from whp.io import Data, Log
from whp.privacy._dp_continual_release.accuracy import Neighbours, Query, ReleasePlan, Strategy
from whp.privacy._dp_continual_release.mechanisms import (
    ContinualArgmax,
    ContinualCounter,
    ContinualMaxSum,
    Mechanism,
)
from whp.privacy._dp_continual_release.state import StateFile
from whp.progress import track
from whp.result import Result
from whp.validate import as_choice, as_int, column_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PrivateStream", "release_stream"]

MECHANISMS = {"counts": ContinualCounter, "maxsum": ContinualMaxSum, "sumselect": ContinualArgmax}
BATCH = 4096
OTHER = "(other)"
FIRST_EPOCH = 1024


@dataclass(frozen=True, eq=False)
class PrivateStream(Result):
    """Private answers of a stream.

    Attributes
    ----------
    answers : ndarray, shape (n,) or (n, d)
        One a record: the largest count, the number of the leading column, or all counts.
    names : tuple of str
        Of the columns.
    plan : ReleasePlan
        What was decided beforehand.
    spent : float
        ρ, or ε, that the first record has cost.
    bound : float
        On the largest error of any answer, with probability 1 − β.
    certificates : tuple of Certificate
        ``privacy``, ``max-error``, and ``price`` for MaxSum and SumSelect.
    errors : ndarray, shape (n,), or None
        True error of each answer, where it was asked for. **Not private**: neither printed nor saved.
    first : int
        Number of the record of the first answer, 1 unless a state was continued.
    """

    answers: np.ndarray
    names: tuple[str, ...]
    plan: ReleasePlan = field(repr=False)
    spent: float
    bound: float
    certificates: tuple[Certificate, ...]
    errors: np.ndarray | None = field(repr=False, default=None)
    first: int = 1

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """What was spent and how far off an answer may be; never the truth."""
        last = self.answers[-1] if len(self.answers) else None
        told: Any = None
        if last is not None:
            told = self.names[int(last)] if self.plan.query == "sumselect" else float(np.max(last))
        what = {
            "counts": "largest_count",
            "maxsum": "largest_count",
            "sumselect": "leading_column",
        }[self.plan.query]
        return {
            "records": len(self.answers),
            "columns": self.plan.d,
            "strategy": self.plan.strategy,
            "period": self.plan.period,
            what: told,
            "error_bound": self.bound,
            "spent": self.spent,
            "budget": str(self.plan.budget),
        }

    def artifacts(self) -> dict[str, Any]:
        """Answers and plan."""
        import pandas as pd

        number = np.arange(self.first, self.first + len(self.answers))
        if self.answers.ndim == 2:
            table = pd.DataFrame(self.answers, columns=list(self.names))
        elif self.plan.query == "sumselect":
            table = pd.DataFrame({"leader": [self.names[int(j)] for j in self.answers]})
        else:
            table = pd.DataFrame({"answer": self.answers})
        table.insert(0, "record", number)
        plan = self.plan
        return {
            "answers.csv": table,
            "plan.json": {
                "query": plan.query,
                "strategy": plan.strategy,
                "T": plan.T,
                "columns": plan.d,
                "period": plan.period,
                "noise_scale": float(plan.scale),
                "budget": str(plan.budget),
                "error_bound": self.bound,
                "beta": plan.beta,
                "max_ones": plan.max_ones,
                "neighbours": plan.neighbours,
                "column_seed": plan.column_seed,
            },
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Answers over time with their band; the ten largest counts, or which column leads."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        n = len(self.answers)
        shown = (
            np.unique(np.linspace(0, n - 1, min(n, 2000)).astype(int)) if n else np.zeros(0, int)
        )
        x = shown + self.first
        if self.plan.query == "sumselect":
            led, places = np.unique(self.answers[shown], return_inverse=True)
            ax.step(x, places, where="post")
            ax.set_yticks(range(len(led)), [self.names[int(j)] for j in led])
            ax.set(xlabel="records", ylabel="column that leads")
            return ax
        columns = self.answers[:, None] if self.answers.ndim == 1 else self.answers
        best = np.argsort(-columns[-1])[:10] if n else []
        for j in best:
            y = columns[shown, j]
            (line,) = ax.plot(
                x, y, label=self.names[j] if self.answers.ndim == 2 else "largest count, private"
            )
            band = f"± {self.bound:.4g}, all times at once" if j == best[0] else None
            ax.fill_between(
                x,
                y - self.bound,
                y + self.bound,
                color=line.get_color(),
                alpha=0.2,
                linewidth=0,
                label=band,
            )
        ax.set(xlabel="records", ylabel="running count")
        ax.legend(frameon=False, fontsize="small")
        return ax


def release_stream(
    stream: Annotated[Any, Data("stream")],
    *,
    query: Query = "maxsum",
    T: int | None = None,
    rho: float | None = None,
    epsilon: float | None = None,
    delta: float | None = None,
    strategy: Strategy = "auto",
    column: str | None = None,
    categories: str | Sequence[str] | None = None,
    on_unknown: Literal["error", "other"] = "error",
    max_ones: int | None = None,
    neighbours: Neighbours = "replace",
    beta: float = 0.05,
    truth: Literal["discard", "measure"] = "discard",
    reveal: bool = False,
    follow: bool = False,
    state: Path | None = None,
    insecure_seed: int | None = None,
) -> PrivateStream:
    """Answer after every record of a stream, with one privacy budget for all of it.

    Parameters
    ----------
    stream : array_like, scipy.sparse, iterable of rows, or Log
        Records of zeros and ones, shape (n, d); or one category each, in a one-dimensional array or the `column` of a file.
    query : {"counts", "maxsum", "sumselect"}
        All running counts, the largest one, or which column leads.
    T : int, optional
        Longest stream, from public knowledge. Without it the stream goes on in epochs of twice the length each, which costs
        accuracy.
    rho : float, optional
        Budget in zero-concentrated differential privacy; 0.5 if nothing is given.
    epsilon : float, optional
        Budget in (ε, δ), or pure ε without `delta`.
    delta : float, optional
        δ for `epsilon`; with `rho` only what ε is reported for.
    strategy : {"auto", "recompute", "tree", "sqrt", "naive"}
        By default the one with the smallest error bound.
    column : str, optional
        Column of the file that holds the category.
    categories : sequence of str, or str with commas, optional
        The public list of categories; read from the data it makes the privacy certificate void. Where records are rows of
        zeros and ones: names of the columns.
    on_unknown : {"error", "other"}
        What to do with a category that is not in the list: stop, or count it under "(other)".
    max_ones : int, optional
        Ones that a record may have; those beyond are dropped in a public order. Fewer ones, less noise.
    neighbours : {"replace", "add-remove"}
        Whether neighbouring streams have one record replaced, or added or taken away.
    beta : float
        Probability with which the error bound may be broken.
    truth : {"discard", "measure"}
        Whether to measure the true error of every answer, which is not private.
    reveal : bool
        Put the measured error into the certificate, and so on screen and into files.
    follow : bool
        Wait for more lines at the end of a file, and print an answer for each, until interrupted.
    state : Path, optional
        Where to keep the secret state, so that a stream can be continued after a stop; with `follow` by default beside the
        file.
    insecure_seed : int, optional
        Repeatable noise for tests; the privacy certificate is then void.

    Returns
    -------
    PrivateStream

    Raises
    ------
    TypeError, ValueError
        If records or options are not as described; no message shows a record.
    RuntimeError
        If the state was already continued elsewhere.

    References
    ----------
    Jain, Raskhodnikova, Sivakumar, Smith (ICML 2023), arXiv 2112.00828.

    Examples
    --------
    >>> X = np.random.default_rng(0).integers(0, 2, (500, 4))
    >>> private = release_stream(X, query="counts", T=500, rho=0.5)
    >>> private.answers.shape
    (500, 4)
    """
    as_choice(query, "query", tuple(MECHANISMS))
    as_choice(truth, "truth", ("discard", "measure"))
    as_choice(on_unknown, "on_unknown", ("error", "other"))
    if reveal and truth == "discard":
        raise ValueError("reveal must go with truth='measure': nothing is measured otherwise")
    if follow and not isinstance(stream, Log):
        raise ValueError("follow must go with a csv or tsv file")
    horizon = None if T is None else as_int(T, "T", low=1)
    source = _Records(stream, column, categories, on_unknown, follow)
    if rho is None and epsilon is None:
        rho = 0.5
    if source.categorical:
        max_ones = 1  # a record is one category: two entries change, not d
    mechanism = MECHANISMS[query](
        len(source.names),
        T=horizon or FIRST_EPOCH,
        rho=rho,
        epsilon=epsilon,
        delta=delta,
        strategy=strategy,
        max_ones=max_ones,
        neighbours=neighbours,
        beta=beta,
        horizon="fixed" if horizon else "double",
        insecure_seed=insecure_seed,
    )
    mechanism.faults.extend(source.faults)
    if follow and state is None:
        state = stream.path.with_name(stream.path.name + ".whp-state")
    if state is None:
        return _play(mechanism, source, None, truth, reveal, follow)
    kept = StateFile(Path(state))
    with kept.locked():
        return _play(mechanism, source, kept, truth, reveal, follow)


def _play(
    mechanism: Mechanism,
    source: _Records,
    kept: StateFile | None,
    truth: str,
    reveal: bool,
    follow: bool,
) -> PrivateStream:
    answers: list[np.ndarray] = []
    errors: list[np.ndarray] | None = [] if truth == "measure" else None
    first = 1
    sums = np.zeros(mechanism.d, dtype=np.int64)
    if kept is not None and kept.path.exists():
        if errors is not None:
            raise ValueError(
                "truth must be 'discard' where a state is continued: the records before it are gone"
            )
        answers.append(kept.load(mechanism))  # they were about to leave when it was written
        first = mechanism.t - len(answers[0]) + 1
        source.show(answers[0], first, mechanism.query, follow)
    try:
        # The square root transforms the whole stream at once; the others forget what they have counted.
        size = source.count if source.count and mechanism.plan.strategy == "sqrt" else BATCH
        for rows in source.batches(mechanism.t, source.count, size):
            checked = mechanism.checked(rows)
            given = mechanism.run(rows)
            if kept is not None:
                kept.save(mechanism, given)
            source.show(given, mechanism.t - len(given) + 1, mechanism.query, follow)
            answers.append(given)
            if errors is not None:
                counts = sums + np.cumsum(checked, axis=0, dtype=np.int64)
                sums = counts[-1]
                errors.append(error_of(mechanism.query, given, counts))
    except KeyboardInterrupt:
        if not follow:
            raise
    if not answers:
        raise ValueError("stream must have at least one record")
    whole = np.concatenate(answers)
    measured = None if errors is None else np.concatenate(errors)
    return PrivateStream(
        answers=whole,
        names=source.names,
        plan=replace(mechanism.plan, budget=mechanism.base.budget),
        spent=mechanism.spent(),
        bound=mechanism.error_bound(),
        certificates=mechanism.certificates(measured if reveal else None),
        errors=measured,
        first=first,
    )


def error_of(query: str, answers: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Error of each answer against the true counts."""
    if query == "counts":
        return np.abs(answers - counts).max(axis=1)
    if query == "maxsum":
        return np.abs(answers - counts.max(axis=1))
    return (counts.max(axis=1) - counts[np.arange(len(counts)), answers]).astype(np.float64)


class _Records:
    """Rows of zeros and ones out of whatever a stream is given as."""

    def __init__(
        self,
        stream: Any,
        column: str | None,
        categories: str | Sequence[str] | None,
        on_unknown: str,
        follow: bool,
    ) -> None:
        self.stream: Any = stream
        self.follow = follow
        self.faults: list[str] = []
        self.count: int | None = None
        self._place: dict[str, int] | None = None
        self._unknown = on_unknown
        self._column = -1
        if stream is None:
            raise TypeError("stream must be an array, an iterable of rows or a file, got None")
        if isinstance(stream, Log):
            self._from_log(stream, column, categories)
            return
        if column is not None:
            if not hasattr(stream, "columns") or column not in stream.columns:
                raise ValueError(f"column {column!r} is not in the stream")
            stream = stream[column].to_numpy()
        names = column_names(stream)
        if isinstance(stream, Iterable) and not hasattr(stream, "__len__") and not issparse(stream):
            if categories is not None:
                self._list(categories)
            self.names = self._peek(iter(stream))
            return
        try:
            array: Any = stream if issparse(stream) else np.asarray(stream)
        except ValueError as error:
            raise ValueError("stream must have records of one width") from error
        if array.ndim == 1 and array.size:
            labels = array.astype(str)
            self._list(categories if categories is not None else self._found(labels.tolist()))
            self.stream, self.names, self.count = labels, self._names(), len(labels)
            return
        if array.ndim != 2 or 0 in array.shape:
            raise ValueError(f"stream must have records and columns, got shape {array.shape}")
        if categories is not None:
            named = categories.split(",") if isinstance(categories, str) else categories
            names = tuple(str(c).strip() for c in named)
            if len(names) != array.shape[1]:
                raise ValueError(
                    f"categories must name the {array.shape[1]} columns, got {len(names)}"
                )
        self.stream = array.tocsr() if issparse(array) else array
        self.names = names or tuple(f"column {j}" for j in range(array.shape[1]))
        self.count = array.shape[0]

    @property
    def categorical(self) -> bool:
        """Whether each record is one category."""
        return self._place is not None

    def _from_log(
        self, log: Log, column: str | None, categories: str | Sequence[str] | None
    ) -> None:
        header = log.header
        if column is None and categories is None and len(header) > 1:
            self.names = header
            return
        name = next(iter(header)) if column is None else column
        if name not in header:
            raise ValueError(f"column must be one of {', '.join(header)}, got {name!r}")
        self._column = header.index(name)
        if categories is None and self.follow:
            raise ValueError(
                "categories must be given for a file that is still growing, from public knowledge"
            )
        if categories is None:
            categories = self._found(
                [row[self._column] for batch in log.batches() for row in batch]
            )
        self._list(categories)
        self.names = self._names()

    def _found(self, labels: list[str]) -> list[str]:
        self.faults.append("categories were read from the data")
        found = sorted(set(labels))
        if len(found) > 10_000:
            raise ValueError(f"categories must be given: the data have {len(found)} different ones")
        return found

    def _list(self, categories: str | Sequence[str]) -> None:
        told = (
            [c.strip() for c in categories.split(",")]
            if isinstance(categories, str)
            else list(map(str, categories))
        )
        if len(set(told)) != len(told) or not told:
            raise ValueError("categories must be a list of different names")
        if self._unknown == "other":
            told.append(OTHER)
        self._place = {name: j for j, name in enumerate(told)}

    def _names(self) -> tuple[str, ...]:
        assert self._place is not None
        return tuple(self._place)

    def _peek(self, rows: Iterator[Any]) -> tuple[str, ...]:
        if self._place is not None:
            self.stream = rows
            return self._names()
        first = next(rows, None)
        if first is None:
            raise ValueError("stream must have at least one record")
        if np.ndim(first) != 1 or np.size(first) == 0:
            raise ValueError(
                f"stream must give rows of zeros and ones, or categories; got an entry of shape {np.shape(first)}"
            )

        def again() -> Iterator[Any]:
            yield first
            yield from rows

        self.stream = again()
        return tuple(f"column {j}" for j in range(np.size(first)))

    def _one_hot(self, labels: Sequence[str], start: int) -> np.ndarray:
        assert self._place is not None
        rest = self._place.get(OTHER, -1)
        where = np.array([self._place.get(label, rest) for label in labels])
        if (where < 0).any():
            t = start + int(np.flatnonzero(where < 0)[0]) + 1
            raise ValueError(
                f"record {t} has a category that is not in categories; use on_unknown='other'"
            )
        rows = np.zeros((len(where), len(self._place)), dtype=np.uint8)
        rows[np.arange(len(where)), where] = 1
        return rows

    def batches(self, skip: int, total: int | None, size: int) -> Iterator[Any]:
        """Blocks of rows after the first `skip` records."""
        if isinstance(self.stream, Log):
            done = skip
            for batch in self.stream.batches(skip=skip, follow=self.follow):
                yield self._parsed(batch, done)
                done += len(batch)
        elif total is not None:
            for start in track(range(skip, total, size), "answering"):
                part = self.stream[start : start + size]
                yield self._one_hot(part.tolist(), start) if self._place is not None else part
        else:
            for number, row in enumerate(self.stream):
                if number >= skip:
                    yield (
                        self._one_hot([str(row)], number)
                        if self._place is not None
                        else np.asarray(row)[None]
                    )

    def _parsed(self, batch: list[list[str]], done: int) -> np.ndarray:
        if self._place is not None:
            short = next((i for i, row in enumerate(batch) if len(row) <= self._column), None)
            if short is not None:
                raise ValueError(f"record {done + short + 1} has no column {self._column + 1}")
            return self._one_hot([row[self._column] for row in batch], done)
        for i, row in enumerate(batch):
            if len(row) != len(self.names) or any(v.strip() not in ("0", "1") for v in row):
                raise ValueError(
                    f"record {done + i + 1} must have {len(self.names)} columns of zeros and ones"
                )
        return np.array([[v.strip() == "1" for v in row] for row in batch], dtype=np.uint8)

    def show(self, answers: np.ndarray, first: int, query: str, follow: bool) -> None:
        """Print answers of a file that is followed, one a line."""
        if not follow:
            return
        for t, answer in enumerate(answers, first):
            if query == "sumselect":
                told = self.names[int(answer)]
            else:
                told = "\t".join(f"{v:g}" for v in np.atleast_1d(answer))
            sys.stdout.write(f"{t}\t{told}\n")
        sys.stdout.flush()
