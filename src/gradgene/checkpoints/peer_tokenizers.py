"""Tokenizers of the published PolyGene family, from the files beside their checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gradgene.cells import CellSchema
from gradgene.checkpoints.pickles import read_pickle
from gradgene.errors import CheckpointError, TokenError
from gradgene.tokens import Layout, TokenIds, Tokenizer, Vocabulary

__all__ = ["peer_tokenizer"]

#: What is fixed in each format; the rest is in the files.
LAYOUTS: Mapping[str, Layout] = {
    "perturbgene": Layout(text="bracketed"),
    "polygene_cam": Layout(text="ascii", absent="mask"),
    "polygene_dv": Layout(text="ascii_by_category", end=None, absent="mask"),
    "polygene_bert": Layout(
        cls=3,
        end=6,
        mask=1,
        pad=0,
        start=5,
        text="bracketed",
        absent="missing",
        genes="all",
        identity="position",
    ),
}
SPECIAL = ["[cls]", "[eos]", "[mask]", "[pad]"]

#: The phenotypes of PolyGene-BERT in sequence order: obs column -> its vocabulary file and the text
#: of its missing label.
BERT_PHENOTYPES = {
    "sex": ("sex_types.txt", "[no_sex]"),
    "tissue": ("tissue_types.txt", "[no_tissue]"),
    "cell_type": ("cell_types.txt", "[no_cell_type]"),
    "development_stage": ("age_types.txt", "[no_age]"),
    "disease": ("disease_types.txt", "[no_disease]"),
}
BERT_SPECIAL = ["[PAD]", "[MASK]", "[SEP]", "[CLS]", "[UNK]", "[START]", "[END]"]
#: Lower edges of the first and last bin of PolyGene-BERT; bin 0 begins at 0.
BERT_RANGE = (0.1, 9.0)


def peer_tokenizer(
    kind: str, folder: Path, config: Mapping[str, Any], genes: Sequence[str] | None = None
) -> Tokenizer:
    """The tokenizer of a published checkpoint; cells are read as log-normalised.

    Labels are named as cells name them (`T cell`), as far as their tokens tell.

    Parameters
    ----------
    kind
        "perturbgene", "polygene_cam", "polygene_dv" or "polygene_bert".
    folder
        The checkpoint's. `tokenizer.pkl`, or for PolyGene-BERT the folder of `vocab.txt`
        (`phenotypic_vocab` or `data/phenotypic_vocab`), is in it or beside it.
    config
        The checkpoint's config.json.
    genes
        Names in the order of the checkpoint's gene ids, which perturbgene and PolyGene-BERT do not
        hold; of the others, None or the same as theirs.

    Raises
    ------
    CheckpointError
        If a file is missing, refused or does not fit the configuration, or genes are needed.
    """
    read = _from_vocabulary_folder if kind == "polygene_bert" else _from_pickle
    try:
        vocabulary = read(kind, folder, config, genes)
    except (LookupError, TypeError, ValueError, AttributeError, OSError, TokenError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"holds no {kind} tokenizer: {reason}",
            where=str(folder),
            fix="check checkpoint.kind, and that all files are of one run",
        ) from error
    return Tokenizer(vocabulary, CellSchema(vocabulary.phenotypes, values="lognorm"))


def _from_pickle(
    kind: str, folder: Path, config: Mapping[str, Any], genes: Sequence[str] | None
) -> Vocabulary:
    """perturbgene and the two classes after it."""
    file = _beside(folder, ["tokenizer.pkl"], kind)
    state = read_pickle(file).attributes
    settings = state["config"].attributes
    categories = _texts(state["phenotypic_types"])
    if state["flattened_tokens"][:4] != _case(SPECIAL, kind) or categories != sorted(categories):
        raise ValueError("other special tokens, or categories out of order")
    layout = replace(
        LAYOUTS[kind],
        max_length=settings["max_length"],
        genes="expressed" if settings.get("sparse", True) else "stored",
        unknown_labels="mask" if _accepts_unknown(state) else "error",
    )
    labels, ids = _labels(kind, layout, state, config, categories)
    if "[unknown]" in ids and kind != "polygene_dv":
        # Their vocabulary is one for all categories: an unknown tissue is the [unknown] of sex.
        layout = replace(layout, missing=dict.fromkeys(categories, ids["[unknown]"]))
    first_bin = ids["bin_0"]
    n_values = len(state["flattened_tokens"]) + len(_grown(state, config))
    _require(config, "vocab_size", n_values, folder)
    n_genes = config["type_vocab_size"] - 1 - len(categories)
    phenotypes = _texts(settings["included_phenotypes"]) if kind == "perturbgene" else categories
    return Vocabulary(
        categories={c: tuple(labels[c].values()) for c in categories},
        phenotypes=tuple(phenotypes),
        genes=_genes(state.get("gene_type_id_map"), n_genes, genes, folder),
        bin_edges=tuple(settings["bin_edges"]),
        layout=layout,
        ids=TokenIds(
            labels={c: tuple(ids[token] for token in labels[c]) for c in categories},
            first_bin=first_bin,
            n_values=n_values,
        ),
    )


def _texts(values: Sequence[Any]) -> list[str]:
    """A list of texts; TypeError for others: lists nested in each other take forever to print."""
    if not all(isinstance(value, str) for value in values):
        raise TypeError("names that are no texts")
    return list(values)


def _case(tokens: list[str], kind: str) -> list[str]:
    return [t.upper() for t in tokens] if kind == "perturbgene" else tokens


def _accepts_unknown(state: Mapping[str, Any]) -> bool:
    return bool(state.get("inference") or state.get("bypass_inference"))


def _labels(
    kind: str,
    layout: Layout,
    state: Mapping[str, Any],
    config: Mapping[str, Any],
    categories: list[str],
) -> tuple[dict[str, dict[str, str]], dict[str, int]]:
    """Category -> text of a token -> its label, and text -> input id; the last id of a text counts.

    Texts of the map are rewritten as labels are, but for what depends on the category.
    """
    ids = {str(token): int(i) for token, i in state["token_to_id_map"].items()}
    labels: dict[str, dict[str, str]] = {}
    for category in categories:
        tokens = _texts(state["phenotypic_tokens_map"][category])
        if kind != "perturbgene":
            tokens = [replace(layout, text="ascii").token(category, token) for token in tokens]
        labels[category] = {token: _label_of(token, category, layout) for token in tokens}
    for token, (i, category_type) in _grown(state, config).items():
        ids[token] = i
        category = categories[category_type - 1]
        labels[category][token] = _label_of(token, category, layout)
    return labels, ids


def _label_of(token: str, category: str, layout: Layout) -> str:
    """The label as cells spell it, if that leads back to the token; otherwise the token."""
    label = token.removeprefix("[").removesuffix("]").replace("_", " ")
    return label if layout.token(category, label) == token else token


def _grown(state: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Tokens learned since the tokenizer was written: text -> id, token type of its category."""
    grown = config.get("updates_memory") or {}
    names = ("token_value_str", "token_values", "token_type_of_values")
    columns = [grown.get(name, []) for name in names]
    return {
        str(token): (int(i), int(category_type))
        for token, i, category_type in zip(*columns, strict=True)
        if token not in state["token_to_id_map"]
    }


