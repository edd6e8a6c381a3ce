"""The dictionary as a scikit-learn transformer."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from whp.interpretability.sae_gba.features import sae_gba

__all__ = ["SparseFeatureCoder"]


class SparseFeatureCoder(TransformerMixin, BaseEstimator):
    """Codes of activations by a sparse autoencoder with prescribed frequencies; see :func:`whp.interpretability.sae_gba`.

    Parameters
    ----------
    n_neurons : int, optional
        By default four times the columns.
    method, n_groups, high, low, steps, batch_size, lr
        As for the function.
    random_state : int, RandomState or None

    Attributes
    ----------
    features_ : SparseFeatures
    components_ : ndarray, shape (n_neurons, n_features)
    """

    def __init__(  # parameters are checked by fit, as scikit-learn wants it
        self,
        n_neurons=None,
        *,
        method: Any = "gba",
        n_groups=10,
        high=0.5,
        low=1e-3,
        steps=1000,
        batch_size=256,
        lr=1e-3,
        random_state=None,
    ) -> None:
        self.n_neurons = n_neurons
        self.method = method
        self.n_groups = n_groups
        self.high = high
        self.low = low
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> SparseFeatureCoder:
        """Train on activations (n, d)."""
        import warnings

        from sklearn.utils import check_random_state

        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=4)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*rows are few")
            self.features_ = sae_gba(
                X,
                self.n_neurons,
                method=self.method,
                n_groups=self.n_groups,
                high=self.high,
                low=self.low,
                steps=self.steps,
                batch_size=self.batch_size,
                lr=self.lr,
                n_seeds=1,
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
