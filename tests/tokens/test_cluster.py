"""Clusters of tokens: k-means, one token of each, and what it passes on."""

from __future__ import annotations

import pytest
import torch

from tocache.tokens import cluster_tokens, pass_on, select_from_clusters


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_around_far_centres_are_found(dtype):
    truth = torch.arange(21) % 3
    centres = 100 * torch.eye(3)
    x = (centres[truth] + torch.randn(2, 21, 3, generator=generator())).to(dtype)
    for seed in range(20):
        labels = cluster_tokens(x, 3, generator=generator(seed))
        assert labels.shape == (2, 21)
        groups = {(int(a), int(b)) for a, b in zip(labels[0], truth, strict=True)}
        if len(groups) == 3:  # a start with two tokens of one centre may end elsewhere
            break
    assert len(groups) == 3


def test_no_token_has_a_nearer_centre_than_its_own():
    x = torch.randn(3, 50, 4, generator=generator(1))
    labels = cluster_tokens(x, 6, generator=generator(2), iterations=100).long()
    for row in range(3):
        found = labels[row].unique()
        means = torch.stack([x[row][labels[row] == k].mean(dim=0) for k in found])
        nearest = found[torch.cdist(x[row], means).argmin(dim=1)]
        assert torch.equal(nearest, labels[row])


def test_as_many_clusters_as_tokens_are_one_token_each():
    x = torch.randn(2, 9, 5, generator=generator())
    assert all(len(row.unique()) == 9 for row in cluster_tokens(x, 9, generator=generator()))


def test_the_best_of_each_cluster_come_first_then_the_best_of_the_rest():
    score = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5, 0.4]])
    clusters = torch.tensor([[0, 0, 0, 1, 1, 2]], dtype=torch.int32)
    assert select_from_clusters(score, clusters, 3).tolist() == [[0, 3, 5]]
    assert select_from_clusters(score, clusters, 5).tolist() == [[0, 3, 5, 1, 2]]


def test_equal_scores_go_by_index_and_nan_comes_last():
    clusters = torch.tensor([[0, 0, 1, 1]])
    assert select_from_clusters(torch.zeros(1, 4), clusters, 2).tolist() == [[0, 2]]
    assert select_from_clusters(torch.tensor([[torch.nan, 0.0, 0.0, torch.nan]]), clusters, 2).tolist() == [[1, 2]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_token_moves_toward_the_computed_one_of_its_cluster(dtype):
    value = torch.zeros(1, 5, 2, dtype=dtype)
    rows = torch.tensor([[[10.0, 20.0], [2.0, 4.0]]], dtype=dtype)
    clusters = torch.tensor([[0, 0, 1, 1, 2]], dtype=torch.int32)
    moved = pass_on(value, rows, torch.tensor([[0, 3]]), clusters, 0.5)
    assert moved.dtype == dtype
    assert moved[0].tolist() == [[5.0, 10.0], [5.0, 10.0], [1.0, 2.0], [1.0, 2.0], [0.0, 0.0]]
    assert not value.any()


def test_of_two_computed_ones_the_first_counts():
    clusters = torch.zeros(1, 3, dtype=torch.int32)
    rows = torch.tensor([[[1.0], [9.0]]])
    assert pass_on(torch.zeros(1, 3, 1), rows, torch.tensor([[2, 0]]), clusters, 1.0).flatten().tolist() == [1.0] * 3


def test_nothing_is_passed_on_of_a_share_of_0():
    value = torch.randn(2, 6, 3, generator=generator())
    clusters = torch.zeros(2, 6, dtype=torch.int32)
    assert torch.equal(pass_on(value, torch.randn(2, 1, 3), torch.zeros(2, 1, dtype=torch.long), clusters, 0.0), value)
