"""Both occlusions against cells written out token by token, and what they do not compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from gradgene.attribution import (
    AttributionMethod,
    RemoveOcclusion,
    SwapOcclusion,
    Target,
    build_method,
)
from gradgene.attribution.members import embed_members, read_at
from gradgene.errors import AttributionError
from gradgene.models import PhenotypeGeneTransformer
from gradgene.modes import explaining
from gradgene.pairs import BlendedBatch, EmptyBaseline, blend
from gradgene.tokens import TokenBatch, mask_category
from tests.attribution.toys import (
    KINDS,
    MARGIN,
    blended_pairs,
    cells_of,
    one_way,
    random_cells,
    random_model,
    target,
)

SWAP, REMOVE = SwapOcclusion(), RemoveOcclusion()
BOTH = pytest.mark.parametrize("method", [SWAP, REMOVE], ids=lambda m: m.name)
GENE_0 = 3  # position of the first gene: [CLS] sex disease g …
FEMALE, MALE, CASE, CONTROL = 7, 8, 4, 5

Cell = dict[int, int]  # gene -> bin


def written(cell: Cell, sex: int = FEMALE) -> TokenBatch:
    return cells_of([list(cell)], [list(cell.values())], torch.tensor([[sex, CASE]]))


def f_of(model: PhenotypeGeneTransformer, cells: TokenBatch, asked: Target = MARGIN) -> float:
    """The scalar of one cell, by the whole forward pass."""
    masked, _ = mask_category(cells, model.vocabulary, "disease")
    with torch.no_grad():
        logits_nv = model.eval()(masked).logits_ntv[:, 2]
    return float(asked.bind(model.vocabulary).read(logits_nv))


def pair_of(one: Cell, other: Cell, sexes: tuple[int, int] = (FEMALE, MALE)) -> BlendedBatch:
    labels = torch.tensor([[sexes[0], CASE], [sexes[1], CONTROL]])
    cells = cells_of([list(one), list(other)], [list(c.values()) for c in (one, other)], labels)
    return blend(cells, torch.tensor([0]), torch.tensor([1]))


#: Shared in another bin (0), shared in the same bin (2), of the input (1, 5), of the baseline (4).
ONE, OTHER = {0: 1, 1: 3, 2: 2, 5: 4}, {0: 4, 2: 2, 4: 1}


class TestSwap:
    @pytest.mark.parametrize("kind", KINDS)
    def test_equals_cells_written_out(self, kind: str) -> None:
        model, asked = random_model(1), target(kind)
        scores = one_way(SWAP, model, pair_of(ONE, OTHER), asked)
        whole = f_of(model, written(ONE), asked)
        expected = {
            0: f_of(model, written({**ONE, 0: 4}), asked),
            1: f_of(model, written({k: v for k, v in ONE.items() if k != 1}), asked),
            4: f_of(model, written({**ONE, 4: 1}), asked),
            5: f_of(model, written({k: v for k, v in ONE.items() if k != 5}), asked),
        }
        found = of_genes(pair_of(ONE, OTHER), scores.scores_pt)
        assert found[2] == 0.0
        for gene, f in expected.items():
            assert found[gene] == pytest.approx(whole - f, rel=1e-10, abs=1e-12)
            assert abs(found[gene]) > 1e-4
        sex = whole - f_of(model, written(ONE, MALE), asked)
        assert float(scores.scores_pt[0, 1]) == pytest.approx(sex, rel=1e-10, abs=1e-12)
        assert float(scores.f_input_p) == pytest.approx(whole, rel=1e-10)
        baseline = f_of(model, written(OTHER, MALE), asked)
        assert float(scores.f_baseline_p) == pytest.approx(baseline, rel=1e-10)

    def test_one_difference_explains_everything(self) -> None:
        """Members that differ in one token: its score is f_input - f_baseline."""
        for other in ({0: 4, 1: 3}, {0: 1}, {0: 1, 1: 3, 7: 2}):
            blended = pair_of({0: 1, 1: 3}, other, (MALE, MALE))
            scores = one_way(SWAP, random_model(1), blended)
            assert float(scores.delta_p.abs()) <= 1e-12
            assert int((scores.scores_pt != 0).sum()) == 1

    def test_is_what_members_mixed_says(self) -> None:
        """Token by token on the whole blended sequence, nothing left out or run together."""
        model, blended = random_model(2), blended_pairs(8, 3)
        masked, _ = mask_category(blended.cells, model.vocabulary, "disease")
        for pairs in (
            blended.with_cells(masked),
            blended.with_cells(masked).without_baseline_genes(),
            blended.with_cells(masked).with_blank_genes(),
        ):
            bound = MARGIN.bind(model.vocabulary)
            with explaining(model):
                found = SWAP.one_way(model, pairs, bound)
                expected_pt = one_by_one(model, pairs)
            torch.testing.assert_close(found.scores_pt, expected_pt, rtol=0, atol=1e-12)
            assert found.scores_pt.abs().max() > 0.1

    def test_a_token_of_both_members_is_embedding_and_of_one_presence(self) -> None:
        blended = blended_pairs(30, 3)
        scores = one_way(SWAP, random_model(2), blended)
        assert scores.presence_pt is not None
        assert torch.equal(scores.scores_pt, scores.embedding_pt + scores.presence_pt)
        in_i, in_b = blended.input.attention_mask_nt, blended.baseline.attention_mask_nt
        assert (scores.presence_pt[in_i ^ in_b] != 0).all()
        assert (scores.presence_pt[~(in_i ^ in_b)] == 0).all()
        assert (scores.embedding_pt[in_i ^ in_b] == 0).all()

    def test_a_blank_gene_is_embedding(self) -> None:
        """The zero baseline keeps the token: attention still goes there."""
        model, blended = random_model(2), blended_pairs(6, 3).with_blank_genes()
        with explaining(model):
            scores = SWAP.one_way(model, blended, MARGIN.bind(model.vocabulary))
        shown = (blended.gene_ids_pt >= 0) & blended.input.attention_mask_nt
        assert (scores.embedding_pt[shown] != 0).all()
        assert (scores.embedding_pt[~shown] == 0).all()
        assert scores.presence_pt is not None
        assert (scores.presence_pt == 0).all()


def one_by_one(model: PhenotypeGeneTransformer, pairs: BlendedBatch) -> Tensor:
    members, bound = embed_members(model, pairs), MARGIN.bind(model.vocabulary)
    none_pt = torch.zeros_like(members.mask_input_pt)
    scores_pt = none_pt.double()
    with torch.no_grad():
        whole_p = read_at(model, "total", *members.mixed(none_pt), bound)
        for t in range(none_pt.shape[1]):
            swapped_pt = none_pt.clone()
            swapped_pt[:, t] = True
            scores_pt[:, t] = whole_p - read_at(model, "total", *members.mixed(swapped_pt), bound)
    return scores_pt


def of_genes(blended: BlendedBatch, scores_pt: Tensor, pair: int = 0) -> dict[int, float]:
    """Gene -> score."""
    both = zip(blended.gene_ids_pt[pair].tolist(), scores_pt[pair].tolist(), strict=True)
    return {gene: score for gene, score in both if gene >= 0}


class TestRemove:
    @pytest.mark.parametrize("kind", KINDS)
    def test_equals_cells_written_out(self, kind: str) -> None:
        model, asked, blended = random_model(1), target(kind), pair_of(ONE, OTHER)
        scores = one_way(REMOVE, model, blended, asked)
        found, whole = of_genes(blended, scores.scores_pt), f_of(model, written(ONE), asked)
        assert found[4] == 0.0  # the input lacks it
        for gene in ONE:
            without = f_of(model, written({k: v for k, v in ONE.items() if k != gene}), asked)
            assert found[gene] == pytest.approx(whole - without, rel=1e-10, abs=1e-12)
            assert abs(found[gene]) > 1e-4
        assert float(scores.f_input_p) == pytest.approx(whole, rel=1e-10)
        baseline = f_of(model, written(OTHER, MALE), asked)
        assert float(scores.f_baseline_p) == pytest.approx(baseline, rel=1e-10)

    def test_a_phenotype_is_deleted_and_the_target_keeps_its_slot(self) -> None:
        model, blended = random_model(1), pair_of(ONE, OTHER)
        scores = one_way(REMOVE, model, blended)
        cell, whole = written(ONE), f_of(model, written(ONE))
        unattended = replace(cell, attention_mask_nt=cell.attention_mask_nt.clone())
        unattended.attention_mask_nt[0, 1] = False
        expected = whole - f_of(model, unattended)
        assert float(scores.scores_pt[0, 1]) == pytest.approx(expected, rel=1e-10)
        assert abs(expected) > 1e-4

    def test_is_swapping_against_the_empty_baseline(self) -> None:
        model, blended = random_model(3), blended_pairs(10, 4)
        removed = REMOVE.attribute(model, blended, MARGIN, EmptyBaseline())
        swapped = SWAP.attribute(model, blended, MARGIN, EmptyBaseline())
        genes = blended.gene_ids_pt >= 0
        for direction in ("forward", "backward"):
            one, other = (getattr(r, direction).scores_pt[genes] for r in (removed, swapped))
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
            assert (one != 0).any()

    def test_does_not_depend_on_the_baseline(self) -> None:
        model, cells = random_model(3), random_cells(5, 6)
        blended = blend(cells, torch.zeros(4, dtype=torch.int64), torch.arange(1, 5))
        scores_pt = one_way(REMOVE, model, blended).scores_pt
        tables = [of_genes(blended, scores_pt, i) for i in range(4)]
        for gene in cells.gene_ids_nt[0][cells.gene_ids_nt[0] >= 0].tolist():
            assert len({table[gene] for table in tables}) == 1

    def test_a_gene_that_is_not_attended_to_is_not_there(self) -> None:
        model, blended = random_model(1), pair_of(ONE, {0: 4})
        position = blended.gene_ids_pt[0].tolist().index(5)
        hidden = replace(blended.input, attention_mask_nt=blended.input.attention_mask_nt.clone())
        hidden.attention_mask_nt[0, position] = False
        masked, _ = mask_category(hidden, model.vocabulary, "disease")
        with explaining(model):
            bound = MARGIN.bind(model.vocabulary)
            blended = blended.with_cells(
                mask_category(blended.cells, model.vocabulary, "disease")[0]
            )
            found = REMOVE.one_way(model, replace(blended, input=masked), bound)
        shorter = pair_of({k: v for k, v in ONE.items() if k != 5}, {0: 4})
        expected = of_genes(shorter, one_way(REMOVE, model, shorter).scores_pt)
        assert of_genes(blended, found.scores_pt) == pytest.approx({**expected, 5: 0.0}, abs=1e-12)

    def test_all_of_it_is_presence(self) -> None:
        found = one_way(REMOVE, random_model(3), blended_pairs(5, 6))
        assert found.presence_pt is not None
        assert torch.equal(found.presence_pt, found.scores_pt)
        assert (found.embedding_pt == 0).all()


class TestWork:
    """What runs through the model: rows of the last block, each of which is one query."""

    @BOTH
    def test_the_bound_on_tokens_is_kept_and_changes_nothing(
        self, method: AttributionMethod
    ) -> None:
        model, blended = random_model(3), blended_pairs(10, 4)
        expected = one_way(method, model, blended)
        for bound in (1, 14, 50, 100000):
            with watched(model) as shapes:
                found = one_way(build_method(method.name, forward_tokens=bound), model, blended)
            torch.testing.assert_close(found.scores_pt, expected.scores_pt, rtol=0, atol=1e-12)
            torch.testing.assert_close(found.f_baseline_p, expected.f_baseline_p)
            assert all(n == 1 or n * t <= bound for n, t, _ in shapes)
            assert all(queries == 1 for *_, queries in shapes)

    def test_only_what_changes_is_run(self) -> None:
        model, blended = random_model(3), pair_of(ONE, OTHER)
        with watched(model) as shapes:
            one_way(SWAP, model, blended)
        # f of both members; genes 0, 1, 4, 5 and the sex.
        assert sum(n for n, *_ in shapes) == 2 + 5
        # Seven positions in the union, and no row with more than six of them and one to come.
        assert max(t for _, t, _ in shapes) <= 3 + 4 + 1 + 1
        with watched(model) as shapes:
            one_way(SWAP, model, pair_of(ONE, ONE, (MALE, MALE)))
        assert sum(n for n, *_ in shapes) == 2

    def test_a_cell_of_many_pairs_is_run_once(self) -> None:
        model, cells = random_model(3), random_cells(6, 6)
        blended = blend(cells, torch.zeros(5, dtype=torch.int64), torch.arange(1, 6))
        with watched(model) as shapes:
            one_way(REMOVE, model, blended)
        n_genes = int((cells.gene_ids_nt[0] >= 0).sum())
        # Its f, every gene and the sex; and f of five baselines.
        assert sum(n for n, *_ in shapes) == 1 + n_genes + 1 + 5

    @BOTH
    def test_a_bound_that_holds_nothing_is_refused(self, method: AttributionMethod) -> None:
        with pytest.raises(AttributionError, match=r"forward_tokens.*positive.*0"):
            build_method(method.name, forward_tokens=0)


@contextmanager
def watched(model: PhenotypeGeneTransformer) -> Iterator[list[tuple[int, int, int]]]:
    """(rows, positions, queries) of everything that the last block is given."""
    shapes: list[tuple[int, int, int]] = []

    def note(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        n, t = args[0].shape[:2]
        shapes.append((n, t, output.shape[1]))

    handle = model.blocks[-1].register_forward_hook(note)
    yield shapes
    handle.remove()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@BOTH
def test_a_gpu_says_the_same(method: AttributionMethod) -> None:
    model, blended = random_model(3), blended_pairs(10, 4)
    expected = method.attribute(model, blended, MARGIN)
    found = method.attribute(model.cuda(), blended.to("cuda"), MARGIN).to("cpu")
    torch.testing.assert_close(found.forward.scores_pt, expected.forward.scores_pt)
