"""Accumulate token scores into per-gene sums, group by group, in fixed memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from gradgene.attribution import Attribution
from gradgene.errors import AttributionError, closest
from gradgene.genes.crossing import CrossingSums
from gradgene.genes.design import PairDesign
from gradgene.genes.importance import Importance, l2_norm, l2_normalise
from gradgene.genes.sums import GeneSums

__all__ = ["GeneSumsMetric"]

#: At most so many numbers in the working tables of a batch (32 MiB in float64).
WORKING_SIZE = 2**22


class GeneSumsMetric(Metric):
    """torchmetrics accumulator of `GeneSums`: states of fixed size, summed across processes.

    Memory is O(quantities x groups x genes) whatever the number of pairs, and O(n_null x genes)
    for the null; `state_bytes` says how much. The states are part of `state_dict`. On a CPU the
    same batches in the same order give the same sums to the last bit, also with a save and a load
    in between.

    Parameters
    ----------
    n_genes, n_phenotypes
        Numbers of features.
    design
        Group, input cell and depth of every pair of the plan.
    importances
        The importances to accumulate.
    sees_presence
        Whether the method scores presence.
    normalise
        "l2" divides each pair's scores by their norm over gene tokens for every importance;
        `paper_*` ones always do.
    main
        The importance that makes the table: the one that squares, depth, the spread among baselines
        and the null are kept of.
    n_null
        How many times labels are exchanged at random within pairs; all pairs of one input cell are
        exchanged together. Which ones depends on seed, draw and input cell alone. The spread of
        these draws is widened by `design.sharing`. Not done where the design is not exchangeable.
    seed
        Seed of the exchanges.

    Raises
    ------
    AttributionError
        If `main` is not among the importances; from `update`, if gene ids or pairs are outside
        the plan; from `load_state_dict`, if the states are of another plan.
    """

    full_state_update = False
    sums: Tensor
    n_pairs_g: Tensor
    depth_moments_g2: Tensor
    within_ss: Tensor
    within_dof: Tensor
    null: Tensor
    null_centre: Tensor
    crossed: Tensor
    crossed_weights: Tensor
    group_p: Tensor
    input_p: Tensor
    depth_p: Tensor
    crossed_row_pk: Tensor
    crossed_weight_pk: Tensor

    def __init__(
        self,
        n_genes: int,
        n_phenotypes: int,
        design: PairDesign,
        importances: tuple[Importance, ...],
        sees_presence: bool,
        normalise: str = "none",
        *,
        main: str,
        n_null: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(compute_with_cache=False)
        self.n_genes, self.n_features = n_genes, n_genes + n_phenotypes
        self.design, self.normalise, self.seed = design, normalise, seed
        self.importances, self.main = importances, _main_of(importances, main)
        self.n_null = n_null if self.main.exchanges and design.exchangeable else 0
        self.crossing = design.crossing if self.main.reads_baseline_cells else None
        self.quantities = [
            *(f"{i.name}{suffix}" for i in importances for suffix in ("", "/abs", "/zero")),
            f"{main}/square",
            f"{main}/depth",
            "embedding",
            *(["presence"] if sees_presence else []),
            "present",
        ]
        n_groups = len(design.groups)
        shapes = {
            "sums": (len(self.quantities), n_groups, self.n_features),
            "depth_moments_g2": (n_groups, 2),
            "within_ss": (self.n_features,),
        }
        if self.n_null:
            # Features first, so that a batch adds to whole rows.
            shapes |= {"null": (self.n_features, self.n_null), "null_centre": (self.n_features,)}
        if self.crossing is not None:
            n_rows = len(self.crossing.rows)
            shapes |= {"crossed": (n_rows, self.n_features), "crossed_weights": (n_rows,)}
        for name, shape in shapes.items():
            self._add_sum(name, shape, torch.float64)
        self._add_sum("n_pairs_g", (n_groups,), torch.int64)
        self._add_sum("within_dof", (1,), torch.int64)
        # Around the mean of the plan, where sums of squares keep their digits.
        depth_p = design.depth_p - (design.depth_p.mean() if len(design) else 0.0)
        for name, known in (
            ("group_p", design.group_p),
            ("input_p", design.input_p),
            ("depth_p", depth_p),
        ):
            self.register_buffer(name, torch.from_numpy(known), persistent=False)
        if self.crossing is not None:
            for name, known in (
                ("crossed_row_pk", self.crossing.row_pk),
                ("crossed_weight_pk", self.crossing.weight_pk),
            ):
                self.register_buffer(name, torch.from_numpy(known), persistent=False)

    def _add_sum(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        zeros = torch.zeros(shape, dtype=dtype)
        self.add_state(name, zeros, dist_reduce_fx="sum", persistent=True)

    @property
    def state_bytes(self) -> int:
        """Memory of the states; the zeros to reset to take as much, saving and reading a copy."""
        states = cast(dict[str, Tensor], self.metric_state)
        return sum(state.numel() * state.element_size() for state in states.values())

    def update(self, attribution: Attribution, pairs_p: Tensor) -> None:
        """Add a batch; `pairs_p` (pairs,) int64 are the positions of its pairs in the plan."""
        if not len(pairs_p):
            return
        pairs_p = pairs_p.to(self.group_p.device)
        features_pt = self._features(attribution, pairs_p)
        # Positions of the tokens that count, found once: masks are slow to index by.
        at_k = (features_pt >= 0).view(-1).nonzero().view(-1)
        feature_k = features_pt.view(-1)[at_k]
        pair_k = at_k // features_pt.shape[1]
        group_p, depth_p = self.group_p[pairs_p], self.depth_p[pairs_p]
        index_k = group_p[pair_k] * self.n_features + feature_k
        for q, values_pt in enumerate(self._values(attribution, depth_p)):
            self.sums[q].view(-1).index_add_(0, index_k, _picked(values_pt, at_k))
        self.n_pairs_g += torch.bincount(group_p, minlength=len(self.n_pairs_g))
        moments_p2 = torch.stack([depth_p, depth_p.square()], dim=1)
        self.depth_moments_g2.index_add_(0, group_p, moments_p2)
        scores = self._scores(attribution, self.main)
        other_pt = self.main.exchanged(*scores) if self.n_null else None
        value_k = _picked(self.main.combine(*scores), at_k)
        other_k = None if other_pt is None else _picked(other_pt, at_k)
        self._add_inputs(value_k, other_k, pair_k, feature_k, pairs_p)
        self._add_crossed(value_k, pair_k, feature_k, pairs_p)

    def compute(self) -> dict[str, Tensor]:
        """The states summed over processes, by name."""
        return cast(dict[str, Tensor], dict(self.metric_state))

    def gene_sums(self) -> GeneSums:
        """The sums so far over all processes, as arrays by quantity."""
        states = {name: state.cpu().numpy() for name, state in self.compute().items()}
        # torchmetrics squeezes what has a single entry: one group comes back as a number.
        n_pairs_g = states["n_pairs_g"].reshape(-1)
        null = None
        if self.n_null:
            whole_nf = states["null"].T * self.design.sharing**0.5 + states["null_centre"]
            null = whole_nf / max(int(n_pairs_g.sum()), 1)
        shape = (len(self.quantities), len(n_pairs_g), self.n_features)
        moments_g2 = states["depth_moments_g2"]
        return GeneSums(
            sums=dict(zip(self.quantities, states["sums"].reshape(shape), strict=True)),
            n_pairs_g=n_pairs_g,
            groups=self.design.groups,
            main=self.main.name,
            n_genes=self.n_genes,
            depth_g=moments_g2[:, 0],
            depth_square_g=moments_g2[:, 1],
            within_ss=states["within_ss"].reshape(self.n_features),
            within_dof=int(states["within_dof"].sum()),
            null=null,
            crossed=self._crossed(states),
        )

    def _crossed(self, states: Mapping[str, np.ndarray]) -> CrossingSums | None:
        if self.crossing is None:
            return None
        sums_rf = states["crossed"].reshape(-1, self.n_features)
        return CrossingSums(self.crossing.rows, sums_rf, states["crossed_weights"].reshape(-1))

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Go on from saved sums.

        Raises `AttributionError` if their names or sizes are not those of this plan.
        """
        mine = cast(dict[str, Tensor], self.metric_state)
        theirs = {name: tuple(state.shape) for name, state in state_dict.items()}
        expected = {name: tuple(state.shape) for name, state in mine.items()}
        if theirs != expected:
            raise AttributionError(
                "the saved sums are of another plan",
                expected=", ".join(f"{n} {s}" for n, s in sorted(expected.items())),
                found=", ".join(f"{n} {s}" for n, s in sorted(theirs.items())),
            )
        # Copied, since torchmetrics would go on adding to the tensors that were handed in.
        copies = {name: state_dict[name].detach().to(s, copy=True) for name, s in mine.items()}
        found = super().load_state_dict(copies, strict, assign)
        self._update_count = max(self._update_count, 1)  # there is something to compute from
        return found

    def _features(self, attribution: Attribution, pairs_p: Tensor) -> Tensor:
        """(pairs, positions) feature of each token, -1 for none; checked against the plan."""
        genes_pt = attribution.gene_ids_pt
        genes_fit = int(genes_pt.max()) < self.n_genes
        if not genes_fit or int(pairs_p.min()) < 0 or int(pairs_p.max()) >= len(self.group_p):
            raise AttributionError("a gene or pair is outside the planned table")
        features_pt = genes_pt.clone()
        header = torch.arange(self.n_features - self.n_genes, device=genes_pt.device)
        features_pt[:, 1 : attribution.n_header] = self.n_genes + header
        return features_pt

    def _scores(self, attribution: Attribution, importance: Importance) -> tuple[Tensor, Tensor]:
        """Forward and backward scores in the units of an importance."""
        raw = attribution.forward.scores_pt, attribution.backward.scores_pt
        if importance.normalised or self.normalise == "l2":
            genes_pt = attribution.gene_ids_pt
            return l2_normalise(raw[0], genes_pt), l2_normalise(raw[1], genes_pt)
        return raw

    def _values(self, attribution: Attribution, depth_p: Tensor) -> list[Tensor]:
        values = []
        for importance in self.importances:
            value = importance.combine(*self._scores(attribution, importance))
            values += [value, value.abs(), (value == 0)]
        main = values[3 * self.importances.index(self.main)].to(torch.float64)
        values += [main.square(), main * depth_p[:, None]]
        # The parts of the forward score, in its units.
        raw = attribution.forward.scores_pt
        norm_p1 = torch.ones(()).to(raw)
        if self.normalise == "l2":
            norm_p1 = l2_norm(raw, attribution.gene_ids_pt)
        values.append(attribution.forward.embedding_pt / norm_p1)
        if "presence" in self.quantities:
            presence_pt = attribution.forward.presence_pt
            assert presence_pt is not None  # declared by the method
            values.append(presence_pt / norm_p1)
        values.append(torch.ones_like(raw))
        return values

    def _add_inputs(
        self,
        value_k: Tensor,
        other_k: Tensor | None,
        pair_k: Tensor,
        feature_k: Tensor,
        pairs_p: Tensor,
    ) -> None:
        """Add what needs the pairs of one input cell together: their spread and the null."""
        inputs_i, at_p = torch.unique(self.input_p[pairs_p], return_inverse=True)
        n_i = torch.bincount(at_p, minlength=len(inputs_i))
        self.within_dof += int((n_i - 1).sum())
        repeated = int(n_i.max()) > 1
        if not repeated and other_k is None:
            return
        # Only features of this batch have columns: of 60,000 genes it shows a few thousand.
        seen_f = torch.zeros(self.n_features, dtype=torch.bool, device=feature_k.device)
        seen_f[feature_k] = True
        column_k = (seen_f.cumsum(0) - 1)[feature_k]
        feature_c = seen_f.nonzero().view(-1)
        if other_k is not None:
            self.null_centre.index_add_(0, feature_k, (value_k + other_k) / 2)
        row_k = at_p[pair_k]
        step = max(1, WORKING_SIZE // len(feature_c))
        for start in range(0, len(inputs_i), step):
            n_rows = min(step, len(inputs_i) - start)
            mine_k = (row_k >= start) & (row_k < start + n_rows)
            index_k = (row_k[mine_k] - start) * len(feature_c) + column_k[mine_k]
            shape = n_rows, len(feature_c)
            if repeated:
                total_ic = _scattered(value_k[mine_k], index_k, shape)
                square_ic = _scattered(value_k[mine_k].square(), index_k, shape)
                n_i1 = n_i[start : start + n_rows, None]
                # An input with one pair has no spread; below 0 there is only rounding.
                ss_ic = (square_ic - total_ic.square() / n_i1).clamp(min=0) * (n_i1 > 1)
                self.within_ss.index_add_(0, feature_c, ss_ic.sum(dim=0))
            if other_k is not None:
                half_ic = _scattered((value_k[mine_k] - other_k[mine_k]) / 2, index_k, shape)
                signs_in = self._signs(inputs_i[start : start + n_rows])
                self.null.index_add_(0, feature_c, half_ic.T @ signs_in)

    def _add_crossed(
        self, value_k: Tensor, pair_k: Tensor, feature_k: Tensor, pairs_p: Tensor
    ) -> None:
        """Add what the donors of baseline cells have in common."""
        if self.crossing is None:
            return
        rows_pk, weights_pk = self.crossed_row_pk[pairs_p], self.crossed_weight_pk[pairs_p]
        for row_p, weight_p in zip(rows_pk.T, weights_pk.T, strict=True):
            counts_p = row_p >= 0
            self.crossed_weights.index_add_(0, row_p[counts_p], weight_p[counts_p])
            mine_k = counts_p[pair_k].nonzero().view(-1)
            index_k = row_p[pair_k[mine_k]] * self.n_features + feature_k[mine_k]
            weighted_k = value_k[mine_k] * weight_p[pair_k[mine_k]]
            self.crossed.view(-1).index_add_(0, index_k, weighted_k)

    def _signs(self, inputs_i: Tensor) -> Tensor:
        """(inputs, n_null) +1 or -1; each input's are the first of one endless row of its own."""
        rows = [
            np.random.default_rng((self.seed, i)).random(self.n_null) for i in inputs_i.tolist()
        ]
        signs_in = np.where(np.stack(rows) < 0.5, -1.0, 1.0)
        return torch.from_numpy(signs_in).to(inputs_i.device)


def _main_of(importances: tuple[Importance, ...], main: str) -> Importance:
    for importance in importances:
        if importance.name == main:
            return importance
    names = [importance.name for importance in importances]
    raise AttributionError(
        f"the main importance {main!r} is not accumulated",
        where="ranking.importance",
        expected=f"one of {closest(main, names)}",
    )


def _picked(values_pt: Tensor, at_k: Tensor) -> Tensor:
    """(tokens,) float64 values at flat positions."""
    return values_pt.reshape(-1)[at_k].to(torch.float64)


def _scattered(values_k: Tensor, index_k: Tensor, shape: tuple[int, int]) -> Tensor:
    """Sums of the values by index, as a table of `shape` counted row by row."""
    table = torch.zeros(shape, dtype=values_k.dtype, device=values_k.device)
    return table.view(-1).index_add_(0, index_k, values_k).view(shape)
