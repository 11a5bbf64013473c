"""Every choice of norm, activation, head and classifier, against formulas written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gradgene.errors import ConfigError
from gradgene.models import PhenotypeGeneTransformer, UnitNorm, running
from gradgene.tokens import TokenBatch, Tokenizer
from tests.planted import VARIANTS, make_model

#: Tracing looks at the `.grad` of what it traces, which torch itself then warns of.
TRACED = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
ALL = pytest.mark.parametrize("size", VARIANTS.values(), ids=VARIANTS)
#: Of what only the head differs, one is enough where the blocks alone are tested.
BLOCKS = {k: VARIANTS[k] for k in "ours pre-norm rms pre-norm-rms-silu relu silu".split()}
HEADS = {k: v for k, v in VARIANTS.items() if v.get("head") != "none"}


def close(a: Tensor, b: Tensor, atol: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=0)


def hidden_by_hand(model: PhenotypeGeneTransformer, tokens: TokenBatch) -> Tensor:
    """Hidden states by loops and plain formulas, whatever the model is made of."""
    weights, size = dict(model.named_parameters()), model.size

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: Tensor, name: str, eps: float = 1e-12) -> Tensor:
        layer = size["norm"] == "layer"
        x = x - x.mean(dim=-1, keepdim=True) if layer else x
        scaled = x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt()
        scaled = scaled * weights[f"{name}.weight"]
        return scaled + weights[f"{name}.bias"] if layer else scaled

    act = {
        "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)),
        "relu": lambda x: x * (x > 0),
        "silu": lambda x: x / (1 + (-x).exp()),
    }[size["activation"]]
    eps = size["embedding_norm_eps"]
    x = weights["value_embedding.weight"][tokens.input_ids_nt]
    x = x + weights["identity_embedding.weight"][tokens.token_type_ids_nt]
    x = norm(x, "embedding_norm", 1e-12 if eps is None else eps)
    for i in range(2):
        block = f"blocks.{i}"
        read = norm(x, f"{block}.sa_layer_norm") if size["norm_first"] else x
        q, k, v = (linear(read, f"{block}.attention.{p}_lin") for p in "qkv")
        heads = []
        for part in (slice(0, 8), slice(8, 16)):
            scores = q[..., part] @ k[..., part].transpose(1, 2) / 8**0.5
            scores = scores.masked_fill(~tokens.attention_mask_nt[:, None, :], -torch.inf)
            heads.append(scores.softmax(dim=-1) @ v[..., part])
        x = x + linear(torch.cat(heads, dim=-1), f"{block}.attention.out_lin")
        if size["norm_first"]:
            fed = norm(x, f"{block}.output_layer_norm")
            x = x + linear(act(linear(fed, f"{block}.lin1")), f"{block}.lin2")
        else:
            x = norm(x, f"{block}.sa_layer_norm")
            fed = linear(act(linear(x, f"{block}.lin1")), f"{block}.lin2")
            x = norm(x + fed, f"{block}.output_layer_norm")
    return norm(x, "final_norm") if size["norm_first"] else x


@ALL
def test_hidden_states_by_hand(
    size: dict[str, Any], tiny_tokenizer: Tokenizer, tiny_tokens: TokenBatch
) -> None:
    model = make_model(tiny_tokenizer.vocabulary, **size)
    with torch.no_grad():
        found = model.encode(model.embed(tiny_tokens), tiny_tokens.attention_mask_nt)
        close(found, hidden_by_hand(model, tiny_tokens))


@pytest.mark.parametrize("size", HEADS.values(), ids=HEADS)
def test_reading_a_slot_equals_reading_all(
    size: dict[str, Any], tiny_tokenizer: Tokenizer, tiny_tokens: TokenBatch
) -> None:
    model = make_model(tiny_tokenizer.vocabulary, **size)
    with torch.no_grad():
        whole = model(tiny_tokens).logits_ntv
        for slot, category in enumerate(model.vocabulary.phenotypes, start=1):
            if category != model.classified:
                read = model.read(model.embed(tiny_tokens), tiny_tokens.attention_mask_nt, category)
                close(read, whole[:, slot])


def test_the_sphere_reads_directions(tiny_tokenizer: Tokenizer) -> None:
    """cos of the angle to each row of the projection, times its length, over the temperature."""
    for tied in (True, False):
        model = make_model(tiny_tokenizer.vocabulary, head="sphere", tied=tied)
        weights = dict(model.named_parameters())
        rows_vd = weights["value_embedding.weight" if tied else "head_projector.weight"]
        hidden_nd = torch.randn(5, 16, dtype=torch.float64)
        cosine_nv = torch.nn.functional.cosine_similarity(hidden_nd[:, None], rows_vd[None], dim=-1)
        length_v: Tensor = rows_vd.norm(dim=1)
        expected = cosine_nv * length_v / model.temperature
        with torch.no_grad():
            close(model.head(hidden_nd), expected)
            close(model.head(3 * hidden_nd), expected)
    assert UnitNorm()(torch.tensor([3.0, -4.0])).tolist() == pytest.approx([0.6, -0.8])


def test_a_tied_head_projects_by_the_value_embedding(
    tiny_tokenizer: Tokenizer, tiny_tokens: TokenBatch
) -> None:
    model = make_model(tiny_tokenizer.vocabulary, tied=True)
    untied = make_model(tiny_tokenizer.vocabulary)
    state = model.state_dict()
    assert "head_projector.weight" not in state
    untied.load_state_dict({**state, "head_projector.weight": state["value_embedding.weight"]})
    with torch.no_grad():
        close(model(tiny_tokens).logits_ntv, untied(tiny_tokens).logits_ntv)
    model(tiny_tokens).logits_ntv.sum().backward()
    gradient = model.value_embedding.weight.grad
    assert gradient is not None and bool((gradient != 0).any(dim=1).all())  # every id is read


@pytest.mark.parametrize("head", ["transform", "none"])
def test_the_classifier_by_hand(
    head: str, tiny_tokenizer: Tokenizer, tiny_tokens: TokenBatch
) -> None:
    vocabulary = tiny_tokenizer.vocabulary
    model = make_model(vocabulary, head=head, classifier="disease")
    weights = dict(model.named_parameters())
    with torch.no_grad():
        first = hidden_by_hand(model, tiny_tokens)[:, 0]
        x = first @ weights["classifier.transform.weight"].T + weights["classifier.transform.bias"]
        x = x * (x > 0)
        x = x @ weights["classifier.projector.weight"].T + weights["classifier.projector.bias"]
        embeddings, mask_nt = model.embed(tiny_tokens), tiny_tokens.attention_mask_nt
        close(model.classify(embeddings, mask_nt), x)
        logits = model.read(embeddings, mask_nt, "disease")
    ids = list(vocabulary.label_ids("disease"))
    assert logits.shape == (60, vocabulary.n_values)
    close(logits[:, ids], x)
    others = [i for i in range(vocabulary.n_values) if i not in ids]
    assert not logits[:, others].any()


def test_a_classifier_alone_reads_nothing_else(
    tiny_tokenizer: Tokenizer, tiny_tokens: TokenBatch
) -> None:
    model = make_model(tiny_tokenizer.vocabulary, head="none", classifier="disease")
    embeddings, mask_nt = model.embed(tiny_tokens), tiny_tokens.attention_mask_nt
    with pytest.raises(ConfigError, match="no head over its input ids"):
        model.read(embeddings, mask_nt, "sex")
    with pytest.raises(ConfigError, match="no head over its input ids"):
        model(tiny_tokens)


def test_classes_nobody_named(tiny_tokenizer: Tokenizer, tiny_tokens: TokenBatch) -> None:
    model = make_model(tiny_tokenizer.vocabulary, head="none", n_classes=7)
    embeddings, mask_nt = model.embed(tiny_tokens), tiny_tokens.attention_mask_nt
    assert model.classify(embeddings, mask_nt).shape == (60, 7)
    with pytest.raises(ConfigError, match="no head over its input ids"):
        model.read(embeddings, mask_nt, "disease")


@pytest.mark.parametrize(
    ("size", "named"),
    [
        ({"norm": "batch"}, r"model\.norm: unknown norm 'batch'"),
        ({"activation": "gelus"}, r"model\.activation.*'gelu'"),
        ({"head": "spheres"}, r"model\.head.*'sphere'"),
        ({"head": "none"}, "needs a head or a classifier"),
        ({"classifier": "disease", "n_classes": 3}, "3 classes does not fit 'disease'.*2 labels"),
    ],
)
def test_what_describes_no_model(
    size: dict[str, Any], named: str, tiny_tokenizer: Tokenizer
) -> None:
    with pytest.raises(ConfigError, match=named):
        PhenotypeGeneTransformer(tiny_tokenizer.vocabulary, **size)


def gradients(model: PhenotypeGeneTransformer, tokens: TokenBatch) -> dict[str, Tensor]:
    """Of a training step with dropout, drawn from one seed."""
    torch.manual_seed(3)
    model.zero_grad()
    model.train()
    embeddings, mask_nt = model.embed(tokens), tokens.attention_mask_nt
    model.read(embeddings, mask_nt, "disease").log_softmax(dim=1).square().sum().backward()
    return {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}


@ALL
def test_checkpointed_activations_give_the_same_gradients(
    size: dict[str, Any],
    tiny_tokenizer: Tokenizer,
    tiny_tokens: TokenBatch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make_model(tiny_tokenizer.vocabulary, **size)
    plain = gradients(model, tiny_tokens)
    model.checkpoint_activations = True
    runs: list[int] = []
    for i, block in enumerate(model.blocks):
        block.register_forward_pre_hook(lambda *_, i=i: runs.append(i))
    again = gradients(model, tiny_tokens)
    assert sorted(runs) == [0, 0, 1, 1], "each block is run forward, and again on the way back"
    assert plain.keys() == again.keys()
    for name, gradient in plain.items():
        assert torch.equal(gradient, again[name]), name
    runs.clear()
    model.eval()(tiny_tokens) if model.size["head"] != "none" else None
    assert len(runs) <= 2, "only training recomputes"


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Traced as for any backend, but run by torch itself; counts the calls."""
    calls: list[int] = []
    torch.compiler.reset()  # else the limit on recompiling is reached, and nothing is traced
    compiled = torch.compile(running.run_block, dynamic=True, backend="eager")

    def run(*args: Any) -> Tensor:
        calls.append(1)
        return compiled(*args)

    monkeypatch.setattr(running, "_compiled", lambda: run)
    return calls


