"""Attribution under Lightning is attribution, and the sums are those of single pairs."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradgene.attribution import Attribution, AttributionMethod, GradXDelta, Target, build_method
from gradgene.cells import Cells, log_normalise
from gradgene.errors import AttributionError, ConfigError
from gradgene.genes import GeneSumsMetric, Importance, PairDesign, default_importance
from gradgene.lit import (
    AttributionCollector,
    FineTuning,
    MaskedTarget,
    PhenotypeModule,
    pair_loader,
)
from gradgene.lit import pairs as served
from gradgene.pairs import (
    BaselineStrategy,
    CellStateBaseline,
    EmptyBaseline,
    PairPlan,
    PairSampler,
    blend,
)
from gradgene.tokens import Tokenizer
from tests.lit.toys import Watched, trainer
from tests.planted import PHENOTYPES, make_cells, make_model, make_tokenizer

TARGET = Target("disease", "case", "control")
DONORS = ("d0", "d1", "d2", "d3")


class Study:
    """Cells, a model of random weights, and eleven planned pairs with two baselines a cell."""

    def __init__(self, donor: bool = True) -> None:
        counts = make_cells(n=40, n_genes=20, donor=donor)
        self.tokenizer: Tokenizer = make_tokenizer(counts)
        self.cells: Cells = log_normalise(counts)
        self.model = make_model(self.tokenizer.vocabulary)
        sampler = PairSampler("disease", "case", "control", ("sex",), per_cell=2, max_pairs=11)
        self.plan: PairPlan = sampler.sample(self.cells)

    def module(self, method: AttributionMethod, baseline: BaselineStrategy) -> PhenotypeModule:
        """The module that explains with `method`."""
        made = PhenotypeModule(
            self.model, self.tokenizer.schema, "disease", FineTuning(), MaskedTarget()
        )
        made.explain_with(method, TARGET, baseline)
        return made

    def one_by_one(
        self, method: AttributionMethod, baseline: BaselineStrategy
    ) -> list[Attribution]:
        """Every pair of the plan alone, in plan order."""
        tokens = self.tokenizer.encode(self.cells)
        rows = self.plan.table[["input_row", "baseline_row"]].to_numpy()
        return [
            method.attribute(
                self.model, blend(tokens, torch.tensor([a]), torch.tensor([b])), TARGET, baseline
            )
            for a, b in rows
        ]


@pytest.fixture(scope="module")
def study() -> Study:
    """One study for all tests, which leave it as it is."""
    return Study()


def importances(method: AttributionMethod, baseline: BaselineStrategy) -> tuple[Importance, ...]:
    """Every importance that means something."""
    return Importance.meaningful(method.name, baseline.name, "margin")


def new_sums(
    study: Study,
    method: AttributionMethod,
    baseline: BaselineStrategy,
    plan: PairPlan | None = None,
) -> GeneSumsMetric:
    """An empty accumulator for the pairs of the study, or of another plan over its cells."""
    edge = study.tokenizer.vocabulary.bin_edges[0]
    return GeneSumsMetric(
        n_genes=20,
        n_phenotypes=3,
        design=PairDesign.of(plan or study.plan, study.cells, edge, swaps=baseline.swaps),
        importances=importances(method, baseline),
        sees_presence=method.sees_presence,
        main=default_importance(method.name, baseline.name),
        n_null=3,
    )


def collect(
    study: Study,
    method: AttributionMethod,
    baseline: BaselineStrategy,
    batch_tokens: int,
    watch: Any = None,
    per_cell: bool = False,
) -> tuple[GeneSumsMetric, AttributionCollector]:
    """Run the plan through `trainer.predict`."""
    sums = new_sums(study, method, baseline)
    collector = Watched(sums, study.plan, watch or (lambda *given: None))
    loader = pair_loader(study.cells, study.tokenizer, study.plan, batch_tokens, per_cell=per_cell)
    trainer(inference_mode=False, callbacks=[collector]).predict(
        study.module(method, baseline), loader, return_predictions=False
    )
    return sums, collector


def expected_sums(
    found: list[Attribution], donors: list[int], chosen: tuple[Importance, ...]
) -> dict[str, np.ndarray]:
    """Quantity -> (donors, features), token by token."""
    wanted = [n for i in chosen for n in (i.name, f"{i.name}/abs", f"{i.name}/zero")]
    totals = {
        name: np.zeros((max(donors) + 1, 23))
        for name in [*wanted, "embedding", "presence", "present"]
    }
    for one, donor in zip(found, donors, strict=True):
        genes = one.gene_ids_pt[0].tolist()
        f, r = one.forward.scores_pt[0].numpy(), one.backward.scores_pt[0].numpy()
        is_gene = np.array(genes) >= 0
        unit = [x / np.sqrt((x[is_gene] ** 2).sum()) for x in (f, r)]
        half_sum, half_difference = (f + r) / 2, (f - r) / 2
        values = {
            "forward": f,
            "backward": r,
            "contrast": half_difference,
            "own_label": half_difference if one.baseline == "cell_state" else half_sum,
            "paper_mean": (unit[0] + unit[1]) / 2,
            "paper_geometric": np.where(
                (f == 0) | (r == 0),
                np.maximum(np.abs(unit[0]), np.abs(unit[1])),
                np.sqrt(np.abs(unit[0] * unit[1])),
            ),
            "paper_empty": (unit[0] - unit[1]) / 2,
            "embedding": one.forward.embedding_pt[0].numpy(),
            "presence": (
                np.zeros_like(f)
                if one.forward.presence_pt is None
                else one.forward.presence_pt[0].numpy()
            ),
            "present": np.ones_like(f),
        }
        for t, gene in enumerate(genes):
            feature = gene if gene >= 0 else 20 + t - 1 if 1 <= t <= 3 else None
            if feature is None:
                continue
            for name in totals:
                kind = name.removesuffix("/abs").removesuffix("/zero")
                value = values[kind][t]
                if name.endswith("/abs"):
                    value = abs(value)
                if name.endswith("/zero"):
                    value = value == 0
                totals[name][donor, feature] += value
    return totals


CASES = [
    ("deeplift", CellStateBaseline()),
    ("grad_x_delta", CellStateBaseline()),
    ("grad_x_delta", EmptyBaseline()),
]


@pytest.mark.parametrize("batch_tokens", [1, 150, 10**6])
@pytest.mark.parametrize(("name", "baseline"), CASES)
def test_sums_are_those_of_single_pairs(
    study: Study, name: str, baseline: BaselineStrategy, batch_tokens: int
) -> None:
    method = build_method(name)
    sums, collector = collect(study, method, baseline, batch_tokens)
    donor_of = [DONORS.index(d) for d in study.plan.table["donor_input"]]
    assert sorted(set(donor_of)) == list(range(4))
    expected = expected_sums(
        study.one_by_one(method, baseline), donor_of, importances(method, baseline)
    )
    found = sums.gene_sums()
    missing = set() if method.sees_presence else {"presence"}
    of_main = {f"{found.main}/{kind}" for kind in ("square", "depth")}
    assert set(found.sums) == (set(expected) - missing) | of_main
    for quantity, values in found.sums.items():
        if quantity in of_main:
            continue  # tests/genes/test_accumulating.py
        np.testing.assert_allclose(values, expected[quantity], atol=1e-8, err_msg=quantity)
    assert found.groups["donor"].tolist() == [*DONORS]
    assert found.n_pairs_g.tolist() == [Counter(donor_of)[d] for d in range(4)]
    sizes = {1: [1] * 11, 10**6: [11]}  # one token holds no pair, so each is alone
    if batch_tokens in sizes:
        assert [len(b) for b in collector.batches] == sizes[batch_tokens]
    else:
        assert 1 < len(collector.batches) < 11


@pytest.mark.parametrize("batch_tokens", [1, 150, 10**6])
def test_ledger_is_in_plan_order(study: Study, batch_tokens: int) -> None:
    method, baseline = build_method("deeplift"), CellStateBaseline()
    _, collector = collect(study, method, baseline, batch_tokens)
    ledger, plan = collector.pairs(), study.plan.table
    facts = ["pair", "input", "baseline", "donor_input", "donor_baseline"]
    pd.testing.assert_frame_equal(ledger[facts], plan[facts])
    # A value below the first edge is not expressed.
    expressed = study.cells.matrix_ng.toarray() >= study.tokenizer.vocabulary.bin_edges[0]
    a, b = expressed[plan["input_row"]], expressed[plan["baseline_row"]]
    assert list(ledger["n_genes_input"]) == a.sum(axis=1).tolist()
    assert list(ledger["n_genes_baseline"]) == b.sum(axis=1).tolist()
    assert list(ledger["n_shared"]) == (a & b).sum(axis=1).tolist()
    for row, one in zip(ledger.itertuples(), study.one_by_one(method, baseline), strict=True):
        for column, value in (
            ("f_input", one.forward.f_input_p),
            ("f_baseline", one.forward.f_baseline_p),
            ("forward_delta", one.forward.delta_p),
            ("backward_delta", one.backward.delta_p),
        ):
            assert getattr(row, column) == pytest.approx(float(value), abs=1e-8)
        both = max(float(one.forward.relative_delta_p), float(one.backward.relative_delta_p))
        assert row.relative_delta == pytest.approx(both, abs=1e-8)
    sizes = ["n_genes_input", "n_genes_baseline", "n_shared"]
    scalars = ["f_input", "f_baseline", "forward_delta", "backward_delta", "relative_delta"]
    assert list(ledger.columns) == [*facts, *sizes, *scalars]


@pytest.mark.parametrize("batch_tokens", [1, 60, 100, 150, 400, 10**6])
def test_every_pair_once_and_within_the_budget(study: Study, batch_tokens: int) -> None:
    loader = pair_loader(study.cells, study.tokenizer, study.plan, batch_tokens)
    sampler: Any = loader.sampler
    batches = list(sampler)
    assert len(loader) == len(batches)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(study.plan)))
    names = study.cells.obs.index.to_numpy()
    plan, longest = study.plan.table, []
    for pairs, blended in zip(batches, loader, strict=True):
        assert len(pairs) == 1 or blended.gene_ids_pt.numel() <= batch_tokens
        whole = study.tokenizer.encode(study.cells.take(plan["input_row"].to_numpy()[pairs]))
        longest.append(int(whole.n_tokens_n.max()))
        assert len(blended.cells) <= 2 * len(pairs)
        for i, pair in enumerate(pairs):
            cell = study.cells.take(np.array([plan["input_row"][pair]]))
            assert cell.obs.index[0] == plan["input"][pair] == names[plan["input_row"][pair]]
            alone = study.tokenizer.encode(cell)
            shown = blended.input.take(torch.tensor([i]))
            assert set(shown.gene_ids_nt[0].tolist()) == set(alone.gene_ids_nt[0].tolist())
    assert longest == sorted(longest, reverse=True)  # what may not fit in memory comes first


@pytest.mark.parametrize("baseline", [CellStateBaseline(), EmptyBaseline()])
@pytest.mark.parametrize("batch_tokens", [1, 150])
def test_large_batches_have_the_same_sums_and_ledger(
    study: Study,
    baseline: BaselineStrategy,
    batch_tokens: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(served, "PER_CELL", 200)
    method = GradXDelta(forward_tokens=40)
    sums, collector = collect(study, method, baseline, batch_tokens, per_cell=True)
    assert (1 < len(collector.batches) < 11) if batch_tokens == 1 else len(collector.batches) == 1
    donor_of = [DONORS.index(d) for d in study.plan.table["donor_input"]]
    found = study.one_by_one(method, baseline)
    expected = expected_sums(found, donor_of, importances(method, baseline))
    found_sums = sums.gene_sums().sums
    for quantity, values in expected.items():
        if quantity != "presence":
            np.testing.assert_allclose(found_sums[quantity], values, atol=1e-8, err_msg=quantity)
    f_input = [float(one.forward.f_input_p) for one in found]
    np.testing.assert_allclose(collector.pairs()["f_input"], f_input, atol=1e-8)


@pytest.mark.parametrize("n_tokens", [1, 100, 400, 10**6])
def test_large_batches_hold_every_pair_once_within_their_budget(
    study: Study, n_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "PER_CELL", n_tokens)
    loader = pair_loader(study.cells, study.tokenizer, study.plan, 1, per_cell=True)
    sampler: Any = loader.sampler
    batches, table = list(sampler), study.plan.table
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(table)))
    for rows, blended in zip(batches, loader, strict=True):
        assert len(rows) == 1 or blended.gene_ids_pt.numel() <= n_tokens
        assert len(blended) == len(rows)
        # Who may share controls is together, and so are the pairs of each input.
        for column in ("stratum", "input_row"):
            changes = (table[column].iloc[rows].shift() != table[column].iloc[rows]).sum()
            assert changes == table[column].iloc[rows].nunique()
    longest = [int(b.cells.n_tokens_n[b.input_rows_p].max()) for b in loader]
    assert longest == sorted(longest, reverse=True)  # what may not fit in memory comes first


def test_large_batches_are_large(study: Study) -> None:
    """256 times as many tokens, and cells of the model at a time no more than before."""
    few, many = (
        pair_loader(study.cells, study.tokenizer, study.plan, 30, per_cell=per_cell)
        for per_cell in (False, True)
    )
    assert len(few) == 11 and len(many) == 1
    assert served.PER_CELL == 256


@st.composite
def pairs_to_cut(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Order, input and length of pairs: those of one input stand together."""
    per_input = draw(st.lists(st.integers(1, 6), min_size=1, max_size=40))
    inputs_p = np.repeat(np.random.default_rng(0).permutation(len(per_input)), per_input)
    upper_p = np.array(draw(st.lists(st.integers(1, 50), min_size=240, max_size=240)))
    order = np.random.default_rng(1).permutation(len(inputs_p))
    order = order[np.argsort(inputs_p[order], kind="stable")]
    return order, inputs_p, upper_p[: len(inputs_p)]


