"""Faults of the gene-selection paper's released code, none of which is ours.

Each test first makes the fault in a line or two of its own, shows what it does to the paper's cells
(where the released numbers have it, that these are the released numbers), and then what we give.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gradgene.attribution import (
    BoundTarget,
    CaptumIntegratedGradients,
    GradXDelta,
    Target,
    build_method,
)
from gradgene.checkpoints import load_checkpoint
from gradgene.commands.config.binding import bind
from gradgene.errors import AttributionError, ConfigError, RankingError
from gradgene.genes import Importance
from gradgene.genes.importance import IMPORTANCES, l2_normalise
from gradgene.modes import explaining
from gradgene.pairs import BlendedBatch, EmptyBaseline, PairSampler, blend
from gradgene.pruning import GeneRanking, Predictions, arm_metrics
from gradgene.tokens import TokenBatch, mask_category
from tests.attribution.toys import one_way
from tests.config.test_leaves import composed
from tests.parity.goldens import (
    DELTA,
    PAIRS,
    Released,
    facts_of,
    normalised_close,
    probability,
    raw_close,
    released_norm,
)
from tests.planted import keep_genes, make_cells, make_model, make_tokenizer

ROWS = torch.arange(len(PAIRS))


@pytest.fixture(scope="module")
def released(shared: Path) -> Released:
    return Released.read(shared, "all")


@pytest.fixture(scope="module")
def subset(shared: Path) -> Released:
    return Released.read(shared, "subset")


def blended(released: Released) -> BlendedBatch:
    return blend(released.tokens, ROWS, ROWS + len(PAIRS))


def theirs_at_ours(released: Released, pairs: BlendedBatch, p: int, name: str) -> Tensor:
    """A released array of pair `p` in our order of positions, as `without_padding` has them."""
    key = f"{PAIRS[p]}/pair"
    at = released.golden.places(pairs, p, key, released.loaded.vocabulary)
    return released.golden.get(f"{key}/{name}")[at[at >= 0]]


def without_padding(pairs: BlendedBatch, p: int, scores_pt: Tensor) -> Tensor:
    shown = pairs.input.attention_mask_nt[p] | pairs.baseline.attention_mask_nt[p]
    return scores_pt[p][shown]


# Spec 1 §3 a


def test_a_heuristic_that_is_a_function_of_a_function() -> None:
    """By the precedence of `lambda`, the reversed heuristics gave a function and no numbers."""
    fault: dict[str, Callable[..., Any]] = {
        "one_way": lambda f, r: f,
        "rev_one_way": lambda f, r: lambda: r,
    }
    f, r = torch.tensor([[1.0, -2.0]]), torch.tensor([[-3.0, 0.5]])
    assert not isinstance(fault["rev_one_way"](f, r), Tensor)
    for name in IMPORTANCES:
        baseline = "empty" if name == "paper_empty" else "cell_state"
        importance = Importance(name, "grad_x_delta", baseline, "margin").combine(f, r)
        assert isinstance(importance, Tensor) and importance.shape == f.shape
    assert Importance("backward", "grad_x_delta").combine(f, r) is r


# Spec 1 §3 b, and the NaN of the goldens


def test_a_zero_norm_gives_zero_and_not_nan_or_the_pair_before(released: Released) -> None:
    """Of p4 backward, where every token of the explained member is in the other one too."""
    pairs, p = blended(released), 4
    found = GradXDelta().attribute(released.loaded.model, pairs, probability(released.label))
    backward_pt = found.backward.scores_pt
    zero_t = backward_pt[p]
    fault_t = zero_t / zero_t.norm()
    assert fault_t.isnan().all() and theirs_at_ours(released, pairs, p, "dl/rev_attr").isnan().all()

    latest, faults = None, []
    for scores_t in backward_pt:  # the guard that a NaN slips past
        normalised_t = scores_t / scores_t.norm()
        latest = latest if normalised_t.isnan().any() else normalised_t
        faults.append(latest)
    assert faults[p] is faults[p - 1]

    ours_pt = l2_normalise(backward_pt, found.gene_ids_pt)
    assert not ours_pt[p].any() and ours_pt[p - 1].any() and ours_pt.isfinite().all()
    paper_pt = Importance("paper_mean", "grad_x_delta", target_kind="probability").combine(
        l2_normalise(found.forward.scores_pt, found.gene_ids_pt), ours_pt
    )
    assert paper_pt.isfinite().all() and paper_pt[p].any()


def test_nan_is_refused_and_never_replaced(released: Released) -> None:
    broken = deepcopy(released.loaded.model)
    with torch.no_grad():
        broken.embedding_norm.weight[0] = float("nan")
    with pytest.raises(AttributionError, match="NaN"):
        GradXDelta().attribute(broken, blended(released), probability(released.label))
    with pytest.raises(RankingError, match="NaN"):
        GeneRanking("grad_x_delta/contrast", ("a", "b"), np.array([0.0, np.nan]))


def test_a_pairs_norm_is_that_of_its_genes(released: Released) -> None:
    """Phenotypes and special tokens were part of it, and shrank the genes of their cell."""
    pairs = blended(released)
    found = GradXDelta().attribute(released.loaded.model, pairs, probability(released.label))
    is_gene_pt, shares = found.gene_ids_pt >= 0, []
    ours_pt = l2_normalise(found.forward.scores_pt, found.gene_ids_pt)
    louder_pt = torch.where(is_gene_pt, 1.0, 100.0) * found.forward.scores_pt
    for p in range(len(PAIRS)):
        fault_t = released_norm(found.forward.scores_pt[p])
        theirs_t = theirs_at_ours(released, pairs, p, "dl/attr")
        normalised_close(without_padding(pairs, p, fault_t.expand_as(ours_pt)), theirs_t)
        shares.append(float(fault_t[is_gene_pt[p]].norm()))
        assert float(ours_pt[p][is_gene_pt[p]].norm()) == pytest.approx(1)
        # A header that matters more takes from their genes (p4 has the same one twice), not ours.
        louder = float(released_norm(louder_pt[p])[is_gene_pt[p]].norm())
        assert louder < 0.9 * shares[-1] if p != 4 else louder == shares[-1]
    torch.testing.assert_close(
        l2_normalise(louder_pt, found.gene_ids_pt)[is_gene_pt], ours_pt[is_gene_pt]
    )
    assert min(shares) < 0.96  # p2, where it takes a twentieth from every gene


# Spec 1 §3 c


def test_false_is_false() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--reverse", type=bool)
    assert parser.parse_args(["--reverse", "False"]).reverse is True  # the fault

    for word in ("False", "false"):
        cfg = composed(f"model.norm_first={word}")
        assert cfg.model.norm_first is False
        bind(cfg, missing_ok=True)
    with pytest.raises(ConfigError, match=r"model\.norm_first"):
        bind(composed("model.norm_first='False'"), missing_ok=True)


# Spec 1 §3 d


def test_a_gene_has_its_own_rank(released: Released) -> None:
    """Ranks by gene were looked up at token types, which begin behind those of the categories."""
    vocabulary, tokens = released.loaded.vocabulary, released.tokens
    n, offset = len(vocabulary.genes), vocabulary.gene_offset
    rank_g = np.random.default_rng(0).permutation(n)
    types = tokens.token_type_ids_nt[0][tokens.gene_ids_nt[0] >= 0].numpy()
    fault = {vocabulary.genes[t - offset]: rank_g[t] for t in types if t < n}
    ranking = GeneRanking("hvg", vocabulary.genes, -rank_g.astype(float))
    right = dict(zip(vocabulary.genes, rank_g.tolist(), strict=True))
    assert sum(right[gene] == rank for gene, rank in fault.items()) <= 1
    assert offset == 6 and all(right[vocabulary.genes[t]] == rank_g[t] for t in types if t < n)

    best = set(sorted(vocabulary.genes, key=right.__getitem__)[: n // 2])
    kept = keep_genes(tokens, torch.from_numpy(ranking.kept(0.5, "lowest_first")))
    names = [{vocabulary.genes[g] for g in row if g >= 0} for row in kept.gene_ids_nt.tolist()]
    before = [{vocabulary.genes[g] for g in row if g >= 0} for row in tokens.gene_ids_nt.tolist()]
    assert names == [genes & best for genes in before]


# Spec 1 §3 e


@pytest.mark.slow
def test_long_cells_take_part() -> None:
    """Cells of more than 3,500 tokens were drawn again, which favours cells with few genes."""
    cells = make_cells(12, 8_000)
    tokenizer = make_tokenizer(cells)
    tokens = tokenizer(cells)
    fault = tokens.n_tokens_n <= 3_500
    assert not fault.any()
    plan = PairSampler("disease", "case", "control", match_on=()).sample(cells)
    assert len(plan) == int((cells.obs["disease"] == "case").sum())
    pair = blend(tokens, torch.tensor(plan.input_rows[:1]), torch.tensor(plan.baseline_rows[:1]))
    model = make_model(tokenizer.vocabulary)
    found = GradXDelta().attribute(model, pair, Target("disease", "case", "control"))
    present = pair.input.attention_mask_nt & (pair.gene_ids_pt >= 0)
    differs = present & (pair.input.input_ids_nt != pair.baseline.input_ids_nt)
    assert int(present.sum()) > 3_500
    assert (found.forward.scores_pt[differs] != 0).all() and int(differs.sum()) > 1_000


# Spec 1 §3 f


def test_the_empty_baselines_other_arm_is_judged_by_its_own_label(released: Released) -> None:
    """The baseline arm of the blank baseline was judged by class 0, whatever the cell is."""
    model, vocabulary = released.loaded.model, released.loaded.vocabulary
    asked = probability("normal", against="breast cancer")
    pairs = blend(released.tokens, ROWS + len(PAIRS), ROWS)  # the baselines have breast cancer
    found = GradXDelta().attribute(model, pairs, asked, EmptyBaseline())
    masked, _ = mask_category(released.tokens, vocabulary, "disease")
    with torch.no_grad():
        embedded = model.embed(masked)
        p_nv = model.read(embedded, masked.attention_mask_nt, "disease").softmax(dim=1)[ROWS]
    fault_p, own_p = (
        p_nv[:, i] for i in (vocabulary.label_ids("disease")[0], released_id(released))
    )
    assert vocabulary.categories["disease"][0] == "normal"
    torch.testing.assert_close(found.backward.f_input_p, own_p)
    assert ((fault_p - own_p).abs() > 0.01 * own_p).all()

    # A model that is right of every baseline cell is right in that arm of a pruning curve, too.
    labels = ("normal", "breast cancer")
    right = Predictions(np.array([[0.9, 0.1], [0.2, 0.8]]), labels)
    fault = (right.probabilities_nc[1:].argmax(axis=1) == 0).mean()
    ours = arm_metrics(right, np.array([0, 1]), "normal", "breast cancer")
    assert (fault, ours["baseline", "accuracy"]) == (0, 1)


def released_id(released: Released) -> int:
    return released.loaded.vocabulary.label_id("disease", released.label)


# Spec 1 §3 g


def test_a_path_takes_the_genes_along(released: Released) -> None:
    """Layer integrated gradients of the released numbers: ten times the steps, the same delta."""
    golden, model = released.golden, deepcopy(released.loaded.model).double()
    pairs = blended(released)
    ours = build_method("integrated_gradients", n_steps=100).attribute(
        model, pairs, probability(released.label)
    )
    shared = pairs.input.attention_mask_nt & pairs.baseline.attention_mask_nt
    for p, pair in enumerate(PAIRS):
        for k, found in enumerate((ours.forward, ours.backward)):
            few, many = (
                float(golden.get(f"{pair}/pair/{name}/delta")[k])
                for name in ("ig10", "ig500" if golden.has(f"{pair}/pair/ig500/delta") else "ig50")
            )
            # p2 has the same genes in both members: the one pair on which the released path closes.
            assert abs(many - few) < 2e-5
            assert abs(many) > 1e-4 if p != 2 else abs(many) < 1e-8
            assert float(found.relative_delta_p[p]) < 1e-3
        only_baseline = pairs.baseline.attention_mask_nt[p] & ~shared[p]
        at = golden.places(pairs, p, f"{pair}/pair", released.loaded.vocabulary)
        assert not golden.get(f"{pair}/pair/ig50/raw")[at[only_baseline]].any()
        assert (ours.forward.scores_pt[p][only_baseline] != 0).all()


# Format notes: trailing slash, offset of a strict subset; `target="max"`


def test_a_slash_behind_the_checkpoint(shared: Path) -> None:
    """The tokenizer was looked for in the folder of the path, which a slash makes the path."""
    genes, folder = facts_of(shared)["gene_order"], shared / "fixtures/perturbgene/run"
    given = f"{folder / 'checkpoint-1000'}/"
    fault = os.path.join(os.path.dirname(given), "tokenizer.pkl")
    assert not Path(fault).exists() and (folder / "tokenizer.pkl").exists()
    plain, slashed = (load_checkpoint(path, genes=genes) for path in (given[:-1], given))
    assert slashed.vocabulary == plain.vocabulary and slashed.tokenizer == plain.tokenizer


def offset_fault(released: Released) -> BlendedBatch:
    """Blended as released: as many positions are header as *all* categories would need."""
    is_gene_nt = released.tokens.gene_ids_nt.clone()
    is_gene_nt[:, : released.loaded.vocabulary.gene_offset] = -1
    wrong = replace(released.tokens, gene_ids_nt=is_gene_nt)
    return blend(wrong, ROWS, ROWS + len(PAIRS))


def test_genes_begin_behind_the_categories_that_are_there(subset: Released) -> None:
    """With three of five categories in the sequence, two genes were held against two others."""
    golden, vocabulary = subset.golden, subset.loaded.vocabulary
    model, asked = subset.loaded.model, probability(subset.label)
    assert (vocabulary.n_header, vocabulary.gene_offset) == (4, 6)
    fault, right = offset_fault(subset), blended(subset)
    assert (fault.n_header, right.n_header) == (6, 4)
    faulty = [one_way(GradXDelta(), model, pairs, asked) for pairs in (fault, fault.swap())]
    ours = GradXDelta().attribute(model, right, asked)
    n_misplaced, differences = 0, []
    for p, pair in enumerate(PAIRS):
        key = f"{pair}/pair"
        # The released numbers have the fault, …
        at = golden.places(fault, p, key, vocabulary)
        for found, name in zip(faulty, ("raw", "rev_raw"), strict=True):
            raw_close(found.scores_pt[p][at >= 0], golden.get(f"{key}/dl/{name}")[at[at >= 0]])
        # … in which a position can hold different genes, or a gene can have two positions.
        types = [golden.cell(pair, f"blended_{m}")[1] for m in ("target", "baseline")]
        n_misplaced += int((types[0][4:6] != types[1][4:6]).sum())
        for member in (right.input, right.baseline):
            genes = member.gene_ids_nt[p]
            assert (genes[genes >= 0] == right.gene_ids_pt[p][genes >= 0]).all()
        union = right.gene_ids_pt[p][right.gene_ids_pt[p] >= 0].tolist()
        assert len(set(union)) == len(union)
        # What it does to the scores of the target's first two genes:
        first = (right.input_columns_pt[p] >= 4) & (right.input_columns_pt[p] < 6)
        theirs = golden.get(f"{key}/dl/raw")[4:6].sort().values
        difference = (ours.forward.scores_pt[p][first].sort().values - theirs).abs().max()
        differences.append(float(difference / theirs.abs().max()))
    assert n_misplaced == 10
    # p2 has one set of genes, and so by chance nothing out of place.
    assert [d > 0.01 for d in differences] == [True, True, False, True, True, True]


@dataclass(frozen=True)
class MostLikely(BoundTarget):
    """The fault: whichever token of the vocabulary is the most likely, in each member anew."""

    def read(self, logits_pv: Tensor) -> Tensor:
        probability_p: Tensor = logits_pv.softmax(dim=1).amax(dim=1)
        return probability_p


def test_the_label_is_one_and_the_same_for_both_members(released: Released) -> None:
    """`max`, the released default, compares the probability of one thing with that of another."""
    golden, model = released.golden, released.loaded.model
    bound = probability(released.label).bind(model.vocabulary)
    most_likely = MostLikely(**vars(bound))
    pairs = blended(released)
    masked, _ = mask_category(pairs.cells, model.vocabulary, "disease")
    shown = pairs.with_cells(masked)
    method = CaptumIntegratedGradients(n_steps=10)
    with explaining(model):
        fault = method.one_way(model, shown, most_likely)
    having = [p for p, pair in enumerate(PAIRS) if golden.has(f"{pair}/pair/ig10_max/raw")]
    assert having == [0, 3]
    for p in having:
        theirs_t = theirs_at_ours(released, pairs, p, "ig10_max/raw")
        raw_close(without_padding(pairs, p, fault.scores_pt), theirs_t)
        delta = float(golden.get(f"{PAIRS[p]}/pair/ig10_max/delta")[0])
        assert -float(fault.delta_p[p]) == pytest.approx(delta, abs=DELTA)
    winners = [logits_of(released, m).argmax(dim=1).tolist() for m in (shown.input, shown.baseline)]
    diseases = set(model.vocabulary.label_ids("disease"))
    assert any(i != b for i, b in zip(*winners, strict=True))
    assert not diseases.issuperset(winners[0])  # of a model hardly trained, not even a disease

    with pytest.raises(AttributionError, match="unknown kind 'max'"):
        Target("disease", released.label, kind="max")  # type: ignore[arg-type]
    ours = method.attribute(model, pairs, probability(released.label))
    forward = ours.forward
    for found, tokens in ((forward.f_input_p, shown.input), (forward.f_baseline_p, shown.baseline)):
        wanted = logits_of(released, tokens).softmax(dim=1)[:, released_id(released)]
        torch.testing.assert_close(found, wanted)


def logits_of(released: Released, tokens: TokenBatch) -> Tensor:
    model = released.loaded.model
    with torch.no_grad():
        return model.read(model.embed(tokens), tokens.attention_mask_nt, "disease")
