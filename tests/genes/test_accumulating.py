"""Sums per gene and group against a brute-force pandas groupby."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradgene.attribution import Attribution, DirectionScores
from gradgene.errors import AttributionError
from gradgene.genes import GeneSums, GeneSumsMetric, Importance, PairDesign, accumulating, null_p
from gradgene.genes.crossing import Crossing
from gradgene.genes.importance import IMPORTANCES
from tests.genes.test_crossing import sums_of as crossed_sums

N_GENES, PHENOTYPES, N_DONORS = 7, ("sex", "disease"), 4
HEADER = 1 + len(PHENOTYPES)
seeds = st.integers(0, 2**31 - 1)


def importances(method: str) -> tuple[Importance, ...]:
    return Importance.meaningful(method, "cell_state", "margin")


def design_of(
    donors: torch.Tensor, inputs: torch.Tensor | None = None, n_donors: int = N_DONORS
) -> PairDesign:
    """Pairs of numbered donors, each of an input cell of its own unless said, of uneven depth."""
    n = len(donors)
    names = [f"d{i}" for i in range(n_donors)]
    return PairDesign(
        pd.DataFrame({"donor": names, "batch": None, "label": None}),
        donors.numpy(),
        np.arange(n) if inputs is None else inputs.numpy(),
        np.random.default_rng(n).normal(5.0, 1.0, n),
    )


def metric(
    method: str, donors: torch.Tensor, normalise: str = "none", **more: Any
) -> GeneSumsMetric:
    return GeneSumsMetric(
        N_GENES,
        len(PHENOTYPES),
        more.pop("design") if "design" in more else design_of(donors),
        importances=importances(method),
        sees_presence=method == "deeplift",
        normalise=normalise,
        main=more.pop("main", "contrast"),
        **more,
    )


def every(n: int) -> torch.Tensor:
    """Positions of all pairs of a plan."""
    return torch.arange(n)


def random_attribution(seed: int, n: int, method: str) -> Attribution:
    """`n` pairs of random genes, a third of the scores exactly zero, some pairs all zero."""
    draw = torch.Generator().manual_seed(seed)
    length = HEADER + N_GENES + 2
    ids = torch.full((n, length), -1)
    for i in range(n):
        size = int(torch.randint(1, N_GENES + 1, (1,), generator=draw))
        ids[i, HEADER : HEADER + size] = torch.randperm(N_GENES, generator=draw)[:size]

    def scores() -> torch.Tensor:
        values = torch.randn(n, length, generator=draw, dtype=torch.float64)
        values = values * (torch.rand(n, length, generator=draw) > 1 / 3)
        return values * (torch.rand(n, 1, generator=draw) > 0.15)

    def direction() -> DirectionScores:
        embedding, presence = scores(), scores()
        if method != "deeplift":
            presence = torch.zeros_like(presence)
        return DirectionScores(
            embedding + presence,
            embedding,
            presence if method == "deeplift" else None,
            torch.randn(n, generator=draw),
            torch.randn(n, generator=draw),
        )

    return Attribution(direction(), direction(), ids, HEADER, method, "cell_state")


def rows(attribution: Attribution, picked: torch.Tensor) -> Attribution:
    """Some pairs of a batch."""

    def of(scores: DirectionScores) -> DirectionScores:
        presence = scores.presence_pt
        return DirectionScores(
            scores.scores_pt[picked],
            scores.embedding_pt[picked],
            None if presence is None else presence[picked],
            scores.f_input_p[picked],
            scores.f_baseline_p[picked],
        )

    return Attribution(
        of(attribution.forward),
        of(attribution.backward),
        attribution.gene_ids_pt[picked],
        attribution.n_header,
        attribution.method,
        attribution.baseline,
    )


def long_table(attribution: Attribution, donors: torch.Tensor, normalise: str) -> pd.DataFrame:
    """One row a token that is a gene or a phenotype, importances computed by numpy."""
    records: list[dict[str, Any]] = []
    ids = attribution.gene_ids_pt.numpy()
    forward, backward = (d.scores_pt.numpy() for d in (attribution.forward, attribution.backward))
    for p, row in enumerate(ids):
        norms = [np.sqrt((s[p][row >= 0] ** 2).sum()) or 1.0 for s in (forward, backward)]
        for t, gene in enumerate(row):
            phenotype = 1 <= t < HEADER
            if gene < 0 and not phenotype:
                continue
            f, r = forward[p, t], backward[p, t]
            uf, ur = f / norms[0], r / norms[1]
            if normalise == "l2":
                f, r = uf, ur
            geometric = abs(uf) + abs(ur) if uf == 0 or ur == 0 else np.sqrt(abs(uf * ur))
            record = {
                "forward": f,
                "backward": r,
                "contrast": (f - r) / 2,
                "own_label": (f - r) / 2,
                "paper_mean": (uf + ur) / 2,
                "paper_geometric": geometric,
            }
            record |= {f"{k}/abs": abs(v) for k, v in record.items()} | {
                f"{k}/zero": float(v == 0) for k, v in record.items()
            }
            unit = norms[0] if normalise == "l2" else 1.0
            record["embedding"] = attribution.forward.embedding_pt[p, t].item() / unit
            if attribution.forward.presence_pt is not None:
                record["presence"] = attribution.forward.presence_pt[p, t].item() / unit
            record |= {"present": 1.0, "donor": int(donors[p]), "pair": p}
            record["feature"] = N_GENES + t - 1 if phenotype else int(gene)
            records.append(record)
    return pd.DataFrame(records)


def brute_force(table: pd.DataFrame, quantity: str) -> np.ndarray:
    sums = table.groupby(["donor", "feature"])[quantity].sum().unstack(fill_value=0)
    axes = range(N_DONORS), range(N_GENES + len(PHENOTYPES))
    return sums.reindex(index=axes[0], columns=axes[1], fill_value=0.0).to_numpy()


def draw_donors(seed: int, n: int) -> torch.Tensor:
    return torch.randint(0, N_DONORS, (n,), generator=torch.Generator().manual_seed(seed))


class TestSums:
    @given(
        seeds,
        st.integers(1, 12),
        st.sampled_from(["deeplift", "grad_x_delta"]),
        st.sampled_from(["none", "l2"]),
    )
    def test_equal_a_groupby(self, seed: int, n: int, method: str, normalise: str) -> None:
        attribution, donors = random_attribution(seed, n, method), draw_donors(seed, n)
        accumulator = metric(method, donors, normalise)
        accumulator.update(attribution, every(n))
        found = accumulator.gene_sums()
        table = long_table(attribution, donors, normalise)
        depth_p = design_of(donors).depth_p
        depth_p = depth_p - depth_p.mean()
        table["contrast/square"] = table["contrast"] ** 2
        table["contrast/depth"] = table["contrast"] * depth_p[table["pair"]]
        for quantity, sums in found.sums.items():
            np.testing.assert_allclose(
                sums, brute_force(table, quantity), atol=1e-12, err_msg=quantity
            )
        assert found.n_pairs_g.tolist() == np.bincount(donors, minlength=N_DONORS).tolist()
        assert found.depth_g is not None and found.depth_square_g is not None
        for of_g, values_p in ((found.depth_g, depth_p), (found.depth_square_g, depth_p**2)):
            expected = np.bincount(donors, values_p, minlength=N_DONORS)
            np.testing.assert_allclose(of_g, expected, atol=1e-12)

    def test_quantities(self) -> None:
        names = {i for i in IMPORTANCES if i != "paper_empty"}
        for method, left_out, more in (
            ("grad_x_delta", set(), {"embedding", "present"}),
            ("deeplift", {"paper_mean", "paper_geometric"}, {"embedding", "presence", "present"}),
        ):
            kept = names - left_out
            suffixed = {f"{n}{s}" for n in kept for s in ("", "/abs", "/zero")}
            accumulator = metric(method, draw_donors(0, 3))
            accumulator.update(random_attribution(0, 3, method), every(3))
            of_main = {"contrast/square", "contrast/depth"}
            assert set(accumulator.gene_sums().sums) == suffixed | more | of_main

    @given(seeds, st.integers(2, 10))
    def test_order_and_batches_do_not_matter(self, seed: int, n: int) -> None:
        """Pairs of one input may lie in several batches here, but for their spread."""
        attribution, donors = random_attribution(seed, n, "deeplift"), draw_donors(seed, n)
        design = design_of(donors, inputs=every(n) // 2)
        whole = metric("deeplift", donors, design=design, n_null=5)
        whole.update(attribution, every(n))
        one_by_one = metric("deeplift", donors, design=design, n_null=5)
        for i in torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist():
            picked = torch.tensor([i])
            one_by_one.update(rows(attribution, picked), picked)
        same(one_by_one.gene_sums(), whole.gene_sums(), spread=False)
        assert one_by_one.gene_sums().within_dof == 0

    @given(seeds, st.integers(2, 10))
    def test_two_processes_merge(self, seed: int, n: int) -> None:
        attribution, donors = random_attribution(seed, n, "deeplift"), draw_donors(seed, n)
        whole, first, second = (metric("deeplift", donors, n_null=4) for _ in range(3))
        whole.update(attribution, every(n))
        for part, picked in ((first, every(1)), (second, torch.arange(1, n))):
            part.update(rows(attribution, picked), picked)
        first.merge_state(second)
        same(first.gene_sums(), whole.gene_sums())

    def test_a_result_is_not_changed_by_later_updates(self) -> None:
        attribution, donors = random_attribution(1, 6, "deeplift"), draw_donors(1, 6)
        accumulator = metric("deeplift", donors)
        accumulator.update(attribution, every(6))
        early = accumulator.gene_sums()
        before = early.sums["forward"].copy(), early.n_pairs_g.copy()
        accumulator.update(attribution, every(6))
        assert (early.sums["forward"] == before[0]).all()
        assert (early.n_pairs_g == before[1]).all()
        later = accumulator.gene_sums()
        np.testing.assert_allclose(later.sums["forward"], 2 * before[0])
        assert later.n_pairs == 12

    def test_a_single_group(self) -> None:
        """torchmetrics turns one-entry results into numbers; groups stay an axis."""
        design = design_of(torch.zeros(3, dtype=torch.int64), n_donors=1)
        one = metric("deeplift", draw_donors(0, 3), design=design, n_null=2)
        one.update(random_attribution(0, 3, "deeplift"), every(3))
        found = one.gene_sums()
        assert found.n_pairs_g.tolist() == [3]
        assert found.donor_means("forward").shape == (1, N_GENES + 2)
        assert found.null is not None and found.null.shape == (2, N_GENES + 2)

    def test_a_single_feature(self) -> None:
        design = design_of(torch.zeros(1, dtype=torch.int64), n_donors=1)
        only = GeneSumsMetric(1, 0, design, importances("deeplift"), True, main="forward", n_null=3)
        scores = torch.tensor([[0.0, 2.0]], dtype=torch.float64)
        way = DirectionScores(scores, scores, scores * 0, torch.ones(1), torch.ones(1))
        only.update(
            Attribution(way, way, torch.tensor([[-1, 0]]), 1, "deeplift", "cell_state"), every(1)
        )
        found = only.gene_sums()
        assert found.mean("forward").tolist() == [2.0]
        assert found.within_ss is not None and found.within_ss.tolist() == [0.0]
        assert found.null is not None and found.null.tolist() == [[2.0]] * 3

    @pytest.mark.parametrize(
        ("gene", "pair"), [(N_GENES, 0), (N_GENES + 5, 0), (0, N_DONORS), (0, -1)]
    )
    def test_what_does_not_fit_is_refused(self, gene: int, pair: int) -> None:
        """A gene just above the panel would otherwise be added to a phenotype."""
        attribution = random_attribution(0, 2, "deeplift")
        attribution.gene_ids_pt[0, HEADER] = gene
        accumulator = metric("deeplift", every(N_DONORS))
        with pytest.raises(AttributionError, match="outside the planned table"):
            accumulator.update(attribution, torch.tensor([pair, 0]))

    def test_a_main_importance_that_is_not_accumulated_is_refused(self) -> None:
        with pytest.raises(AttributionError, match="'paper_mean' is not accumulated"):
            metric("deeplift", draw_donors(0, 2), main="paper_mean")

    def test_a_batch_without_pairs_adds_nothing(self) -> None:
        accumulator = metric("deeplift", draw_donors(0, 2))
        accumulator.update(random_attribution(0, 2, "deeplift"), every(2))
        before = accumulator.gene_sums()
        nothing = every(0)
        accumulator.update(rows(random_attribution(0, 2, "deeplift"), nothing), nothing)
        same(accumulator.gene_sums(), before, exactly=True)

    def test_runs_in_inference_mode(self) -> None:
        """As in Lightning's predict loop, with the metric made outside."""
        attribution, donors = random_attribution(1, 6, "deeplift"), draw_donors(1, 6)
        accumulator = metric("deeplift", donors, n_null=3)
        with torch.inference_mode():
            accumulator.update(attribution, every(6))
        expected = metric("deeplift", donors, n_null=3)
        expected.update(attribution, every(6))
        same(accumulator.gene_sums(), expected.gene_sums())

    def test_starts_anew_when_reset(self) -> None:
        accumulator, expected = (metric("deeplift", draw_donors(1, 6), n_null=3) for _ in range(2))
        attribution = random_attribution(1, 6, "deeplift")
        for _ in range(2):
            accumulator.update(attribution, every(6))
            accumulator.reset()
        assert not accumulator.sums.any()
        accumulator.update(attribution, every(6))
        expected.update(attribution, every(6))
        same(accumulator.gene_sums(), expected.gene_sums(), exactly=True)

    def test_the_size_of_the_states(self) -> None:
        """Quantities x groups x features, one row a null draw, and little else."""
        accumulator = metric("deeplift", draw_donors(0, 3), n_null=10)
        n = N_GENES + len(PHENOTYPES)
        numbers = len(accumulator.quantities) * N_DONORS * n + 10 * n + 2 * n + 3 * N_DONORS + 1
        assert accumulator.state_bytes == 8 * numbers


