"""The dictionary as a scikit-learn transformer."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from whp.interpretability._sae_gba.front_door import sae_gba
from whp.interpretability._sae_gba.training import Training
from whp.validate import as_real

__all__ = ["SparseFeatureCoder"]


class SparseFeatureCoder(TransformerMixin, BaseEstimator):
    """Codes of activations by a sparse autoencoder with prescribed frequencies; see :func:`whp.interpretability.sae_gba`.

    Parameters
    ----------
    n_neurons : int, optional
        By default four times the columns.
    method : {"gba", "ba", "topk", "l1"}
        Which autoencoder.
    n_groups, high, low, k, l1 : optional
        As for the function.
    steps, batch_size, lr
        Of the training.
    device : str, optional
        Where it is trained, by default on the processor.
    random_state : int, RandomState or None
        Source of randomness.

    Attributes
    ----------
    features_ : SparseFeatures
        What the function returned, with its certificates.
    components_ : ndarray, shape (n_neurons, n_features)
        Unit directions.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(400, 8))
    >>> SparseFeatureCoder(16, low=0.1, steps=20, random_state=0).fit_transform(X).shape
    (400, 16)
    """

    def __init__(  # parameters are checked by fit, as scikit-learn wants it
        self,
        n_neurons=None,
        *,
        method: Any = "gba",
        n_groups=None,
        high=None,
        low=None,
        k=None,
        l1=None,
        steps=1000,
        batch_size=256,
        lr=1e-3,
        device=None,
        random_state=None,
    ) -> None:
        self.n_neurons = n_neurons
        self.method = method
        self.n_groups = n_groups
        self.high = high
        self.low = low
        self.k = k
        self.l1 = l1
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, groups: Any = None) -> SparseFeatureCoder:
        """Train on activations (n, d); `groups` says which rows belong together."""
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=4)
        if len(X) > 1 and np.ptp(X, axis=0).max() == 0:
            raise ValueError("X must differ from row to row, got equal rows")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        lr = as_real(self.lr, "lr")
        # The theorem's algorithm takes neither steps of Adam nor batches.
        training = Training() if self.method == "ba" else Training(self.steps, self.batch_size, lr)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*rows are few")
            self.features_ = sae_gba(
                X,
                self.n_neurons,
                groups=groups,
                method=self.method,
                n_groups=self.n_groups,
                high=self.high,
                low=self.low,
                k=self.k,
                l1=self.l1,
                training=training,
                n_seeds=1,
                device=self.device,
                rng=seed,
            )
        self.components_ = self.features_.decoder
        return self

    def transform(self, X: Any) -> csr_array:
        """Sparse codes (n, n_neurons)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self.features_.encode(X).astype(X.dtype)

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """Activations of codes."""
        check_is_fitted(self)
        return self.features_.decode(Z)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """``feature0`` and so on."""
        check_is_fitted(self)
        return np.array([f"feature{i}" for i in range(len(self.components_))], dtype=object)