#: Each kind of block, and a model without a head over its ids; recomputing knows no kinds.
COMPILED = [
    *(pytest.param(size, False, id=name) for name, size in BLOCKS.items()),
    pytest.param(VARIANTS["classifier-alone"], False, id="classifier-alone"),
    pytest.param(VARIANTS["pre-norm-rms-silu"], True, id="recomputed"),
]


@TRACED
@pytest.mark.parametrize(("size", "checkpointed"), COMPILED)
def test_compiled_blocks_give_the_same_gradients(
    size: dict[str, Any],
    checkpointed: bool,
    tiny_tokenizer: Tokenizer,
    tiny_tokens: TokenBatch,
    eager: list[int],
) -> None:
    model = make_model(tiny_tokenizer.vocabulary, **size, dropout=0.0)
    names = list(model.state_dict())
    plain = gradients(model, tiny_tokens)
    model.compiled, model.checkpoint_activations = True, checkpointed
    again = gradients(model, tiny_tokens)
    assert len(eager) == (4 if checkpointed else 2)
    assert list(model.state_dict()) == names
    for name, gradient in plain.items():
        close(again[name], gradient, atol=1e-9)


@TRACED
def test_only_training_is_compiled(
    tiny_tokenizer: Tokenizer, tiny_tokens: TokenBatch, eager: list[int]
) -> None:
    model = make_model(tiny_tokenizer.vocabulary, compile=True)
    with torch.no_grad():
        model(tiny_tokens)
    assert not eager
    model.train()(tiny_tokens)
    assert len(eager) == 2


@pytest.mark.slow
@TRACED
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_the_real_compiler(tiny_tokenizer: Tokenizer, tiny_tokens: TokenBatch) -> None:
    model = make_model(tiny_tokenizer.vocabulary, dropout=0.0).float()
    plain = gradients(model, tiny_tokens)
    torch.compiler.reset()
    model.compiled = True
    again = gradients(model, tiny_tokens)
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-3, atol=1e-3)


@TRACED
def test_a_failing_compiler_is_named(
    tiny_tokenizer: Tokenizer, tiny_tokens: TokenBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(graph: Any, inputs: Any) -> Any:
        raise FileNotFoundError("no c++")

    torch.compiler.reset()
    broken = torch.compile(running.run_block, dynamic=True, backend=refuse)
    monkeypatch.setattr(running, "_compiled", lambda: broken)
    model = make_model(tiny_tokenizer.vocabulary, compile=True).train()
    with pytest.raises(ConfigError, match=r"model\.compile: torch\.compile failed.*no c\+\+"):
        model(tiny_tokens)
    narrow = torch.zeros(60, 4, 3, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="3"):  # mistakes of the caller are not the compiler's
        model.encode(narrow, tiny_tokens.attention_mask_nt[:, :4])