def dense_main(attribution: Attribution, main: str) -> tuple[np.ndarray, np.ndarray]:
    """(pairs, features) importance and the one with labels exchanged, absent 0, by numpy."""
    importance = next(i for i in importances(attribution.method) if i.name == main)
    unit = importance.normalised
    found = []
    for swapped in (False, True):
        directions = [attribution.forward, attribution.backward][:: -1 if swapped else 1]
        table = np.zeros((len(attribution.gene_ids_pt), N_GENES + len(PHENOTYPES)))
        for p, row in enumerate(attribution.gene_ids_pt.tolist()):
            both = [d.scores_pt[p].numpy() for d in directions]
            if unit:
                is_gene = np.array(row) >= 0
                both = [x / (np.sqrt((x[is_gene] ** 2).sum()) or 1.0) for x in both]
            f, r = both
            value = {"forward": f, "contrast": (f - r) / 2, "paper_mean": (f + r) / 2}[main]
            for t, gene in enumerate(row):
                if gene >= 0:
                    table[p, gene] = value[t]
                elif 1 <= t < HEADER:
                    table[p, N_GENES + t - 1] = value[t]
        found.append(table)
    return found[0], found[1]


class TestSpread:
    @given(seeds, st.integers(1, 12), st.sampled_from(["forward", "contrast", "paper_mean"]))
    def test_among_baselines_equals_numpys(self, seed: int, n: int, main: str) -> None:
        attribution = random_attribution(seed, n, "grad_x_delta")
        inputs = torch.randint(0, 4, (n,), generator=torch.Generator().manual_seed(seed))
        design = design_of(draw_donors(seed, n), inputs)
        accumulator = metric("grad_x_delta", draw_donors(0, n), design=design, main=main)
        accumulator.update(attribution, every(n))
        value_pf, _ = dense_main(attribution, main)
        parts = [value_pf[inputs.numpy() == i] for i in np.unique(inputs.numpy())]
        expected = sum(((part - part.mean(axis=0)) ** 2).sum(axis=0) for part in parts)
        found = accumulator.gene_sums()
        assert found.within_ss is not None
        np.testing.assert_allclose(found.within_ss, expected, atol=1e-12)
        assert found.within_dof == n - len(parts)

    def test_only_pairs_of_one_batch_are_compared(self) -> None:
        """Of four pairs of an input in batches of two, each batch gives one degree of freedom."""
        attribution = random_attribution(3, 4, "deeplift")
        design = design_of(draw_donors(3, 4), torch.zeros(4, dtype=torch.int64))
        accumulator = metric("deeplift", draw_donors(0, 4), design=design)
        for picked in (torch.tensor([0, 2]), torch.tensor([1, 3])):
            accumulator.update(rows(attribution, picked), picked)
        value_pf, _ = dense_main(attribution, "contrast")
        expected = ((value_pf[0] - value_pf[2]) ** 2 + (value_pf[1] - value_pf[3]) ** 2) / 2
        found = accumulator.gene_sums()
        assert found.within_dof == 2 and found.within_ss is not None
        np.testing.assert_allclose(found.within_ss, expected, atol=1e-12)

    def test_equal_baselines_have_none_and_single_ones_exactly_none(self) -> None:
        attribution = rows(random_attribution(4, 1, "deeplift"), torch.zeros(3, dtype=torch.int64))
        inputs = torch.tensor([0, 0, 0])
        design = design_of(draw_donors(4, 3), inputs)
        accumulator = metric("deeplift", draw_donors(0, 3), design=design)
        accumulator.update(attribution, every(3))
        found = accumulator.gene_sums()
        assert found.within_ss is not None and found.within_dof == 2
        assert (found.within_ss >= 0).all() and found.within_ss.max() < 1e-14
        alone = metric("deeplift", draw_donors(4, 3))
        alone.update(attribution, every(3))
        assert alone.gene_sums().within_dof == 0
        assert not alone.gene_sums().within_ss.any()  # type: ignore[union-attr]


