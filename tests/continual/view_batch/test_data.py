import numpy as np
import pandas as pd
import pytest

from whp.continual._view_batch.data import as_images, as_tasks, two_rows_each

Y = np.array([0, 1, 2, 3])


def test_bytes_and_channels_last_are_read_as_what_they_are():
    X = np.random.default_rng(0).integers(0, 256, (4, 8, 6, 3), dtype=np.uint8)
    images, notes = as_images(X)
    assert images.shape == (4, 3, 8, 6)
    np.testing.assert_allclose(images, X.transpose(0, 3, 1, 2) / 255, atol=1e-7)
    assert notes == ["bytes as shares of 255", "the last axis as channels"]
    first, notes = as_images(X.transpose(0, 3, 1, 2) / 255)
    np.testing.assert_allclose(first, images, atol=1e-7)
    assert not notes


def test_bytes_that_are_all_small_are_bytes_too():
    images, _ = as_images(np.ones((2, 4, 4), np.uint8))
    assert images.max() == pytest.approx(1 / 255)


def test_names_of_tasks_come_in_the_order_of_their_appearance_and_numbers_in_theirs():
    X = np.zeros((4, 4))
    months = ["2023-11", "2023-12", "2024-01", "2023-11"]
    data = as_tasks(X, ["b", "a", "b", "c"], months, own_model=False)
    assert data.tasks.tolist() == [0, 1, 2, 0]
    assert data.order == ("2023-11", "2023-12", "2024-01")
    assert data.labels.tolist() == [0, 1, 0, 2]
    assert data.classes == ("b", "a", "c")
    assert "tasks 2023-11, 2023-12, 2024-01 as 0 to 2" in data.notes
    numbered = as_tasks(X, 1000 * Y, [2, 1, 5, 1], own_model=False)
    assert numbered.tasks.tolist() == [1, 0, 2, 0]
    assert numbered.labels.tolist() == [0, 1, 2, 3]
    assert numbered.order == (1, 2, 5)
    assert not as_tasks(X, Y, [0, 0, 1, 1], own_model=False).notes


def test_class_numbers_are_the_outputs_of_a_model_of_ones_own():
    data = as_tasks(np.zeros((4, 4)), 2 * Y, Y // 2, own_model=True)
    assert data.labels.tolist() == [0, 2, 4, 6]
    assert len(data.classes) == 7
    large = as_tasks(np.zeros((4, 4)), [0, 1, 10**12, 1], Y // 2, own_model=True)
    assert len(large.classes) == 10**12 + 1  # for which there is no list of names


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"y": [0, -1, 1, 1]}, "y must hold whole class numbers"),
        ({"y": [0.5, 1, 1, 1]}, "y must hold whole class numbers"),
        ({"y": ["a", "b"]}, "y must have 4 entries"),
        ({"y": ["a", 1, "b", None]}, "y"),
        ({"task": [0, 1]}, "task must have 4 entries"),
        ({"X": np.full((4, 4), 2.0)}, "divide by 255"),
        ({"X": np.full((4, 4), np.inf)}, "X must be finite"),
        ({"X": np.zeros((4, 0))}, "X must be"),
        ({"X": np.ma.masked_equal(np.eye(4), 0)}, "X must have no masked entries"),
        ({"X": np.eye(4) + 1j}, "X must be real"),
        ({"X": np.zeros((4, 4), "M8[D]")}, "X must hold real numbers, got dates"),
        ({"X": np.eye(4).astype(str)}, "X must hold real numbers, got text"),
        ({"X": np.full((4, 4), 1e300)}, "X must be finite"),
        ({"y": np.ma.masked_equal(["a", "b", "a", "b"], "b")}, "y must have no masked entries"),
        ({"y": ["a", "", "b", " "]}, "y must have no empty text, got 2 of it, first in row 1"),
        ({"task": pd.Series(["s1", "s1", "s2", ""])}, "task must have no empty text"),
    ],
)
def test_what_is_none_of_these_is_named(change, named):
    good = {"X": np.zeros((4, 4)), "y": Y, "task": Y // 2}
    with pytest.raises((TypeError, ValueError), match=named):
        as_tasks(**(good | change), own_model=False)


def test_bytes_of_a_mask_are_named():
    _, notes = as_images(np.array([[0, 1, 1, 0]] * 4, np.uint8))
    assert "Booleans" in notes[0]
    images, notes = as_images(np.array([[False, True]] * 4))
    assert images.max() == 1
    assert not notes


def test_tensors_that_want_gradients_are_read():
    torch = pytest.importorskip("torch")
    assert as_images(torch.rand(3, 4, 4).requires_grad_())[0].shape == (3, 1, 4, 4)
    half = as_images(torch.full((3, 4, 4), 0.5, dtype=torch.bfloat16))[0]
    assert half.dtype == np.float32


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int8, bool, object])
def test_images_of_any_type_are_the_same_images(kind):
    X = np.eye(4).astype(kind)
    for given in (X, X.tolist(), np.asfortranarray(X), pd.DataFrame(X)):
        np.testing.assert_array_equal(as_images(given)[0], np.eye(4, dtype=np.float32))


def test_text_of_any_make_is_text():
    text = ["b", "a", "b", "a"]
    makes = [np.array([np.str_(v) for v in text], dtype=object), pd.Series(text, dtype="category")]
    for y in [*makes, pd.Series(text, dtype="string"), np.ma.array(text)]:
        data = as_tasks(np.zeros((4, 4)), y, Y // 2, own_model=False)
        assert data.labels.tolist() == [0, 1, 0, 1]


def test_a_class_of_one_row_is_named_as_it_was_given():
    y = np.array(["cat", "dog", "cat", "dog", "fox"])
    data = as_tasks(np.zeros((5, 4)), y, [2020, 2020, 2020, 2020, 2023], own_model=False)
    with pytest.raises(ValueError, match="class fox of task 2023 has 1"):
        two_rows_each(data)
