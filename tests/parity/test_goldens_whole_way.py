"""The released attributions, reproduced the way a user would go: checkpoint, cells, pairs, method.

All six pairs are one batch here. `grad_x_delta` and `captum_deeplift` are the paper's DeepLIFT,
`captum_integrated_gradients` its integrated gradients.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from gradgene.attribution import (
    CaptumDeepLift,
    CaptumIntegratedGradients,
    DirectionScores,
    build_method,
)
from gradgene.attribution.captum_reader import CaptumReader
from gradgene.modes import explaining
from gradgene.pairs import EmptyBaseline, blend
from tests.parity.goldens import (
    DELTA,
    PAIRS,
    Released,
    normalised_close,
    probability,
    raw_close,
    released_norm,
)


@pytest.fixture(scope="module")
def released(shared: Path) -> Released:
    return Released.read(shared, "all")


CAPTUM_IG = "captum_integrated_gradients"
#: Name of the golden, method, its parameters; names in `_f64` are of double precision.
VARIANTS = [
    ("dl", "grad_x_delta", {}),
    ("dl_f64", "grad_x_delta", {}),
    ("dl", "captum_deeplift", {}),
    ("dl_f64", "captum_deeplift", {}),
    ("ig10", CAPTUM_IG, {"n_steps": 10}),
    pytest.param("ig50", CAPTUM_IG, {"n_steps": 50}, marks=pytest.mark.slow),
    pytest.param("ig50_f64", CAPTUM_IG, {"n_steps": 50}, marks=pytest.mark.slow),
    pytest.param("ig500", CAPTUM_IG, {"n_steps": 500}, marks=pytest.mark.slow),
    ("ig10_word", CAPTUM_IG, {"n_steps": 10, "layer": "value"}),
    ("ig10_token_type", CAPTUM_IG, {"n_steps": 10, "layer": "identity"}),
]
#: These were released for two pairs only.
FEW = ("ig500", "ig10_word", "ig10_token_type")
#: Largest difference over largest score in double precision; Captum's weights of nodes are single.
EXACT = {"dl_f64": 1e-12, "ig50_f64": 1e-7}


@pytest.mark.parametrize("base", ["pair", "blank"])
@pytest.mark.parametrize(("name", "method", "parameters"), VARIANTS)
def test_the_released_attributions(
    name: str, method: str, parameters: dict[str, Any], base: str, released: Released
) -> None:
    """Raw, normalised and what is left open, of both directions; where theirs is NaN ours is 0."""
    golden, vocabulary = released.golden, released.loaded.vocabulary
    assert released.n_filed == 8  # p2, p3 and p4 have made-up members
    pairs = [p for p in PAIRS if golden.has(f"{p}/{base}/{name}/raw")]
    assert len(pairs) == (2 if name in FEW else 6)
    blended, found = released.attribute(base, method, pairs, name in EXACT, **parameters)
    n_nan = 0
    for p, pair in enumerate(pairs):
        key = f"{pair}/{base}"
        at = golden.places(blended, p, key, vocabulary)
        for direction, prefix, k in ((found.forward, "", 0), (found.backward, "rev_", 1)):
            ours_t = torch.zeros(int(at.max()) + 1, dtype=direction.scores_pt.dtype)
            ours_t[at[at >= 0]] = direction.scores_pt[p][at >= 0]
            assert not direction.scores_pt[p][at < 0].any()
            raw, attr = (golden.get(f"{key}/{name}/{prefix}{kind}") for kind in ("raw", "attr"))
            raw_close(ours_t, raw)
            if name in EXACT:
                assert float((ours_t - raw).abs().max()) <= EXACT[name] * float(raw.abs().max())
            if attr.isnan().any():
                n_nan += 1
                assert attr.isnan().all() and not raw.any() and not ours_t.any()
            else:
                normalised_close(released_norm(ours_t), attr)
            # Captum counts the same shortfall with the other sign.
            wanted = float(golden.get(f"{key}/{name}/delta")[k])
            assert -float(direction.delta_p[p]) == pytest.approx(wanted, abs=DELTA)
    # Of every blank baseline, and of p4, whose baseline has no gene of its own.
    assert n_nan == (len(pairs) if base == "blank" else int(PAIRS[4] in pairs))


@pytest.mark.parametrize("base", ["pair", "blank"])
@pytest.mark.parametrize("pair", [PAIRS[0], PAIRS[3]])
def test_every_dimension(pair: str, base: str, released: Released) -> None:
    """Before the sum over the embedding, on the tokens that the paper's code blended itself."""
    golden, model = released.golden, released.loaded.model
    vocabulary, bound = model.vocabulary, probability(released.label).bind(model.vocabulary)
    members = []
    for name in ("blended_target", "blended_baseline"):
        ids_t, types_t = golden.cell(pair, name, base)
        ids_t = ids_t.clone()
        ids_t[vocabulary.slot("disease")] = vocabulary.mask_id
        mask_t = golden.get(f"{pair}/{base}/{name}/attention_mask")
        members.append((ids_t[None], types_t[None], mask_t[None]))
    reader = CaptumReader(model, bound).eval()
    for name, method in (
        ("dl", CaptumDeepLift()),
        ("ig10", CaptumIntegratedGradients(n_steps=10)),
    ):
        for prefix, (i, b) in (("", members), ("rev_", members[::-1])):
            with explaining(model), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Setting forward, backward hooks")
                found = method.explain(reader, model.embedding_norm, i, b)[0].detach()
            raw_close(found, golden.get(f"{pair}/{base}/{name}/{prefix}raw_full"))


def test_the_scalar_is_the_papers_probability(released: Released) -> None:
    for base in ("pair", "blank"):
        _, found = released.attribute(base, "grad_x_delta", list(PAIRS), double=False)
        theirs = torch.stack([released.golden.get(f"{p}/{base}/prob") for p in PAIRS])
        for ours, column in ((found.forward.f_input_p, 0), (found.forward.f_baseline_p, 1)):
            torch.testing.assert_close(ours.double(), theirs[:, column], rtol=1e-5, atol=0)


def test_the_empty_baseline_is_the_blank_one(released: Released) -> None:
    """Forward, `baseline=empty` is the paper's blank one; backward it explains the other cell."""
    model, rows = released.loaded.model, torch.arange(len(PAIRS))
    blended = blend(released.tokens, rows, rows + len(PAIRS))
    asked = probability(released.label, against="normal")
    method = build_method("grad_x_delta")
    forward = method.attribute(model, blended, asked, EmptyBaseline()).forward
    _, blank = released.attribute("blank", "grad_x_delta", list(PAIRS), double=False)
    assert_same(forward, blank.forward)


def assert_same(one: DirectionScores, other: DirectionScores) -> None:
    torch.testing.assert_close(one.scores_pt, other.scores_pt)
    torch.testing.assert_close(one.f_input_p, other.f_input_p)
    torch.testing.assert_close(one.f_baseline_p, other.f_baseline_p)
