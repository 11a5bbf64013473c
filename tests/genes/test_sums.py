"""Sums per gene and donor against a brute-force pandas groupby."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradgene.attribution import Attribution, DirectionScores
from gradgene.errors import AttributionError
from gradgene.genes import GeneSums, GeneSumsMetric, Importance
from gradgene.genes.importance import IMPORTANCES

N_GENES, PHENOTYPES, N_DONORS = 7, ("sex", "disease"), 4
HEADER = 1 + len(PHENOTYPES)
seeds = st.integers(0, 2**31 - 1)


def importances(method: str) -> tuple[Importance, ...]:
    return Importance.meaningful(method, "cell_state", "margin")


def metric(method: str, normalise: str = "none") -> GeneSumsMetric:
    return GeneSumsMetric(
        N_GENES, len(PHENOTYPES), N_DONORS, importances(method), method == "deeplift", normalise
    )


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
            record |= {"present": 1.0, "donor": int(donors[p])}
            record["feature"] = N_GENES + t - 1 if phenotype else int(gene)
            records.append(record)
    return pd.DataFrame(records)


def brute_force(table: pd.DataFrame, quantity: str) -> np.ndarray:
    sums = table.groupby(["donor", "feature"])[quantity].sum().unstack(fill_value=0)
    every = range(N_DONORS), range(N_GENES + len(PHENOTYPES))
    return sums.reindex(index=every[0], columns=every[1], fill_value=0.0).to_numpy()


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
        accumulator = metric(method, normalise)
        accumulator.update(attribution, donors)
        found = accumulator.gene_sums()
        table = long_table(attribution, donors, normalise)
        for quantity, sums in found.sums.items():
            np.testing.assert_allclose(
                sums, brute_force(table, quantity), atol=1e-12, err_msg=quantity
            )
        assert found.n_pairs_d.tolist() == np.bincount(donors, minlength=N_DONORS).tolist()

    def test_quantities(self) -> None:
        names = {i for i in IMPORTANCES if i != "paper_empty"}
        for method, left_out, more in (
            ("grad_x_delta", set(), {"embedding", "present"}),
            ("deeplift", {"paper_mean", "paper_geometric"}, {"embedding", "presence", "present"}),
        ):
            kept = names - left_out
            suffixed = {f"{n}{s}" for n in kept for s in ("", "/abs", "/zero")}
            accumulator = metric(method)
            accumulator.update(random_attribution(0, 3, method), draw_donors(0, 3))
            assert set(accumulator.gene_sums().sums) == suffixed | more

    @given(seeds, st.integers(2, 10))
    def test_order_and_batches_do_not_matter(self, seed: int, n: int) -> None:
        attribution, donors = random_attribution(seed, n, "deeplift"), draw_donors(seed, n)
        whole = metric("deeplift")
        whole.update(attribution, donors)
        one_by_one = metric("deeplift")
        for i in torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist():
            picked = torch.tensor([i])
            one_by_one.update(rows(attribution, picked), donors[picked])
        same(one_by_one.gene_sums(), whole.gene_sums())

    @given(seeds, st.integers(2, 10))
    def test_two_processes_merge(self, seed: int, n: int) -> None:
        attribution, donors = random_attribution(seed, n, "deeplift"), draw_donors(seed, n)
        whole, first, second = (metric("deeplift") for _ in range(3))
        whole.update(attribution, donors)
        for part, picked in ((first, torch.arange(1)), (second, torch.arange(1, n))):
            part.update(rows(attribution, picked), donors[picked])
        first.merge_state(second)
        same(first.gene_sums(), whole.gene_sums())

    def test_a_result_is_not_changed_by_later_updates(self) -> None:
        attribution, donors = random_attribution(1, 6, "deeplift"), draw_donors(1, 6)
        accumulator = metric("deeplift")
        accumulator.update(attribution, donors)
        early = accumulator.gene_sums()
        before = early.sums["forward"].copy(), early.n_pairs_d.copy()
        accumulator.update(attribution, donors)
        assert (early.sums["forward"] == before[0]).all()
        assert (early.n_pairs_d == before[1]).all()
        later = accumulator.gene_sums()
        np.testing.assert_allclose(later.sums["forward"], 2 * before[0])
        assert later.n_pairs == 12

    def test_a_single_donor(self) -> None:
        """torchmetrics turns one-entry results into numbers; donors stay an axis."""
        one = GeneSumsMetric(N_GENES, 2, 1, importances("deeplift"), True)
        one.update(random_attribution(0, 3, "deeplift"), torch.zeros(3, dtype=torch.int64))
        assert one.gene_sums().n_pairs_d.tolist() == [3]
        assert one.gene_sums().donor_means("forward").shape == (1, N_GENES + 2)

    @pytest.mark.parametrize(
        ("gene", "donor"), [(N_GENES, 0), (N_GENES + 5, 0), (0, N_DONORS), (0, -1)]
    )
    def test_what_does_not_fit_is_refused(self, gene: int, donor: int) -> None:
        """A gene just above the panel would otherwise be added to a phenotype."""
        attribution = random_attribution(0, 2, "deeplift")
        attribution.gene_ids_pt[0, HEADER] = gene
        accumulator = metric("deeplift")
        with pytest.raises(AttributionError, match="outside the planned table"):
            accumulator.update(attribution, torch.tensor([donor, 0]))

    def test_runs_in_inference_mode(self) -> None:
        """As in Lightning's predict loop, with the metric made outside."""
        accumulator = metric("deeplift")
        attribution, donors = random_attribution(1, 6, "deeplift"), draw_donors(1, 6)
        with torch.inference_mode():
            accumulator.update(attribution, donors)
        expected = metric("deeplift")
        expected.update(attribution, donors)
        same(accumulator.gene_sums(), expected.gene_sums())


def same(found: GeneSums, expected: GeneSums) -> None:
    assert found.sums.keys() == expected.sums.keys()
    for quantity, sums in expected.sums.items():
        np.testing.assert_allclose(found.sums[quantity], sums, atol=1e-12)
    assert found.n_pairs_d.tolist() == expected.n_pairs_d.tolist()


def test_means_by_hand() -> None:
    """Donors 0 and 2 have 1 and 3 pairs; gene 0 is in all, gene 1 in two pairs, gene 2 in none."""
    sums = GeneSums(
        sums={
            "forward": np.array([[2.0, 6.0, 0.0], [0.0, 0.0, 0.0], [6.0, 3.0, 0.0]]),
            "present": np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [3.0, 1.0, 0.0]]),
        },
        n_pairs_d=np.array([1, 0, 3]),
    )
    assert sums.n_pairs == 4
    assert sums.mean("forward").tolist() == [2.0, 2.25, 0.0]
    np.testing.assert_array_equal(sums.mean_present("forward"), [2.0, 4.5, np.nan])
    assert sums.donor_means("forward").tolist() == [[2.0, 6.0, 0.0], [2.0, 1.0, 0.0]]
