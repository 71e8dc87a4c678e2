"""Class-balanced choices: balanced, without chance, and nested or spread."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hssl_ray.data.subset import balanced_subset, spread_subset

label_lists = st.lists(st.integers(0, 3), min_size=20, max_size=80).filter(
    lambda labels: len(set(labels)) == 4 and min(labels.count(label) for label in set(labels)) >= 3
)


@given(label_lists, st.integers(1, 3))
@pytest.mark.parametrize("choose", [balanced_subset, spread_subset])
def test_every_class_has_its_share_in_ascending_order(choose, labels: list[int], share: int) -> None:  # type: ignore[no-untyped-def]
    tensor = torch.tensor(labels)
    chosen = choose(tensor, 4 * share)
    assert chosen.dtype == torch.int64
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert torch.bincount(tensor[chosen], minlength=4).tolist() == [share] * 4
    assert torch.equal(chosen, choose(tensor, 4 * share))


@given(label_lists)
def test_a_smaller_prefix_is_part_of_a_larger_one(labels: list[int]) -> None:
    small, large = (set(balanced_subset(torch.tensor(labels), count).tolist()) for count in (4, 12))
    assert small < large


def test_a_prefix_takes_the_first_of_each_class() -> None:
    assert balanced_subset(torch.tensor([0, 0, 0, 1, 1, 0, 1, 1]), 4).tolist() == [0, 1, 3, 4]


def test_a_spread_reaches_the_end_of_each_class_where_a_prefix_does_not() -> None:
    labels = torch.arange(1000) % 10
    spread, prefix = spread_subset(labels, 100), balanced_subset(labels, 100)
    halves = [int((chosen < 500).sum()) for chosen in (spread, prefix)]
    assert halves == [50, 100]


@pytest.mark.parametrize("choose", [balanced_subset, spread_subset])
def test_an_impossible_count_is_refused(choose) -> None:  # type: ignore[no-untyped-def]
    labels = torch.tensor([0, 0, 0, 1])
    for count, says in ((3, "multiple of the 2 classes, got 3"), (0, "got 0"), (4, "2 images of class 1, which has 1")):
        with pytest.raises(ValueError, match=says):
            choose(labels, count)