class TestNull:
    @given(
        seeds,
        st.integers(1, 12),
        st.sampled_from(["forward", "contrast", "paper_mean"]),
        st.sampled_from([2**22, 1, 12]),
    )
    def test_equals_exchanging_pair_by_pair(
        self, seed: int, n: int, main: str, working: int
    ) -> None:
        attribution = random_attribution(seed, n, "grad_x_delta")
        inputs = torch.randint(0, 5, (n,), generator=torch.Generator().manual_seed(seed))
        design = design_of(draw_donors(seed, n), inputs)
        accumulator = metric(
            "grad_x_delta", draw_donors(0, n), design=design, main=main, n_null=6, seed=seed % 3
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(accumulating, "WORKING_SIZE", working)
            accumulator.update(attribution, every(n))
        value_pf, other_pf = dense_main(attribution, main)
        draws_pn = [np.random.default_rng((seed % 3, int(i))).random(6) for i in inputs]
        exchanged_np = np.array(draws_pn).T < 0.5
        expected = [np.where(x[:, None], other_pf, value_pf).mean(axis=0) for x in exchanged_np]
        found = accumulator.gene_sums().null
        assert found is not None
        np.testing.assert_allclose(found, expected, atol=1e-12)

    def test_is_wider_where_inputs_share_baselines(self) -> None:
        """By √sharing around the middle of score and exchanged score, and nowhere else."""
        attribution, donors = random_attribution(5, 6, "grad_x_delta"), draw_donors(5, 6)
        found = []
        for sharing in (1.0, 4.0):
            design = replace(design_of(donors), sharing=sharing)
            accumulator = metric("grad_x_delta", donors, design=design, main="forward", n_null=4)
            accumulator.update(attribution, every(6))
            found.append(accumulator.gene_sums().null)
        value_pf, other_pf = dense_main(attribution, "forward")
        middle = (value_pf + other_pf).mean(axis=0) / 2
        assert found[0] is not None and found[1] is not None
        np.testing.assert_allclose(found[1] - middle, 2 * (found[0] - middle), atol=1e-12)

    def test_draws_do_not_depend_on_their_number(self) -> None:
        attribution, donors = random_attribution(5, 6, "deeplift"), draw_donors(5, 6)
        few, many, other = (
            metric("deeplift", donors, n_null=n, seed=seed) for n, seed in ((3, 1), (8, 1), (8, 2))
        )
        for accumulator in (few, many, other):
            accumulator.update(attribution, every(6))
        a, b, c = (x.gene_sums().null for x in (few, many, other))
        assert a is not None and b is not None and c is not None
        np.testing.assert_allclose(a, b[:3], atol=1e-14)
        assert not np.allclose(b, c)

    @pytest.mark.parametrize("method", ["grad_x_delta"])
    @pytest.mark.parametrize("main", ["paper_mean", "paper_geometric"])
    def test_of_an_importance_that_exchange_leaves_alone_is_the_score(
        self, method: str, main: str
    ) -> None:
        """To the last bit, so that its spread is 0 and not a rounding."""
        accumulator = metric(method, draw_donors(6, 7), main=main, n_null=50)
        accumulator.update(random_attribution(6, 7, method), every(7))
        found = accumulator.gene_sums()
        assert found.null is not None and (found.null == found.null[0]).all()
        np.testing.assert_allclose(found.null[0], found.mean(main), atol=1e-14)
        assert np.isnan(null_p(found.mean(main), found.null)).all()

    def test_there_is_none_where_labels_cannot_be_exchanged(self) -> None:
        """Each cell against the empty one for its own label, and no margin."""
        one_way = Importance.meaningful("deeplift", "empty", "logit")
        design = design_of(draw_donors(7, 3))
        accumulator = GeneSumsMetric(N_GENES, 2, design, one_way, True, main="forward", n_null=9)
        accumulator.update(random_attribution(7, 3, "deeplift"), every(3))
        assert accumulator.gene_sums().null is None
        assert metric("deeplift", draw_donors(7, 3), n_null=0).n_null == 0


class TestResuming:
    def batches(self) -> list[torch.Tensor]:
        return [torch.tensor(x) for x in ([0, 3, 4], [1, 2], [5], [6, 7, 8, 9])]

    def fresh(self) -> GeneSumsMetric:
        inputs = torch.tensor([0, 1, 1, 0, 0, 2, 3, 3, 4, 4])
        design = design_of(draw_donors(8, 10), inputs)
        return metric("deeplift", draw_donors(0, 10), design=design, n_null=7, seed=3)

    @pytest.mark.parametrize("stop", [0, 1, 3, 4])
    def test_goes_on_to_the_last_bit(self, stop: int) -> None:
        attribution = random_attribution(8, 10, "deeplift")
        whole, first = self.fresh(), self.fresh()
        for picked in self.batches():
            whole.update(rows(attribution, picked), picked)
        for picked in self.batches()[:stop]:
            first.update(rows(attribution, picked), picked)
        saved = io.BytesIO()
        torch.save(first.state_dict(), saved)
        saved.seek(0)
        second = self.fresh()
        second.load_state_dict(torch.load(saved, weights_only=True))
        for picked in self.batches()[stop:]:
            second.update(rows(attribution, picked), picked)
        same(second.gene_sums(), whole.gene_sums(), exactly=True)

    def test_what_was_loaded_counts_and_not_what_was_there(self) -> None:
        attribution = random_attribution(8, 10, "deeplift")
        one, two = self.fresh(), self.fresh()
        one.update(rows(attribution, every(2)), every(2))
        two.update(attribution, every(10))
        before = two.gene_sums()
        state = two.state_dict()
        one.gene_sums()
        one.load_state_dict(state)
        same(one.gene_sums(), before, exactly=True)
        # What was handed in stays as it was.
        one.update(rows(attribution, every(2)), every(2))
        assert int(state["n_pairs_g"].sum()) == 10
        assert one.gene_sums().n_pairs == 12

    def test_sums_of_another_plan_are_refused(self) -> None:
        other = metric("deeplift", draw_donors(8, 10), n_null=6).state_dict()
        with pytest.raises(AttributionError, match=r"of another plan.*null \(9, 7\)"):
            self.fresh().load_state_dict(other)
        state = self.fresh().state_dict()
        del state["within_dof"]
        with pytest.raises(AttributionError, match="of another plan"):
            self.fresh().load_state_dict(state)


def same(
    found: GeneSums, expected: GeneSums, *, exactly: bool = False, spread: bool = True
) -> None:
    """Equal to rounding, or to the last bit."""
    atol = 0.0 if exactly else 1e-12
    rtol = 0.0 if exactly else 1e-7
    assert found.sums.keys() == expected.sums.keys()
    pairs = [(found.sums[q], sums) for q, sums in expected.sums.items()]
    names = ["depth_g", "depth_square_g", "null", *(["within_ss"] if spread else [])]
    for a, b in [*pairs, *((getattr(found, n), getattr(expected, n)) for n in names)]:
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, atol=atol, rtol=rtol)
    assert found.n_pairs_g.tolist() == expected.n_pairs_g.tolist()
    assert found.groups.equals(expected.groups)
    if spread:
        assert found.within_dof == expected.within_dof


