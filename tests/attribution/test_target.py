"""The explained scalar: by hand, with exact multipliers, and with errors that help."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradgene.attribution import AttributionSettings, Target, build_method
from gradgene.errors import AttributionError, TokenError
from tests.attribution.toys import KINDS, VOCABULARY, target

#: Ids: 4 special tokens, diseases 4-6, sexes 7-8, bins 9-13.
CASE, CONTROL, OTHER = 4, 5, 6
WIDTH = VOCABULARY.n_values


def logits(**at: float) -> torch.Tensor:
    """One row of zeros but for the named diseases."""
    row = torch.zeros(1, WIDTH, dtype=torch.float64)
    for name, value in at.items():
        row[0, {"case": CASE, "control": CONTROL, "other": OTHER}[name]] = value
    return row


class TestRead:
    def test_by_hand(self) -> None:
        z = logits(case=math.log(3), control=math.log(2), other=math.log(5))
        got = {k: float(target(k).bind(VOCABULARY).read(z)) for k in KINDS}
        assert got == pytest.approx(
            {
                "margin": math.log(3 / 2),
                "logit": math.log(3),
                "log_probability": math.log(0.3),
                "probability": 0.3,
            }
        )

    def test_probability_over_every_input_id(self) -> None:
        """e^z is 3, 2 and 5 for the diseases and 1 for the other 11 ids: 3/21."""
        z = logits(case=math.log(3), control=math.log(2), other=math.log(5))
        assert WIDTH == 14
        read = {k: float(target(k, "all").bind(VOCABULARY).read(z)) for k in KINDS[2:]}
        assert read["probability"] == pytest.approx(1 / 7)
        assert read["log_probability"] == pytest.approx(-math.log(7))

    def test_category_and_ids(self) -> None:
        bound = target("margin").bind(VOCABULARY)
        assert (bound.category, bound.label_id, bound.against_id) == ("disease", CASE, CONTROL)
        assert bound.among == (CASE, CONTROL, OTHER)
        sex = Target("sex", "male", "female").bind(VOCABULARY)
        assert (sex.category, sex.label_id, sex.against_id) == ("sex", 8, 7)
        assert target("logit").bind(VOCABULARY).against_id is None


class TestMultipliers:
    @given(
        st.integers(0, 2**31 - 1),
        st.sampled_from(KINDS),
        st.sampled_from(["category", "all"]),
        st.sampled_from([1e-8, 0.1, 1.0, 30.0]),
    )
    def test_are_exact(self, seed: int, kind: str, labels: str, scale: float) -> None:
        g = torch.Generator().manual_seed(seed)
        z_i, z_b = scale * torch.randn(2, 5, WIDTH, generator=g, dtype=torch.float64)
        bound = target(kind, labels).bind(VOCABULARY)
        gained = (bound.multipliers(z_i, z_b) * (z_i - z_b)).sum(dim=1)
        risen = bound.read(z_i) - bound.read(z_b)
        torch.testing.assert_close(gained, risen, rtol=0, atol=1e-10 * max(1, scale))
        back = bound.multipliers(z_b, z_i)
        torch.testing.assert_close(back, bound.multipliers(z_i, z_b), rtol=0, atol=1e-12)

    @given(st.integers(0, 2**31 - 1), st.sampled_from(KINDS), st.sampled_from(["category", "all"]))
    def test_equal_the_derivative_where_the_members_agree(
        self, seed: int, kind: str, labels: str
    ) -> None:
        g = torch.Generator().manual_seed(seed)
        z = torch.randn(5, WIDTH, generator=g, dtype=torch.float64).requires_grad_(True)
        bound = target(kind, labels).bind(VOCABULARY)
        (slope,) = torch.autograd.grad(bound.read(z).sum(), z)
        found = bound.multipliers(z.detach(), z.detach())
        torch.testing.assert_close(found, slope, rtol=0, atol=1e-12)

    def test_two_labels_by_hand(self) -> None:
        """p of case goes from 1/2 to 3/4 of two labels, as its logit rises by ln 3.

        ℓ is (1/4)/ln(3/2) and (1/4)/ln 2, so case has the share ln 2 / ln 3 of Σℓ and m_case is
        1 - ln 2 / ln 3 = ln(3/2) / ln 3.
        """
        z_i, z_b = logits(case=math.log(3), other=-math.inf), logits(other=-math.inf)
        m = target("log_probability").bind(VOCABULARY).multipliers(z_i, z_b)
        assert float(m[0, CASE]) == pytest.approx(math.log(1.5) / math.log(3))
        assert float(m[0, CONTROL]) == pytest.approx(-math.log(1.5) / math.log(3))
        assert float(m[0, OTHER]) == 0

    def test_only_labels_of_the_category_count(self) -> None:
        z_i, z_b = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(0))
        for kind in KINDS:
            m = target(kind).bind(VOCABULARY).multipliers(z_i, z_b)
            others = [i for i in range(WIDTH) if i not in (CASE, CONTROL, OTHER)]
            assert (m[:, others] == 0).all()


class TestErrors:
    def test_a_margin_needs_the_other_label(self) -> None:
        with pytest.raises(AttributionError, match=r"target\.against.*margin"):
            Target("disease", "case")

    def test_a_label_is_not_against_itself(self) -> None:
        with pytest.raises(AttributionError, match="itself"):
            Target("disease", "case", "case", kind="logit")

    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            ({"kind": "logits"}, r"target\.kind.*'logits'.*one of 'logit'"),
            ({"vocabulary": "categories"}, r"target\.vocabulary.*'categories'.*'category'"),
        ],
    )
    def test_unknown_readings_are_named(self, changed: dict[str, Any], named: str) -> None:
        """Unchecked, a misspelled kind would silently be read as a probability."""
        with pytest.raises(AttributionError, match=named):
            Target("disease", "case", "control", **changed)

    @pytest.mark.parametrize(
        ("asked", "named"),
        [
            (Target("disease", "cases", "control"), "'cases'.*one of 'case'"),
            (Target("disease", "case", "contrl"), "'contrl'.*one of 'control'"),
            (Target("disease", "case", ""), "''"),
            (Target("disaese", "case", "control"), "'disaese'.*one of 'disease'"),
        ],
    )
    def test_unknown_names_are_answered_with_the_closest(self, asked: Target, named: str) -> None:
        with pytest.raises(TokenError, match=named):
            asked.bind(VOCABULARY)

    def test_mirrored(self) -> None:
        mirrored = target("margin").mirrored()
        assert (mirrored.label, mirrored.against, mirrored.kind) == ("control", "case", "margin")
        with pytest.raises(AttributionError, match="other label"):
            Target("disease", "case", kind="logit").mirrored()


def test_settings_make_their_target() -> None:
    settings = AttributionSettings(build_method("deeplift"), "probability", "all")
    made = settings.target("disease", "case", "control")
    assert made == Target("disease", "case", "control", kind="probability", vocabulary="all")
