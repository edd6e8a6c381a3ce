"""The front door: a table, a log that is still growing, or an iterator in; private answers out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from whp.door import Above, AtLeast, Fraction, Range, front_door
from whp.io import Data, Log
from whp.io.streams import BadRecord
from whp.privacy._dp_continual_release.accuracy import Neighbours, Query, Strategy
from whp.privacy._dp_continual_release.mechanisms import (
    ContinualArgmax,
    ContinualCounter,
    ContinualMaxSum,
    Mechanism,
)
from whp.privacy._dp_continual_release.records import Records
from whp.privacy._dp_continual_release.result import PrivateStream
from whp.privacy._dp_continual_release.state import StateFile
from whp.text import visible

__all__ = ["error_of", "release_stream"]

MECHANISMS = {"counts": ContinualCounter, "maxsum": ContinualMaxSum, "sumselect": ContinualArgmax}
FIRST_EPOCH = 1024


@front_door
def release_stream(
    stream: Annotated[Any, Data("stream")],
    *,
    query: Query = "maxsum",
    T: Annotated[int, AtLeast(1)] | None = None,
    horizon: Literal["fixed", "double"] | None = None,
    rho: Annotated[float, Above(0)] | None = None,
    epsilon: Annotated[float, Above(0)] | None = None,
    delta: Annotated[float, Range(0, 1, open_high=True)] | None = None,
    strategy: Strategy = "auto",
    column: str | None = None,
    categories: str | Sequence[Any] | np.ndarray | None = None,
    on_unknown: Literal["error", "other", "none"] = "error",
    max_ones: Annotated[int, AtLeast(1)] | None = None,
    neighbours: Neighbours = "replace",
    beta: Annotated[float, Fraction()] = 0.05,
    measure: bool = False,
    reveal: bool = False,
    follow: bool = False,
    state: Path | None = None,
    rotated: Literal["error", "continue"] = "error",
    every: Annotated[int, AtLeast(1)] | None = None,
    insecure_seed: Annotated[int, AtLeast(0)] | None = None,
) -> PrivateStream:
    """Answer after every record of a stream, with one privacy budget for all of it.

    Parameters
    ----------
    stream : array_like, scipy.sparse, iterable of rows, or Log
        Records of zeros and ones, shape (n, d), or (n,) for one column; or one category each, in a one-dimensional array or
        the `column` of a table, of which `categories` lists the values.
    query : {"counts", "maxsum", "sumselect"}
        All running counts, the largest one, or which column leads.
    T : int, optional
        Longest stream, from public knowledge. Without it the stream goes on in epochs of twice the length each, which costs
        accuracy.
    horizon : {"fixed", "double"}, optional
        Whether the stream ends at `T`, or T is the length of the first epoch; by default fixed if T is given, else double from
        1,024 records.
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
        The public list of categories. "from-data" reads it from the data, which publishes it and makes the privacy
        certificate void. Where records are rows of zeros and ones: names of the columns.
    on_unknown : {"error", "other", "none"}
        What to do with a record that is not as described: stop after those before it, which tells that it is not; count its
        category under "(other)"; or count it for no column, as a row of zeros.
    max_ones : int, optional
        Ones that a record may have; those beyond are dropped in a public order. Fewer ones, less noise, and answers about
        the cut stream.
    neighbours : {"replace", "add-remove"}
        Whether neighbouring streams have one record replaced, or one that is there in one of them and a row of zeros in the
        other ("add-remove": the stream is as long without it).
    beta : float
        Probability with which the error bound may be broken.
    measure : bool
        Measure the true error of every answer, which is not private: it is in `errors` of the result alone.
    reveal : bool
        Put the measured error into the certificate, and so on screen and into files.
    follow : bool
        Wait for more lines at the end of a file, and print an answer for each, until interrupted.
    state : Path, optional
        Where to keep the secret state, so that a stream can be continued after a stop; with `follow` by default beside the
        file. A last line that has not ended yet is then left to the next run. It is written when the stream has ended, before
        any answer leaves, so that a run that is killed loses none; with `follow` before each line. Answers that it holds come
        again in the next run.
    rotated : {"error", "continue"}
        What to do where another file has taken the place of the one that was answered before: stop, or take its records as
        those that come next.
    every : int, optional
        Write every so many-th answer to answers.csv, and the last one; by default so that it has a million numbers at most.
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
    if reveal and not measure:
        raise ValueError("reveal must go with measure=True: nothing is measured otherwise")
    if follow and not isinstance(stream, Log):
        raise ValueError("follow must go with a csv or tsv file")
    if horizon == "fixed" and T is None:
        raise ValueError("T must be given with horizon='fixed'")
    if follow and state is None:
        state = stream.path.with_name(stream.path.name + ".whp-state")
    if rotated == "continue" and (state is None or not isinstance(stream, Log)):
        raise ValueError("rotated must be 'error' but for a csv or tsv file with a state")
    records = Records(stream, column, categories, on_unknown, follow=follow, rotated=rotated)
    if records.categories is not None:
        if max_ones not in (None, 1):
            raise ValueError(f"max_ones must be left out: a record is one category, got {max_ones}")
        max_ones = 1  # two entries change, not d
    if records.count and T and horizon != "double" and records.count > T:
        raise ValueError(
            f"T must be at least the {records.count} records of the stream with horizon='fixed', got {T}"
        )
    mechanism = MECHANISMS[query](
        len(records.names),
        T=T or FIRST_EPOCH,
        rho=0.5 if rho is None and epsilon is None else rho,
        epsilon=epsilon,
        delta=delta,
        strategy=strategy,
        max_ones=max_ones,
        neighbours=neighbours,
        beta=beta,
        horizon=horizon or ("fixed" if T else "double"),
        insecure_seed=insecure_seed,
    )
    mechanism.faults.extend(records.faults)
    play = _Play(mechanism, records, measure, reveal, every)
    if state is None:
        return play.run()
    play.kept = StateFile(Path(state))
    records.whole = True
    with play.kept.locked():
        return play.run()


