"""The table of interactions: what it adds up, what it expects, and its null."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gradgene.attribution import GeneInteractions, Target, mixed_differences
from gradgene.cells import Cells, CellSchema, PlantedLevel, cells_from_anndata, plant_cells
from gradgene.errors import ConfigError, RankingError
from gradgene.evaluation import Interactions, interaction_table
from gradgene.evaluation.interactions import INTERACTION_COLUMNS
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import PairPlan, PairSampler, blend, blind_pairs
from gradgene.tokens import TokenBatch, Tokenizer, Vocabulary, mask_category
from tests.attribution.bins import model_of
from tests.attribution.toys import MARGIN, N_GENES, blended_pairs

GENES = tuple(f"g{k}" for k in range(8))


def noisy(n: int = 40, seed: int = 0, sd: float = 0.1, k: int = 8) -> GeneInteractions:
    """Genes that differ in half of the pairs, with interactions of no gene in particular."""
    draw = np.random.default_rng(seed)
    direction_pk = draw.integers(-1, 2, (n, k)).astype(float)
    single_pk = draw.normal(size=(n, k)) * (direction_pk != 0)
    mixed_pkk = np.triu(draw.normal(scale=sd, size=(n, k, k)), 1)
    return made(single_pk, mixed_pkk + mixed_pkk.transpose(0, 2, 1), direction_pk)


def made(
    single_pk: np.ndarray, mixed_pkk: np.ndarray, direction_pk: np.ndarray
) -> GeneInteractions:
    """As measured: nothing where a gene does not differ, and not with itself."""
    moved_pk = direction_pk != 0
    both_pkk = moved_pk[:, :, None] & moved_pk[:, None] & ~np.eye(len(moved_pk[0]), dtype=bool)
    parts = (single_pk * moved_pk, mixed_pkk * both_pkk, direction_pk)
    return GeneInteractions(*(torch.from_numpy(np.asarray(x, dtype=float)) for x in parts))


def planted(strength: float, seed: int = 0) -> GeneInteractions:
    """`noisy`, and g2 and g5 take back what the other says wherever both differ."""
    found = noisy(seed=seed)
    upward_pkk = found.interaction_pkk.clone()
    direction_pk = found.direction_pk
    for i, j in ((2, 5), (5, 2)):
        upward_pkk[:, i, j] -= strength * direction_pk[:, i] * direction_pk[:, j]
    return GeneInteractions(found.single_pk, upward_pkk, direction_pk)


def row_of(table: pd.DataFrame, a: str, b: str) -> pd.Series:
    return table[(table["gene_a"] == a) & (table["gene_b"] == b)].iloc[0]


class TestTable:
    def test_by_hand(self) -> None:
        """Two pairs of one donor and one of another, which counts as much as both."""
        direction_pk = np.array([[1, 1], [1, -1], [1, 1]])
        mixed_pkk = np.array([4.0, 2.0, -8.0])[:, None, None] * np.ones((2, 2))
        found = made(np.ones((3, 2)), mixed_pkk, direction_pk)
        table = interaction_table(found, ("a", "b"), np.array(["x", "x", "y"]), n_null=0)
        assert list(table) == [*INTERACTION_COLUMNS]
        row = table.iloc[0]
        assert row["interaction"] == pytest.approx((4 - 2) / 4 - 8 / 2)
        assert row["mean_abs"] == pytest.approx((4 + 2) / 4 + 8 / 2)
        assert (row["n_pairs"], row["n_moved"], row["n_donors"], row["rank"]) == (3, 3, 2, 1)
        assert row[["ci_low", "ci_high", "null_mean", "p", "p_adjusted"]].isna().all()
        alike = interaction_table(found, ("a", "b"), n_null=0).iloc[0]
        assert alike["interaction"] == pytest.approx((4 - 2 - 8) / 3)
        assert alike["n_donors"] is None

    def test_interval_over_donors(self) -> None:
        donors_p = np.resize(np.array(["x", "y", "z", "w"]), 40)
        table = interaction_table(planted(1.0), GENES, donors_p, n_null=0)
        means = [
            planted(1.0).upward_pkk[donors_p == d][:, 2, 5].mean().item() for d in sorted("xyzw")
        ]
        row, mean = row_of(table, "g2", "g5"), float(np.mean(means))
        reach = 3.182446 * np.std(means, ddof=1) / 2
        assert row["interaction"] == pytest.approx(mean)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((mean - reach, mean + reach))

    def test_every_two_once_by_excess(self) -> None:
        table = interaction_table(noisy(), GENES, n_null=0)
        assert len(table) == 28
        assert table["rank"].tolist() == [*range(1, 29)]
        assert table["excess"].abs().is_monotonic_decreasing
        assert (table["gene_a"] < table["gene_b"]).all()
        np.testing.assert_allclose(
            table["excess"], table["interaction"] - table["expected"], atol=1e-12
        )

    def test_names_must_fit(self) -> None:
        with pytest.raises(RankingError, match="expected 8; found 2"):
            interaction_table(noisy(), ("a", "b"))


class TestExpected:
    def test_a_shared_curvature_is_no_excess(self) -> None:
        """Every two genes interact by -0.3 a_i a_j; two of them by 2 more."""
        draw = np.random.default_rng(0)
        effect_k = draw.normal(size=8)
        direction_pk = draw.choice([-1, 1], (60, 8))
        sign_pkk = direction_pk[:, :, None] * direction_pk[:, None]
        mixed_kk = -0.3 * effect_k[:, None] * effect_k
        mixed_kk[[2, 5], [5, 2]] += 2
        table = interaction_table(
            made(effect_k * direction_pk, mixed_kk * sign_pkk, direction_pk), GENES, n_null=0
        )
        best = table.iloc[0]
        assert (best["gene_a"], best["gene_b"]) == ("g2", "g5")
        assert best["excess"] == pytest.approx(2)
        np.testing.assert_allclose(table["excess"].iloc[1:], 0, atol=1e-12)
        assert table["expected"].abs().max() > 0.1

    def test_one_strong_pair_sets_no_curvature(self) -> None:
        """Of two strong genes among weak ones, the only ones that interact."""
        effect_k = np.array([3, 3, 0.3, 0.3, 0.3, 0.3])
        direction_pk = np.random.default_rng(0).choice([-1, 1], (60, 6))
        mixed_kk = np.zeros((6, 6))
        mixed_kk[[0, 1], [1, 0]] = 4.0
        sign_pkk = direction_pk[:, :, None] * direction_pk[:, None]
        found = made(effect_k * direction_pk, mixed_kk * sign_pkk, direction_pk)
        table = interaction_table(found, GENES[:6], n_null=200)
        best = table.iloc[0]
        assert (best["gene_a"], best["gene_b"]) == ("g0", "g1")
        assert best["excess"] == pytest.approx(4, abs=0.1)
        assert best["p_adjusted"] < 0.05
        assert (table["p_adjusted"].iloc[1:] > 0.05).all()

    def test_too_few_genes_to_tell(self) -> None:
        table = interaction_table(noisy(k=4), GENES[:4], n_null=0)
        assert not table["expected"].any()
        assert table["interaction"].all()


class TestNull:
    def test_two_that_interact_are_found(self) -> None:
        table = interaction_table(planted(1.0), GENES, n_null=200)
        best = table.iloc[0]
        assert (best["gene_a"], best["gene_b"]) == ("g2", "g5")
        assert best["p"] == best["p_adjusted"] == 1 / 201
        assert (table["p_adjusted"].iloc[1:] > 0.05).all()
        assert best["interaction"] < 0

    def test_adjusted_is_never_smaller(self) -> None:
        table = interaction_table(noisy(), GENES, n_null=100)
        assert (table["p_adjusted"] >= table["p"]).all()
        assert table["p_adjusted"].is_monotonic_increasing or table["null_mean"].any()

    def test_a_level_that_all_share_is_no_evidence(self) -> None:
        """One interaction of all genes alike is what any two of them have."""
        found = noisy(sd=0.0, k=4)
        upward_pkk = 5 * found.direction_pk[:, :, None] * found.direction_pk[:, None]
        same = made(*(x.numpy() for x in (found.single_pk, upward_pkk, found.direction_pk)))
        table = interaction_table(same, GENES[:4], n_null=50)
        assert (table["interaction"] > 1).all()
        np.testing.assert_allclose(table["null_mean"], table["interaction"])
        assert (table["p"] == 1).all()

    def test_holds_its_level(self) -> None:
        """Of 60 tables without an interaction about 3 have one below 0.05; 9 would be rare."""
        least = [
            interaction_table(noisy(seed=seed), GENES, n_null=39)["p_adjusted"].min()
            for seed in range(60)
        ]
        assert 0 < (np.array(least) <= 0.05).sum() <= 9

    def test_the_seed_decides(self) -> None:
        one, again = (interaction_table(noisy(), GENES, n_null=20, seed=3) for _ in range(2))
        pd.testing.assert_frame_equal(one, again)
        assert not one["p"].equals(interaction_table(noisy(), GENES, n_null=20, seed=4)["p"])

    @given(st.permutations(range(8)))
    @settings(max_examples=5, deadline=None)
    def test_the_order_of_genes_plays_no_part(self, order: list[int]) -> None:
        found = planted(1.0)
        moved = GeneInteractions(
            found.single_pk[:, order],
            found.interaction_pkk[:, order][:, :, order],
            found.direction_pk[:, order],
        )
        one = interaction_table(found, GENES, n_null=0)
        other = interaction_table(moved, [GENES[k] for k in order], n_null=0)
        np.testing.assert_allclose(one["excess"], other["excess"])
        assert {*one.iloc[0, :2]} == {*other.iloc[0, :2]} == {"g2", "g5"}


class TestSettings:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"method": "shap"},
            {"top_k": 1},
            {"max_pairs": 0},
            {"n_null": -1},
            {"genes": ("a",)},
            {"genes": ("a", "a")},
        ],
    )
    def test_refuses(self, wrong: dict[str, object]) -> None:
        (name,) = wrong
        with pytest.raises(ConfigError, match=f"evaluation.interactions.{name}"):
            Interactions(**wrong)  # type: ignore[arg-type]


class TestPlanted:
    def test_an_exclusive_or_is_first_of_the_whole_panel(self) -> None:
        """Beside genes of strong effects whose sum bends, as that of a sure model does."""

        def of(x_ng: Tensor) -> Tensor:
            on = x_ng > 2
            main = 2 * x_ng[:, 0] + x_ng[:, 1] - x_ng[:, 2] - 2 * x_ng[:, 4]
            return 4 * torch.tanh(main / 4) + 2 * (on[:, 3] ^ on[:, 8])

        pairs = blended_pairs(64, max_genes=N_GENES)
        found = mixed_differences(model_of(of), pairs, MARGIN, range(N_GENES))
        table = interaction_table(found, [f"g{k}" for k in range(N_GENES)])
        best = table.iloc[0]
        assert len(table) == 66
        assert {best["gene_a"], best["gene_b"]} == {"g3", "g8"}
        assert best["interaction"] < 0
        assert best["p_adjusted"] < 0.01
        # Genes that nothing is made of have no part in anything.
        quiet = table[table["gene_a"].isin(["g5", "g6", "g7"])]
        assert not quiet["interaction"].any()
        # The four mains do interact, in whatever order.
        bent = table[table[["gene_a", "gene_b"]].isin(["g0", "g1", "g2", "g4"]).all(axis=1)]
        assert (bent["mean_abs"] > 0.05).all()

    @pytest.mark.slow
    def test_a_trained_model_reads_its_pair_together(self) -> None:
        """Planted cells, a model that learns them, and the pair first of all; drawn by labels, the
        pairs of cells would show less of it."""
        level = PlantedLevel(
            name="one pair",
            n_cells=3000,
            n_up=1,
            n_down=1,
            n_xor=1,
            n_copies=0,
            n_decoys=2,
            n_ambient=0,
            n_batch=0,
            n_null=2,
            xor_fidelity=0.95,
        )
        planted = plant_cells(level, 0)
        cells = cells_from_anndata(planted.adata, CellSchema(("disease", "cell_type"), "donor"))
        bins = (0.1, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5)
        tokenizer = Tokenizer(Vocabulary.from_cells(cells, bins), cells.schema)
        cells = tokenizer.prepare(cells)
        tokens, model = tokenizer.encode(cells), trained(tokenizer, cells)
        plan = blind_pairs(cells, "disease", ("case", "control"), ("cell_type",), 64, 0)
        table = interactions_of(model, tokens, plan)
        best = table.iloc[0]
        (pair,) = planted.genes.xor_pairs
        assert {best["gene_a"], best["gene_b"]} == {*pair}
        assert best["interaction"] < -1
        assert best["p_adjusted"] < 0.01
        sampler = PairSampler("disease", "case", "control", ("cell_type",), max_pairs=64)
        by_label = interactions_of(model, tokens, sampler.sample(cells))
        matched = row_of(by_label, best["gene_a"], best["gene_b"])
        assert abs(matched["interaction"]) < abs(best["interaction"]) / 2


def trained(tokenizer: Tokenizer, cells: Cells) -> PhenotypeGeneTransformer:
    """A small model after six epochs of telling cases from controls."""
    vocabulary, tokens = tokenizer.vocabulary, tokenizer.encode(cells)
    label_n = torch.tensor([vocabulary.label_id("disease", x) for x in cells.obs["disease"]])
    masked, _ = mask_category(tokens, vocabulary, "disease")
    torch.manual_seed(0)
    model = PhenotypeGeneTransformer(vocabulary, 32, 2, 2, 64, dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(6):
        for rows in torch.randperm(len(label_n)).split(48):
            batch = masked.take(rows)
            logits = model.read(model.embed(batch), batch.attention_mask_nt, "disease")
            optimizer.zero_grad()
            F.cross_entropy(logits, label_n[rows]).backward()
            optimizer.step()
    return model.eval()


def interactions_of(
    model: PhenotypeGeneTransformer, tokens: TokenBatch, plan: PairPlan
) -> pd.DataFrame:
    pairs = blend(tokens, torch.tensor(plan.input_rows), torch.tensor(plan.baseline_rows))
    genes = model.vocabulary.genes
    target = Target("disease", "case", "control")
    return interaction_table(mixed_differences(model, pairs, target, range(len(genes))), genes)
