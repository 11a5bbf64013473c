"""The transformer's symmetries, its shortcut to one slot, and its checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gradgene.errors import ConfigError
from gradgene.models import MultiHeadAttention, PhenotypeGeneTransformer
from gradgene.tokens import PAD, TokenBatch, Tokenizer, mask_category
from tests.planted import keep_genes, make_cells, make_model, make_tokenizer

HEADER = 4  # [CLS] and three phenotypes


def padded(tokens: TokenBatch, n: int) -> TokenBatch:
    """`n` more columns of padding."""
    fills = (PAD, 0, False, -1)
    longer: dict[str, Any] = {
        name: F.pad(tensor, (0, n), value=fill)
        for (name, tensor), fill in zip(tokens.tensors().items(), fills, strict=True)
    }
    return replace(tokens, **longer)


def reordered(tokens: TokenBatch, order_t: Tensor) -> TokenBatch:
    moved: dict[str, Any] = {name: tensor[:, order_t] for name, tensor in tokens.tensors().items()}
    return replace(tokens, **moved)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


def test_attention_of_the_fixture_is_uneven(
    tiny_model: PhenotypeGeneTransformer, tiny_tokens: TokenBatch
) -> None:
    """Else the symmetries below would hold for a model that ignores most of its input."""
    x = tiny_model.embed(tiny_tokens)
    attention = tiny_model.get_submodule("blocks.0.attention")
    assert isinstance(attention, MultiHeadAttention)
    q, k = (
        layer(x).unflatten(-1, (2, 8)).transpose(1, 2)
        for layer in (attention.q_lin, attention.k_lin)
    )
    scores = (q @ k.transpose(-1, -2) / 8**0.5).masked_fill(
        ~tiny_tokens.attention_mask_nt[:, None, None, :], -torch.inf
    )
    weights = scores.softmax(dim=-1)
    assert weights.amax(dim=-1).mean() > 4 / weights.shape[-1]
    slot_logits = tiny_model(tiny_tokens).logits_ntv[:, 1]
    assert slot_logits.std(dim=0).mean() > 0.05


@given(seed=st.integers(0, 1000))
def test_gene_order_is_meaningless(seed: int) -> None:
    cells = make_cells(n=6, seed=seed)
    tokenizer = make_tokenizer(cells)
    tokens, model = tokenizer(cells), make_model(tokenizer.vocabulary, seed=seed)
    length = tokens.input_ids_nt.shape[1]
    shuffled = torch.randperm(length - HEADER, generator=torch.Generator().manual_seed(seed))
    order_t = torch.cat([torch.arange(HEADER), HEADER + shuffled])
    with torch.no_grad():
        before, after = model(tokens), model(reordered(tokens, order_t))
    present = tokens.attention_mask_nt[:, order_t]
    close(after.hidden_ntd[present], before.hidden_ntd[:, order_t][present])
    close(after.logits_ntv[:, :HEADER], before.logits_ntv[:, :HEADER])


@given(n=st.integers(1, 40))
def test_padding_changes_nothing(n: int) -> None:
    cells = make_cells(n=6)
    tokenizer = make_tokenizer(cells)
    tokens, model = tokenizer(cells), make_model(tokenizer.vocabulary)
    with torch.no_grad():
        more = model(padded(tokens, n))
        close(more.hidden_ntd[:, :-n], model(tokens).hidden_ntd)
        for row in range(6):  # nor does what pads a cell in company of longer ones
            alone = tokens.take(torch.tensor([row]))
            size = alone.input_ids_nt.shape[1]
            close(more.logits_ntv[row : row + 1, :size], model(alone).logits_ntv)


def test_reading_one_slot_equals_reading_all(
    tiny_model: PhenotypeGeneTransformer, tiny_tokens: TokenBatch
) -> None:
    with torch.no_grad():
        whole = tiny_model(tiny_tokens)
        embeddings, mask_nt = tiny_model.embed(tiny_tokens), tiny_tokens.attention_mask_nt
        for slot, category in enumerate(tiny_model.vocabulary.phenotypes, start=1):
            one = tiny_model.read(embeddings, mask_nt, category)
            assert one.shape == (60, tiny_model.vocabulary.n_values)
            close(one, whole.logits_ntv[:, slot])
            hidden = tiny_model.encode(embeddings, mask_nt, slot)
            close(hidden, whole.hidden_ntd[:, slot : slot + 1])


def test_genes_and_their_bins_reach_the_slot(
    tiny_model: PhenotypeGeneTransformer, tiny_tokens: TokenBatch, tiny_tokenizer: Tokenizer
) -> None:
    masked, _ = mask_category(tiny_tokens, tiny_tokenizer.vocabulary, "disease")
    keep_g = torch.ones(50, dtype=torch.bool)
    keep_g[49] = False  # every cell expresses it
    with torch.no_grad():
        change = (
            tiny_model(masked).logits_ntv[:, 1]
            - tiny_model(keep_genes(masked, keep_g)).logits_ntv[:, 1]
        )
    assert (change.abs().amax(dim=1) > 1e-4).all()


def by_hand(model: PhenotypeGeneTransformer, tokens: TokenBatch) -> Tensor:
    """Logits by the format page, section 5, written with loops and plain formulas."""
    weights = dict(model.named_parameters())

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-12).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def gelu(x: Tensor) -> Tensor:
        return x * 0.5 * (1 + torch.erf(x / 2**0.5))

    x = weights["value_embedding.weight"][tokens.input_ids_nt]
    x = norm(x + weights["identity_embedding.weight"][tokens.token_type_ids_nt], "embedding_norm")
    for i in range(2):
        block = f"blocks.{i}"
        q, k, v = (linear(x, f"{block}.attention.{p}_lin") for p in "qkv")
        heads = []
        for part in (slice(0, 8), slice(8, 16)):
            scores = q[..., part] @ k[..., part].transpose(1, 2) / 8**0.5
            scores = scores.masked_fill(~tokens.attention_mask_nt[:, None, :], -torch.inf)
            heads.append(scores.softmax(dim=-1) @ v[..., part])
        attended = linear(torch.cat(heads, dim=-1), f"{block}.attention.out_lin")
        x = norm(x + attended, f"{block}.sa_layer_norm")
        fed = linear(gelu(linear(x, f"{block}.lin1")), f"{block}.lin2")
        x = norm(x + fed, f"{block}.output_layer_norm")
    return linear(norm(gelu(linear(x, "head_transform")), "head_norm"), "head_projector")


def test_logits_by_hand(tiny_model: PhenotypeGeneTransformer, tiny_tokens: TokenBatch) -> None:
    with torch.no_grad():
        close(tiny_model(tiny_tokens).logits_ntv, by_hand(tiny_model, tiny_tokens))


def test_dropout_acts_only_while_training(
    tiny_model: PhenotypeGeneTransformer, tiny_tokens: TokenBatch
) -> None:
    def logits() -> Tensor:
        return tiny_model(tiny_tokens).logits_ntv

    with torch.no_grad():
        assert torch.equal(logits(), logits())
        tiny_model.train()
        assert not torch.equal(logits(), logits())


def test_state_loads_with_weights_only(
    tiny_model: PhenotypeGeneTransformer, tiny_tokens: TokenBatch, tmp_path: Path
) -> None:
    file = tmp_path / "model.pt"
    saved = {
        "state_dict": tiny_model.state_dict(),
        "vocabulary": tiny_model.vocabulary.to_dict(),
        "size": tiny_model.size,
    }
    torch.save(saved, file)
    loaded = torch.load(file, weights_only=True)
    again = PhenotypeGeneTransformer(loaded["vocabulary"], **loaded["size"]).double().eval()
    again.load_state_dict(loaded["state_dict"])
    assert again.vocabulary == tiny_model.vocabulary
    with torch.no_grad():
        assert torch.equal(again(tiny_tokens).logits_ntv, tiny_model(tiny_tokens).logits_ntv)


def test_fresh_weights_are_berts(tiny_tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    model = PhenotypeGeneTransformer(tiny_tokenizer.vocabulary, initial_std=0.02)
    assert not model.value_embedding.weight[PAD].any()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            assert not module.bias.any()
            assert 0.018 < module.weight.std().item() < 0.022
        elif isinstance(module, nn.LayerNorm):
            assert module.eps == 1e-12
    assert model.identity_embedding.weight.shape == (54, 64)  # special, 3 categories, 50 genes
    assert model.head_projector.out_features == tiny_tokenizer.vocabulary.n_values


@pytest.mark.parametrize(
    ("initial_std", "embedding", "linear"),
    # torch draws embeddings from N(0, 1) and linear weights from U(±1/8) at a width of 64.
    [(None, 1.0, 1 / 8 / 3**0.5), (0.02, 0.02, 0.02), (0.5, 0.5, 0.5)],
)
def test_spread_of_fresh_weights(
    tiny_tokenizer: Tokenizer, initial_std: float | None, embedding: float, linear: float
) -> None:
    torch.manual_seed(0)
    model = PhenotypeGeneTransformer(tiny_tokenizer.vocabulary, initial_std=initial_std)
    assert model.size["initial_std"] == initial_std
    assert not model.value_embedding.weight[PAD].any()
    identity = model.identity_embedding.weight.std().item()
    assert identity == pytest.approx(embedding, rel=0.05)
    assert model.head_transform.weight.std().item() == pytest.approx(linear, rel=0.05)
    assert bool(model.head_transform.bias.any()) == (initial_std is None)


def test_torchs_own_initialisation_is_the_default(tiny_tokenizer: Tokenizer) -> None:
    assert PhenotypeGeneTransformer(tiny_tokenizer.vocabulary).size["initial_std"] is None


def test_width_must_be_shared_by_the_heads(tiny_tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="model: width 10 cannot be shared by 4 heads"):
        PhenotypeGeneTransformer(tiny_tokenizer.vocabulary, dim=10, n_heads=4)