def _genes(
    ranks: Mapping[str, int] | None, n: int, given: Sequence[str] | None, folder: Path
) -> tuple[str, ...]:
    """Names of the `n` genes: by their ranks, or the given ones if the checkpoint holds none."""
    if ranks is None:
        return _given_genes(n, given, folder)
    names = [f"no gene {i}" for i in range(n)]
    for gene, rank in ranks.items():
        if 0 <= rank < n:
            names[rank] = str(gene)
    if given is not None and tuple(given) != tuple(names):
        raise CheckpointError(
            "the given genes are not those of the checkpoint",
            where=str(folder),
            expected=f"{n} genes such as {', '.join(names[:3])}",
            found=f"{len(tuple(given))} genes such as {', '.join(tuple(given)[:3])}",
            fix="leave genes=None",
        )
    return tuple(names)


def _given_genes(n: int, given: Sequence[str] | None, folder: Path) -> tuple[str, ...]:
    if given is None or len(tuple(given)) != n:
        raise CheckpointError(
            "the checkpoint holds no gene names" if given is None else "the gene list does not fit",
            where=str(folder),
            expected=f"a list of {n} gene names in the order of its gene ids",
            found=None if given is None else f"{len(tuple(given))} genes",
            fix="give genes=[...], or checkpoint.genes=FILE with one name a line: usually the"
            " var_names of the AnnData it was trained on, in the order of its columns (after the"
            " subset to highly variable genes, by rank, if there was one); the"
            " gene_ranking_map.json of later versions very probably has the same",
        )
    return tuple(map(str, given))


def _from_vocabulary_folder(
    kind: str, folder: Path, config: Mapping[str, Any], genes: Sequence[str] | None
) -> Vocabulary:
    """PolyGene-BERT: a line of vocab.txt is an id, and bins follow the last line.

    Its binary form saves no threshold; two bins are taken to be cut at 0.1.
    """
    names = ["vocab.txt", "phenotypic_vocab/vocab.txt", "data/phenotypic_vocab/vocab.txt"]
    file = _beside(folder, names, kind)
    tokens = _lines(file)
    ids = {token: i for i, token in enumerate(tokens)}
    n_bins = config["vocab_size"] - len(tokens)
    n_genes = config["max_position_embeddings"] - len(BERT_PHENOTYPES) - 3
    if tokens[: len(BERT_SPECIAL)] != BERT_SPECIAL or n_bins < 2:
        raise ValueError(f"vocab.txt has other special tokens, or leaves {n_bins} ids for bins")
    layout = replace(
        LAYOUTS[kind], missing={c: ids[missing] for c, (_, missing) in BERT_PHENOTYPES.items()}
    )
    labels = {c: _lines(file.parent / name) for c, (name, _) in BERT_PHENOTYPES.items()}
    return Vocabulary(
        categories={c: tuple(names) for c, names in labels.items()},
        phenotypes=tuple(BERT_PHENOTYPES),
        genes=_given_genes(n_genes, genes, folder),
        bin_edges=tuple(np.linspace(*BERT_RANGE, n_bins - 1).tolist()),
        layout=layout,
        ids=TokenIds(
            labels={c: tuple(ids[layout.token(c, n)] for n in labels[c]) for c in labels},
            first_bin=len(tokens),
            n_values=config["vocab_size"],
        ),
    )


def _lines(file: Path) -> list[str]:
    return [line for line in file.read_text(encoding="utf-8").splitlines() if line]


def _beside(folder: Path, names: Sequence[str], kind: str) -> Path:
    """The first of the files `names` that is in the folder or in the one that holds it."""
    folder = folder.resolve()
    for place in (folder, folder.parent):
        for name in names:
            if (place / name).is_file():
                return place / name
    raise CheckpointError(
        f"there is no {names[0]} of this {kind} checkpoint",
        where=str(folder),
        expected=f"{' or '.join(names)} in {folder} or {folder.parent}",
        fix="copy it from where the model was trained",
    )


def _require(config: Mapping[str, Any], key: str, expected: int, folder: Path) -> None:
    if config[key] != expected:
        raise CheckpointError(
            "the tokenizer is not that of the model",
            where=str(folder / "config.json"),
            expected=f"{key} {expected}",
            found=str(config[key]),
        )
