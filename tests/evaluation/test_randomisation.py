"""Random copies of a model, from the head down, and cells whose genes changed places."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradgene.errors import AttributionError
from gradgene.evaluation.randomisation import cascade, randomised, shuffle_genes
from gradgene.models import PhenotypeGeneTransformer
from tests.planted import VARIANTS, make_cells, make_model, make_tokenizer

VOCABULARY = make_tokenizer(make_cells()).vocabulary


def tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: x.clone() for name, x in model.state_dict().items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_cascade_takes_every_tensor_once(variant: str) -> None:
    model = make_model(VOCABULARY, **VARIANTS[variant])
    steps = cascade(model)
    assert list(steps) == ["head", "block 2", "block 1", "embeddings"]
    taken = [name for names in steps.values() for name in names]
    assert sorted(taken) == sorted(model.state_dict())


@pytest.mark.parametrize(("variant", "step"), [("ours", "head"), ("tied", "embeddings")])
def test_a_tied_projector_goes_with_the_embeddings(variant: str, step: str) -> None:
    model = make_model(VOCABULARY, **VARIANTS[variant])
    tied = model.size["tied"]
    weight = "value_embedding.weight" if tied else "head_projector.weight"
    assert weight in cascade(model)[step]
    assert ("head_projector.weight" in model.state_dict()) is not tied


@pytest.mark.parametrize("variant", ["ours", "pre-norm-classifier", "tied-sphere"])
def test_each_step_takes_its_own_and_leaves_the_rest(variant: str) -> None:
    model = make_model(VOCABULARY, **VARIANTS[variant])
    before, state = tensors(model), torch.get_rng_state()
    deepest = tensors(randomised(model, 4, seed=7))
    for depth in range(5):
        found = tensors(randomised(model, depth, seed=7))
        drawn = {n for names in [*cascade(model).values()][:depth] for n in names}
        for name, x in found.items():
            assert torch.equal(x, deepest[name] if name in drawn else before[name]), name
    changed = [n for n, x in deepest.items() if x.ndim > 1 and torch.equal(x, before[n])]
    assert not changed
    assert all(torch.equal(x, before[n]) for n, x in tensors(model).items())
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_learnt_is_left_at_the_end_and_it_is_as_constructed() -> None:
    one, other = (make_model(VOCABULARY, seed=seed, initial_std=0.02) for seed in (0, 1))
    ends = [tensors(randomised(model, 4, seed=3)) for model in (one, other)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        trained_from = PhenotypeGeneTransformer(VOCABULARY, **one.size).state_dict()
    for name, x in trained_from.items():
        assert torch.equal(ends[0][name], ends[1][name])
        if x.std() > 0:  # biases and norms begin as constants
            assert not torch.equal(ends[0][name].float(), x), "the weights training began with"
            assert 0.5 < ends[0][name].std() / x.std() < 2
    weight = "blocks.0.lin1.weight"
    assert not torch.equal(ends[0][weight], randomised(one, 4, seed=4).state_dict()[weight])


def test_no_such_depth() -> None:
    with pytest.raises(AttributionError, match="not so deep"):
        randomised(make_model(VOCABULARY), 5)


def test_shuffled_genes_take_the_values_of_others() -> None:
    cells = make_cells()
    before = cells.matrix_ng.toarray()
    shuffled, from_g = shuffle_genes(cells, seed=1)
    after = shuffled.matrix_ng.toarray()
    assert sorted(from_g) == list(range(len(cells.genes)))
    assert not (from_g == np.arange(len(from_g))).any()
    assert (after == before[:, from_g]).all()
    assert (after.sum(axis=1) == before.sum(axis=1)).all()  # the depth stays
    assert (cells.matrix_ng.toarray() == before).all()
    assert shuffled.genes == cells.genes
    assert not np.array_equal(shuffle_genes(cells, seed=2)[1], from_g)
