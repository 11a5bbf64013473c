"""Each importance by hand, and the combinations that mean nothing."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradgene.errors import AttributionError
from gradgene.genes import Importance, default_importance, l2_normalise
from gradgene.genes.importance import IMPORTANCES

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
        with pytest.raises(AttributionError, match=r"baseline that swaps.*use 'forward'"):
            Importance(name, method, "empty")

    def test_paper_empty_needs_the_empty_baseline(self) -> None:
        with pytest.raises(AttributionError, match=r"only for the empty baseline.*use 'contrast'"):
            Importance("paper_empty", "grad_x_delta")

    @pytest.mark.parametrize("kind", ["logit", "log_probability", "probability"])
    def test_own_label_needs_a_margin(self, kind: str) -> None:
        with pytest.raises(AttributionError, match="target_kind=margin"):
            Importance("own_label", "grad_x_delta", target_kind=kind)
        Importance("own_label", "grad_x_delta", "empty", kind)

    def test_unknown_names_are_answered_with_the_closest(self) -> None:
        with pytest.raises(AttributionError, match=r"'contrasts'.*one of 'contrast'"):
            Importance("contrasts", "grad_x_delta")

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
        assert default_importance("deeplift", "empty") == "forward"
        assert default_importance("grad_x_delta", "empty") == "forward"


def test_geometric_is_never_negative_or_nan() -> None:
    f, r = torch.tensor([[-1e-30, math.pi, 0.0]]), torch.tensor([[0.0, -math.e, 0.0]])
    found = Importance("paper_geometric", "grad_x_delta").combine(f, r)
    assert found.tolist() == [pytest.approx([1e-30, math.sqrt(math.pi * math.e), 0.0])]