class TestCrossing:
    """Donors of baseline cells, against sums by hand over the pairs."""

    INPUTS = np.array(list("aabbccab"), dtype=object)
    BASELINES = np.array(["x", "a", "b", "x", "y", "", "y", "x"], dtype=object)
    LABELS = np.array(list("TTBBTBTB"), dtype=object)

    def crossed(self, main: str = "contrast", **more: Any) -> tuple[GeneSumsMetric, Attribution]:
        n = len(self.INPUTS)
        crossing = Crossing.of(self.INPUTS, self.BASELINES, self.LABELS)
        design = replace(design_of(torch.zeros(n, dtype=torch.long)), crossing=crossing, **more)
        made = metric("grad_x_delta", torch.zeros(n), design=design, main=main, n_null=4)
        return made, random_attribution(5, n, "grad_x_delta")

    def test_sums_by_hand_whatever_the_batches_and_after_a_save(self) -> None:
        whole, attribution = self.crossed()
        whole.update(attribution, every(8))
        part, _ = self.crossed()
        first, second = torch.tensor([5, 0, 3]), torch.tensor([1, 7, 2, 6, 4])
        part.update(rows(attribution, first), first)
        saved, (part, _) = part.state_dict(), self.crossed()
        part.load_state_dict(saved)
        part.update(rows(attribution, second), second)
        contrast_pt = (attribution.forward.scores_pt - attribution.backward.scores_pt) / 2
        features = N_GENES + len(PHENOTYPES)
        scores_pf = np.zeros((8, features))
        for p, ids in enumerate(attribution.gene_ids_pt):
            for t, gene in enumerate(ids.tolist()):
                at = gene if gene >= 0 else N_GENES + t - 1 if 1 <= t < HEADER else None
                if at is not None:
                    scores_pf[p, at] += float(contrast_pt[p, t])
        for label in (None, "T", "B"):
            expected = crossed_sums(whole.crossing, scores_pf, label)  # type: ignore[arg-type]
            for made in (whole, part):
                found = made.gene_sums().crossed_of(label)
                assert found is not None
                pd.testing.assert_frame_equal(found.rows, expected.rows)
                np.testing.assert_allclose(found.sums_rf, expected.sums_rf, atol=1e-12)
                np.testing.assert_allclose(found.weights_r, expected.weights_r)

    def test_only_where_baseline_cells_are_read(self) -> None:
        made, attribution = self.crossed()
        made.update(attribution, every(8))
        assert made.gene_sums().crossed is not None
        one_sided = Importance("forward", "grad_x_delta", "empty")
        design = replace(made.design)
        alone = GeneSumsMetric(
            N_GENES, 2, design, importances=(one_sided,), sees_presence=False, main="forward"
        )
        alone.update(attribution, every(8))
        assert alone.gene_sums().crossed is None

    def test_labels_that_donors_do_not_share_are_not_exchanged(self) -> None:
        for exchangeable in (True, False):
            made, attribution = self.crossed(exchangeable=exchangeable)
            made.update(attribution, every(8))
            assert (made.gene_sums().null is not None) == exchangeable
