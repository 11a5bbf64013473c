"""Each importance by hand, and the combinations that mean nothing."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradgene.attribution import METHODS
from gradgene.errors import AttributionError
from gradgene.genes import Importance, default_importance, l2_normalise
from gradgene.genes.importance import IMPORTANCES
from gradgene.pairs import BASELINES

FORWARD = torch.tensor([[4.0, -9.0, 0.0, 0.0, 2.0]])
BACKWARD = torch.tensor([[1.0, -4.0, -3.0, 0.0, -2.0]])


class TestFormulas:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("forward", [4.0, -9.0, 0.0, 0.0, 2.0]),
            ("backward", [1.0, -4.0, -3.0, 0.0, -2.0]),
            ("contrast", [1.5, -2.5, 1.5, 0.0, 2.0]),
            ("own_label", [1.5, -2.5, 1.5, 0.0, 2.0]),
            ("paper_mean", [2.5, -6.5, -1.5, 0.0, 0.0]),
            ("paper_geometric", [2.0, 6.0, 3.0, 0.0, 2.0]),
        ],
    )
    def test_with_the_cell_state_baseline(self, name: str, expected: list[float]) -> None:
        found = Importance(name, "grad_x_delta").combine(FORWARD, BACKWARD)
        assert found.tolist() == [pytest.approx(expected)]

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("forward", [4.0, -9.0, 0.0, 0.0, 2.0]),
            ("backward", [1.0, -4.0, -3.0, 0.0, -2.0]),
            ("own_label", [2.5, -6.5, -1.5, 0.0, 0.0]),
            ("paper_empty", [1.5, -2.5, 1.5, 0.0, 2.0]),
        ],
    )
    @pytest.mark.parametrize("method", ["deeplift", "grad_x_delta"])
    def test_with_the_empty_baseline(self, name: str, expected: list[float], method: str) -> None:
        found = Importance(name, method, "empty").combine(FORWARD, BACKWARD)
        assert found.tolist() == [pytest.approx(expected)]

    def test_own_label_is_the_mean_of_both_labels_readings(self) -> None:
        """R read for the other label of a margin is -R, so mean(F, -R) = (F - R)/2."""
        found = Importance("own_label", "deeplift").combine(FORWARD, BACKWARD)
        assert torch.equal(found, torch.stack([FORWARD, -BACKWARD]).mean(dim=0))

    def test_only_the_papers_are_normalised_by_definition(self) -> None:
        normalised = {
            name
            for name in IMPORTANCES
            if Importance(
                name, "grad_x_delta", "empty" if name == "paper_empty" else "cell_state"
            ).normalised
        }
        assert normalised == {"paper_mean", "paper_geometric", "paper_empty"}


class TestNormalisation:
    def test_by_hand(self) -> None:
        """The norm counts genes alone (3, 4), and divides everything."""
        scores = torch.tensor([[10.0, 3.0, -4.0, 7.0], [1.0, 0.0, 0.0, 1.0]])
        genes = torch.tensor([[-1, 0, 5, -1], [-1, 0, 5, -1]])
        assert l2_normalise(scores, genes).tolist() == [
            pytest.approx([2.0, 0.6, -0.8, 1.4]),
            [1.0, 0.0, 0.0, 1.0],
        ]

    @given(st.integers(0, 2**31 - 1), st.sampled_from([1e-6, 1.0, 1e6]))
    def test_gives_unit_norm_over_genes_and_ignores_scale(self, seed: int, scale: float) -> None:
        draw = torch.Generator().manual_seed(seed)
        scores = torch.randn(4, 9, generator=draw, dtype=torch.float64)
        genes = torch.arange(9).expand(4, 9) - 2
        unit = l2_normalise(scores * scale, genes)
        assert unit[:, 2:].norm(dim=1).tolist() == pytest.approx([1.0] * 4)
        torch.testing.assert_close(unit, l2_normalise(scores, genes))


class TestGuards:
    @pytest.mark.parametrize("name", ["paper_mean", "paper_geometric"])
    def test_the_papers_importances_cancel_under_a_complete_method(self, name: str) -> None:
        with pytest.raises(AttributionError) as caught:
            Importance(name, "deeplift")
        said = str(caught.value)
        assert "deeplift is complete and symmetric" in said
        assert "cancels" in said
        assert "ranking.importance" in said
        assert "use 'forward'" in said
        Importance(name, "grad_x_delta")

    @pytest.mark.parametrize("name", ["contrast", "paper_mean", "paper_geometric"])
    @pytest.mark.parametrize("method", ["deeplift", "grad_x_delta"])
    def test_these_need_a_baseline_that_swaps(self, name: str, method: str) -> None:
        with pytest.raises(AttributionError, match=r"baseline that swaps.*use 'own_label'"):
            Importance(name, method, "empty")

    def test_paper_empty_needs_the_empty_baseline(self) -> None:
        with pytest.raises(AttributionError, match=r"only for the empty baseline.*use 'contrast'"):
            Importance("paper_empty", "grad_x_delta")

    @pytest.mark.parametrize("kind", ["logit", "log_probability", "probability"])
    def test_own_label_needs_a_margin(self, kind: str) -> None:
        with pytest.raises(AttributionError, match="target_kind=margin"):
            Importance("own_label", "grad_x_delta", target_kind=kind)
        Importance("own_label", "grad_x_delta", "empty", kind)

    def test_a_symmetric_method_is_refused_for_being_symmetric(self) -> None:
        """Draws in both orders make expected gradients symmetric, though not complete."""
        with pytest.raises(AttributionError, match="gradient_shap is symmetric, not complete, so"):
            Importance("paper_mean", "gradient_shap")

    def test_unknown_names_are_answered_with_the_closest(self) -> None:
        with pytest.raises(AttributionError, match=r"'contrasts'.*one of 'contrast'"):
            Importance("contrasts", "grad_x_delta")
        with pytest.raises(AttributionError, match=r"attribution: no attribution 'deplift'.*'deep"):
            Importance("forward", "deplift")
        with pytest.raises(AttributionError, match=r"baseline: no baseline 'means'.*one of 'mean'"):
            Importance("forward", "deeplift", "means")

    def test_meaningful_ones(self) -> None:
        def names(*of: str) -> set[str]:
            return {i.name for i in Importance.meaningful(*of)}

        everything = set(IMPORTANCES)
        papers = {"paper_mean", "paper_geometric"}
        assert names("grad_x_delta", "cell_state", "margin") == everything - {"paper_empty"}
        assert names("deeplift", "cell_state", "margin") == everything - papers - {"paper_empty"}
        assert names("deeplift", "cell_state", "logit") == {"forward", "backward", "contrast"}
        assert names("deeplift", "empty", "margin") == everything - papers - {"contrast"}

    def test_defaults(self) -> None:
        assert default_importance("deeplift") == "forward"
        assert default_importance("grad_x_delta") == "contrast"
        assert default_importance("deeplift", "empty") == "own_label"
        assert default_importance("grad_x_delta", "zero") == "own_label"

    def test_the_default_ranks_a_gene_of_either_label_where_each_cell_is_its_own(self) -> None:
        """f = x0 - x1 against nothing: cases show more of gene 0, controls more of gene 1."""
        case, control = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.0, 2.0, 0.0]])
        weights = torch.tensor([[1.0, -1.0, 0.0]])
        found = {
            name: Importance(name, "deeplift", "empty").combine(case * weights, -control * weights)
            for name in ("forward", default_importance("deeplift", "empty"))
        }
        assert found["own_label"].tolist() == [[0.5, 0.5, 0.0]]
        assert found["forward"].tolist() == [[2.0, -1.0, 0.0]], "below a gene that says nothing"

    def test_names_of_another_version_have_a_default(self) -> None:
        assert default_importance("of_tomorrow", "unheard_of") == "contrast"


#: Exchanging the members negates every score: integrals along a path between the two (the draws of
#: gradient_shap come in pairs, one for each order), and finite differences from end to end.
SYMMETRIC = ("deeplift", "integrated_gradients", "gradient_shap")
#: Local gradients are taken at one member, occlusion begins with one member, noise with none.
ASYMMETRIC = (
    *("grad_x_delta", "input_x_gradient", "gim", "captum_deeplift", "captum_integrated_gradients"),
    *("swap_occlusion", "remove_occlusion", "random"),
)
#: What reads both directions alone means something always.
ALWAYS = {"forward", "backward"}
#: (symmetric, baseline) -> what more there is for a margin. Where the pair is exchanged, R explains
#: it for the same label: the contrast compares like with like, and a margin read for the other
#: label is the same number negated. The published means cancel only where R = -F. Where each cell
#: is explained against itself, R is of the other cell for its own label: their mean is the mean of
#: own labels, a contrast of two scalars is none, and the published formula is of the empty cell.
MORE = {
    (True, "cell_state"): {"contrast", "own_label"},
    (True, "mean"): {"contrast", "own_label"},
    (True, "empty"): {"own_label", "paper_empty"},
    (True, "zero"): {"own_label"},
    (False, "cell_state"): {"contrast", "own_label", "paper_mean", "paper_geometric"},
    (False, "mean"): {"contrast", "own_label", "paper_mean", "paper_geometric"},
    (False, "empty"): {"own_label", "paper_empty"},
    (False, "zero"): {"own_label"},
}
#: These hand tokens to others, and no token's embedding is zero.
TOKENS_ONLY = ("captum_deeplift", "captum_integrated_gradients")
DEFAULTS = {
    (True, "cell_state"): "forward",
    (True, "mean"): "forward",
    (False, "cell_state"): "contrast",
    (False, "mean"): "contrast",
    **{(symmetric, b): "own_label" for symmetric in (True, False) for b in ("empty", "zero")},
}


class TestWholeTable:
    def test_it_is_whole(self) -> None:
        assert set(METHODS) == {*SYMMETRIC, *ASYMMETRIC}
        assert {baseline for _, baseline in MORE} == set(BASELINES)

    @pytest.mark.parametrize("kind", ["margin", "logit", "log_probability", "probability"])
    @pytest.mark.parametrize("baseline", BASELINES)
    @pytest.mark.parametrize("method", METHODS)
    def test_what_means_something(self, method: str, baseline: str, kind: str) -> None:
        if baseline == "zero" and method in TOKENS_ONLY:
            assert not Importance.meaningful(method, baseline, kind)
            with pytest.raises(AttributionError, match="none of tokens; to fix: choose another b"):
                Importance("forward", method, baseline, kind)
            return
        expected = ALWAYS | MORE[method in SYMMETRIC, baseline]
        if kind != "margin" and baseline in ("cell_state", "mean"):
            expected -= {"own_label"}  # the other label's scalar was never computed
        found = {i.name for i in Importance.meaningful(method, baseline, kind)}
        assert found == expected
        default = default_importance(method, baseline)
        assert default == DEFAULTS[method in SYMMETRIC, baseline] and default in found
        for name in set(IMPORTANCES) - expected:
            with pytest.raises(AttributionError, match=f"meaningless here: .*use '{default}'"):
                Importance(name, method, baseline, kind)


class TestExchange:
    """The importance were the labels of the two cells exchanged, on closed forms."""

    def scores(self, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        draw = torch.Generator().manual_seed(seed)
        f, r = (torch.randn(3, 5, generator=draw, dtype=torch.float64) for _ in range(2))
        return f, r

    @given(st.integers(0, 2**31 - 1), st.sampled_from(["contrast", "own_label"]))
    def test_negates_what_compares_the_two(self, seed: int, name: str) -> None:
        importance = Importance(name, "grad_x_delta")
        f, r = self.scores(seed)
        other = importance.exchanged(f, r)
        assert other is not None and torch.equal(other, -importance.combine(f, r))

    @pytest.mark.parametrize("method", SYMMETRIC)
    def test_negates_the_forward_score_of_a_symmetric_method(self, method: str) -> None:
        f, _ = self.scores(0)
        other = Importance("forward", method).exchanged(f, -f)
        assert other is not None and torch.equal(other, -f)

    def test_of_one_direction_is_the_other(self) -> None:
        f, r = self.scores(1)
        for one, other in (("forward", r), ("backward", f)):
            found = Importance(one, "grad_x_delta").exchanged(f, r)
            assert found is not None and torch.equal(found, other)

    @pytest.mark.parametrize("name", ["paper_mean", "paper_geometric"])
    def test_leaves_the_published_importances_alone(self, name: str) -> None:
        importance = Importance(name, "grad_x_delta")
        f, r = self.scores(2)
        other = importance.exchanged(f, r)
        assert other is not None and torch.equal(other, importance.combine(f, r))

    @pytest.mark.parametrize("baseline", ["empty", "zero"])
    def test_reads_a_margin_for_the_first_label(self, baseline: str) -> None:
        """R is of the other cell for the other label; for the first it is -R."""
        f, r = self.scores(3)
        expected = {"forward": -r, "backward": -f, "own_label": -(f + r) / 2}
        if baseline == "empty":
            expected["paper_empty"] = (f - r) / 2
        for name, values in expected.items():
            importance = Importance(name, "grad_x_delta", baseline)
            other = importance.exchanged(f, r)
            assert other is not None and importance.exchanges
            torch.testing.assert_close(other, values)

    @pytest.mark.parametrize("kind", ["logit", "log_probability", "probability"])
    @pytest.mark.parametrize("baseline", ["empty", "zero"])
    def test_is_unknown_for_other_scalars_of_single_cells(self, baseline: str, kind: str) -> None:
        f, r = self.scores(4)
        for importance in Importance.meaningful("grad_x_delta", baseline, kind):
            assert importance.exchanged(f, r) is None and not importance.exchanges
        swapped = Importance("contrast", "grad_x_delta", "cell_state", kind)
        assert swapped.exchanges and swapped.exchanged(f, r) is not None

    @given(st.integers(0, 2**31 - 1))
    def test_twice_is_nothing(self, seed: int) -> None:
        """For every importance that means something: exchanging the exchanged pair is the pair."""
        f, r = self.scores(seed)
        for baseline in ("cell_state", "empty"):
            for importance in Importance.meaningful("grad_x_delta", baseline, "margin"):
                there = (r, f) if baseline == "cell_state" else (-r, -f)
                back = importance.exchanged(*there)
                assert back is not None
                torch.testing.assert_close(back, importance.combine(f, r))


def test_which_importances_rest_on_the_baseline_cells() -> None:
    assert Importance("forward", "deeplift").reads_baseline_cells
    assert not Importance("forward", "deeplift", "empty").reads_baseline_cells
    assert Importance("own_label", "deeplift", "empty").reads_baseline_cells


def test_geometric_is_never_negative_or_nan() -> None:
    f, r = torch.tensor([[-1e-30, math.pi, 0.0]]), torch.tensor([[0.0, -math.e, 0.0]])
    found = Importance("paper_geometric", "grad_x_delta").combine(f, r)
    assert found.tolist() == [pytest.approx([1e-30, math.sqrt(math.pi * math.e), 0.0])]