def padded(pairs: np.ndarray, upper_p: np.ndarray) -> int:
    """Tokens that a batch of these pairs holds."""
    return len(pairs) * int(upper_p[pairs].max())


@given(made=pairs_to_cut(), n_tokens=st.integers(1, 500))
def test_pairs_are_cut_in_order_between_inputs_and_within_the_budget(
    made: tuple[np.ndarray, np.ndarray, np.ndarray], n_tokens: int
) -> None:
    order, inputs_p, upper_p = made
    batches = served.cut(order, inputs_p, upper_p, n_tokens)
    assert np.concatenate(batches).tolist() == order.tolist()
    for batch in batches:
        assert len(batch) == 1 or padded(batch, upper_p) <= n_tokens
    for one, other in pairwise(batches):
        same = inputs_p[one[-1]] == inputs_p[other[0]]
        both = order[inputs_p[order] == inputs_p[other[0]]]
        if same:  # only an input that is too large for any batch is spread over several
            assert padded(both, upper_p) > n_tokens
        else:  # and the next input would not have fitted
            assert padded(np.concatenate([one, both]), upper_p) > n_tokens


@given(made=pairs_to_cut(), n_tokens=st.integers(1, 2000), world=st.integers(1, 5))
def test_processes_share_the_batches_without_spreading_inputs(
    made: tuple[np.ndarray, np.ndarray, np.ndarray], n_tokens: int, world: int
) -> None:
    order, inputs_p, upper_p = made
    batches = served.cut(order, inputs_p, upper_p, n_tokens)
    before = [batch.tolist() for batch in batches]
    if len(order) < world:
        with pytest.raises(ConfigError, match="more processes than there are pairs"):
            served.evened(batches, inputs_p, world)
        return
    shared = served.evened(batches, inputs_p, world)
    assert [batch.tolist() for batch in batches] == before
    assert len(shared) % world == 0 and all(map(len, shared))
    assert np.concatenate(shared).tolist() == order.tolist()
    n_inputs = len(np.unique(inputs_p))
    spread, allowed = (
        sum(len(np.unique(inputs_p[b])) for b in some) - n_inputs for some in (shared, batches)
    )
    # Another way exists as long as some batch holds two inputs.
    if spread > allowed:
        assert max(len(np.unique(inputs_p[batch])) for batch in shared) == 1