class _Play:
    """One run of a stream through a mechanism."""

    def __init__(
        self, mechanism: Mechanism, records: Records, measure: bool, reveal: bool, every: int | None
    ) -> None:
        self.mechanism, self.records = mechanism, records
        self.measure, self.reveal, self.every = measure, reveal, every
        self.kept: StateFile | None = None
        self.answers: list[np.ndarray] = []
        self.errors: list[np.ndarray] = []
        self.first = 1
        self._kept_at = 0  # records that the state on disk has seen
        self._sums = np.zeros(mechanism.d, dtype=np.int64)
        self._ones = [0, 0]  # kept, cut

    def run(self) -> PrivateStream:
        place = self._resume()
        try:
            return self._played(place)
        except BaseException:
            self._withdraw()
            raise

    def _played(self, place: dict[str, Any]) -> PrivateStream:
        mechanism, records = self.mechanism, self.records
        try:
            # The square root transforms the whole stream at once; the others forget what they have counted.
            size = records.count if mechanism.plan.strategy == "sqrt" else None
            for block in records.blocks(mechanism.t, place, size):
                if block.rows.shape[0]:
                    self._answer(block.rows, block.place)
                    place = block.place
                if block.bad:
                    self._stop(block.bad, place)
        except KeyboardInterrupt:
            if not records.follow:
                raise
            self._withdraw()
        except TypeError:  # of what records are made of
            mechanism.exposed = 1
            self._keep(self._last(), place)
            raise
        if not self.answers:
            raise ValueError("stream must have at least one record")
        if not records.follow and mechanism.t > self._kept_at:
            self._keep(self._last(), place)
        errors = np.concatenate(self.errors) if self.errors else None
        share = self._ones[1] / max(sum(self._ones), 1)
        return PrivateStream(
            answers=np.concatenate(self.answers),
            names=records.names,
            plan=replace(mechanism.plan, budget=mechanism.base.budget),
            spent=mechanism.spent(),
            bound=mechanism.error_bound(),
            certificates=mechanism.certificates(
                errors if self.reveal else None, cut=share if self.reveal else None
            ),
            errors=errors,
            first=self.first,
            records=records.described,
            every=self.every,
        )

    def _resume(self) -> dict[str, Any]:
        """Answers that were about to leave come again; the place from which to go on."""
        if self.kept is None or not self.kept.exists():
            return {}
        if self.measure:
            raise ValueError(
                "measure must be False where a state is continued: the records before it are gone"
            )
        answers, source = self.kept.load(self.mechanism)
        place = source.pop("place", {})
        if source != self.records.source:
            other = [k for k, v in self.records.source.items() if source.get(k) != v]
            raise ValueError(f"{self.kept.path}: state was written with another {', '.join(other)}")
        self._kept_at = self.mechanism.t
        self.first = self.mechanism.t - len(answers) + 1
        if len(answers):
            self._give(answers)
        return place

    def _withdraw(self) -> None:
        """What was answered after the state on disk did not leave, and no one will ever see it."""
        kept, mechanism = self.kept, self.mechanism
        if kept is not None and mechanism.t > self._kept_at and not kept.knows(mechanism):
            mechanism.withdraw(self._kept_at)

    def _answer(self, rows: Any, place: dict[str, Any]) -> None:
        mechanism = self.mechanism
        answers = mechanism.run(rows)
        if self.records.follow:  # they leave now; all others when the stream has ended
            self._keep(answers, place)
        self._give(answers)
        if self.measure:
            came = rows.toarray() if hasattr(rows, "toarray") else np.asarray(rows)
            counts = self._sums + np.cumsum(came, axis=0, dtype=np.int64)
            self._sums = counts[-1]
            ones = came.sum(axis=1, dtype=np.int64)
            kept = int(np.minimum(ones, mechanism.base.max_ones or mechanism.d).sum())
            self._ones[0] += kept
            self._ones[1] += int(ones.sum()) - kept
            self.errors.append(error_of(mechanism.query, answers, counts))

    def _keep(self, answers: np.ndarray, place: dict[str, Any]) -> None:
        if self.kept is not None:
            source = {**self.records.source, "place": place}
            self.kept.save(self.mechanism, answers, source)
            self._kept_at = self.mechanism.t

    def _stop(self, bad: str, place: dict[str, Any]) -> None:
        """A bad record: that it is bad is told now, which the state remembers."""
        answered = self.mechanism.t
        if self.kept is None:
            raise BadRecord(bad)
        self.mechanism.exposed = 1
        self._keep(self._last(), place)
        raise BadRecord(
            f"{bad}; the {answered} before it are answered, and come again from {self.kept.path}"
        )

    def _last(self) -> np.ndarray:
        return np.concatenate(self.answers) if self.answers else np.zeros(0)

    def _give(self, answers: np.ndarray) -> None:
        """Keep the answers for the result, and print them where a file is followed."""
        start = self.mechanism.t - len(answers) + 1
        self.answers.append(answers)
        if not self.records.follow:
            return
        for t, answer in enumerate(answers, start):
            if self.mechanism.query == "sumselect":
                text = visible(self.records.names[int(answer)], keep="")
            else:
                text = "\t".join(f"{v:g}" for v in np.atleast_1d(answer))
            sys.stdout.write(f"{t}\t{text}\n")
        sys.stdout.flush()


def error_of(query: str, answers: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Error of each answer against the true counts."""
    if query == "counts":
        return np.abs(answers - counts).max(axis=1)
    if query == "maxsum":
        return np.abs(answers - counts.max(axis=1))
    return (counts.max(axis=1) - counts[np.arange(len(counts)), answers]).astype(np.float64)