def test_batches_done_are_not_served_again(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are the cells tokenised that only they need."""
    loader = pair_loader(study.cells, study.tokenizer, study.plan, 150)
    sampler: Any = loader.sampler
    everything = [*loader.sampler]
    encoded: list[int] = []
    encode = Tokenizer.encode

    def counted(self: Tokenizer, cells: Cells) -> Any:
        encoded.append(len(cells))
        return encode(self, cells)

    monkeypatch.setattr(Tokenizer, "encode", counted)
    sampler.n_done = len(everything) - 1
    assert len(loader) == 1
    (blended,) = list(loader)
    assert len(blended) == len(everything[-1])
    rows = study.plan.table[["input_row", "baseline_row"]].to_numpy()[everything[-1]]
    assert encoded == [len(np.unique(rows))]
    sampler.n_done = len(everything)
    assert len(loader) == 0 and list(sampler) == []


def test_a_stopped_sampler_serves_no_more(study: Study) -> None:
    sampler: Any = pair_loader(study.cells, study.tokenizer, study.plan, 150).sampler
    served_now = iter(sampler)
    next(served_now)
    sampler.stopped = True
    assert [*served_now] == []


def test_batches_have_a_hash_of_their_own(study: Study) -> None:
    def hash_of(tokens: int, plan: PairPlan = study.plan, per_cell: bool = False) -> str:
        sampler: Any = pair_loader(
            study.cells, study.tokenizer, plan, tokens, per_cell=per_cell
        ).sampler
        return str(sampler.hash)

    assert hash_of(150) == hash_of(150)
    shorter = study.plan.take(np.arange(10))
    other = {hash_of(150), hash_of(300), hash_of(150, shorter), hash_of(1, per_cell=True)}
    assert len(other) == 4


def test_a_cell_is_tokenised_once_a_batch(study: Study) -> None:
    (blended,) = list(pair_loader(study.cells, study.tokenizer, study.plan, 10**6))
    rows = study.plan.table[["input_row", "baseline_row"]].to_numpy()
    assert len(blended.cells) == len(np.unique(rows)) < rows.size


def test_without_donors_there_is_one_row() -> None:
    study = Study(donor=False)
    method, baseline = build_method("grad_x_delta"), CellStateBaseline()
    sums, collector = collect(study, method, baseline, 200)
    found = sums.gene_sums()
    assert found.n_pairs_g.tolist() == [11] and found.n_donors == 0
    expected = expected_sums(
        study.one_by_one(method, baseline), [0] * 11, importances(method, baseline)
    )
    np.testing.assert_allclose(found.sums["forward"], expected["forward"], atol=1e-8)
    assert collector.pairs()["donor_input"].isna().all()


def test_write_gets_every_pair_with_its_number(study: Study) -> None:
    written: dict[int, torch.Tensor] = {}

    def write(attribution: Attribution, pairs: np.ndarray) -> None:
        for i, pair in enumerate(pairs):
            assert int(pair) not in written
            written[int(pair)] = attribution.forward.scores_pt[i]

    method, baseline = build_method("deeplift"), CellStateBaseline()
    collect(study, method, baseline, 150, write)
    for pair, one in enumerate(study.one_by_one(method, baseline)):
        scores = one.forward.scores_pt[0]
        padded = torch.zeros_like(written[pair])
        padded[: len(scores)] = scores
        torch.testing.assert_close(written[pair], padded, atol=1e-8, rtol=1e-8)


def test_predict_step_is_the_method(study: Study) -> None:
    method, baseline = build_method("deeplift"), CellStateBaseline()
    loader = pair_loader(study.cells, study.tokenizer, study.plan, 150)
    found: list[Attribution] = []
    collect(study, method, baseline, 150, lambda one, _: found.append(one))
    for one, blended in zip(found, loader, strict=True):
        direct = method.attribute(study.model, blended, TARGET, baseline)
        assert isinstance(one, Attribution)
        assert (one.method, one.baseline) == ("deeplift", "cell_state")
        assert torch.equal(one.gene_ids_pt, direct.gene_ids_pt)
        for direction in ("forward", "backward"):
            ours, theirs = getattr(one, direction), getattr(direct, direction)
            for field in fields(ours):
                assert torch.equal(getattr(ours, field.name), getattr(theirs, field.name))
        assert not one.forward.scores_pt.is_inference()


def test_nothing_to_explain_with(study: Study) -> None:
    module = PhenotypeModule(
        study.model, study.tokenizer.schema, "disease", FineTuning(), MaskedTarget()
    )
    loader = pair_loader(study.cells, study.tokenizer, study.plan, 150)
    with pytest.raises(AttributionError, match="explain_with"):
        trainer(inference_mode=False).predict(module, loader)


def test_the_plan_covers_what_the_tests_need(study: Study) -> None:
    table = study.plan.table
    assert len(table) == 11 and table["input"].duplicated().any()
    assert study.tokenizer.vocabulary.phenotypes == PHENOTYPES
