"""Tokenizers of published checkpoints, from small files whose ids are counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from gradgene.cells import Cells, CellSchema
from gradgene.checkpoints.peer_tokenizers import peer_tokenizer
from gradgene.errors import CheckpointError, TokenError
from gradgene.tokens import Tokenizer, Vocabulary
from tests.checkpoints.peers import write_run

#: Ids from 4: 30_year_old, unknown, flu, normal, female, unknown; bins from 10.
LABELS = {
    "sex": ["[female]", "[unknown]"],
    "disease": ["[flu]", "[normal]"],
    "age": ["[30_year_old]", "[unknown]"],
}
GENES = tuple(f"ENSG{i:011d}" for i in range(6))


def cells_of(labels: dict[str, list[object]], genes: tuple[str, ...] = GENES) -> Cells:
    """Cells with the values 0, 0.6, 1.2, … in their genes, all log-normalised."""
    n = len(next(iter(labels.values())))
    obs = pd.DataFrame(labels, index=[f"c{i}" for i in range(n)], dtype=object)
    values = np.tile(0.6 * np.arange(len(genes), dtype=np.float32), (n, 1))
    schema = CellSchema(tuple(labels), values="lognorm")
    return Cells(sparse.csr_matrix(values), obs, genes, ("",) * len(genes), schema)


def slots(tokenizer: Tokenizer, labels: dict[str, list[object]]) -> list[list[int]]:
    """Input ids of the phenotypes of each cell."""
    cells = cells_of(labels)
    tokens = tokenizer.encode(tokenizer.prepare(cells))
    n = len(tokenizer.vocabulary.phenotypes)
    found: list[list[int]] = tokens.input_ids_nt[:, 1 : 1 + n].tolist()
    return found


def test_the_last_of_two_ids_of_a_token_counts(tmp_path: Path) -> None:
    """`[unknown]` is 5 under age and 9 under sex: both are written, and read, as 9."""
    config = write_run(tmp_path, "cellular_aging_map", LABELS)
    tokenizer = peer_tokenizer("polygene_cam", tmp_path, config)
    vocabulary = tokenizer.vocabulary
    assert list(vocabulary.label_ids("age")) == [4, 9]
    assert list(vocabulary.label_ids("disease")) == [6, 7]
    assert list(vocabulary.label_ids("sex")) == [8, 9]
    assert (vocabulary.bin_offset, vocabulary.n_values, vocabulary.n_types) == (10, 13, 10)
    known: dict[str, list[object]] = {
        "age": ["30-year old", "Unknown", np.nan],
        "disease": ["Normal", "flu", np.nan],
        "sex": ["female", "unknown", np.nan],
    }
    # There is one [unknown] for all categories, that of sex, also for the disease.
    assert slots(tokenizer, known) == [[4, 7, 8], [9, 6, 9], [9, 9, 9]]


def test_absent_columns_and_labels_out_of_vocabulary(tmp_path: Path) -> None:
    config = write_run(tmp_path, "cellular_aging_map", LABELS)
    strict = peer_tokenizer("polygene_cam", tmp_path, config)
    assert slots(strict, {"sex": ["female"]}) == [[2, 2, 8]]
    with pytest.raises(TokenError, match="'cold' of 'disease' is not"):
        slots(strict, {"disease": ["cold"]})
    for flag in ("inference", "bypass_inference"):
        config = write_run(tmp_path, "cellular_aging_map", LABELS, **{flag: True})
        lenient = peer_tokenizer("polygene_cam", tmp_path, config)
        assert slots(lenient, {"disease": ["cold", "flu"]}) == [[2, 2, 2], [2, 6, 2]]


def test_a_label_unknown_is_one_of_its_category(tmp_path: Path) -> None:
    labels = {**LABELS, "sex": ["[female]", "[unknown_sex]"]}
    config = write_run(tmp_path, "polygene", labels)
    tokenizer = peer_tokenizer("polygene_dv", tmp_path, config)
    found = slots(
        tokenizer,
        {"sex": ["unknown", "unknown sex", np.nan], "disease": ["flu", np.nan, "normal"]},
    )
    assert found == [[2, 6, 9], [2, 2, 9], [2, 7, 9]]
    tokens = tokenizer.encode(tokenizer.prepare(cells_of({"sex": ["female"]})))
    assert tokens.input_ids_nt[0, -1] == 12  # no end token: the last is a gene in bin_2


def test_tokens_learned_later(tmp_path: Path) -> None:
    """The model has a disease 13 and an age 14 that its tokenizer does not know of."""
    grown = {
        "token_value_str": ["[cold]", "[fetal]", "[flu]"],
        "token_values": [13, 14, 6],
        "token_type_of_values": [2, 1, 2],
    }
    config = write_run(tmp_path, "cellular_aging_map", LABELS, updates_memory=grown, vocab_size=15)
    vocabulary = peer_tokenizer("polygene_cam", tmp_path, config).vocabulary
    assert vocabulary.categories["disease"] == ("flu", "normal", "cold")
    assert list(vocabulary.label_ids("disease")) == [6, 7, 13]
    assert list(vocabulary.label_ids("age")) == [4, 9, 14]
    assert (vocabulary.bin_offset, vocabulary.n_values) == (10, 15)
    # Written after it has grown, the tokenizer knows them itself.
    flat = [*"abcd", "[30_year_old]", "[unknown]", "[flu]", "[normal]", "[female]", "[unknown]"]
    flat = ["[cls]", "[eos]", "[mask]", "[pad]", *flat[4:], "bin_0", "bin_1", "bin_2"]
    flat += ["[cold]", "[fetal]"]
    later = write_run(
        tmp_path,
        "cellular_aging_map",
        {**LABELS, "disease": ["[flu]", "[normal]", "[cold]"], "age": [*LABELS["age"], "[fetal]"]},
        flattened_tokens=flat,
        token_to_id_map={token: i for i, token in enumerate(flat)},
        updates_memory=grown,
        vocab_size=15,
    )
    assert peer_tokenizer("polygene_cam", tmp_path, later).vocabulary == vocabulary


def test_genes_are_in_the_order_of_their_ranks(tmp_path: Path) -> None:
    """-1 is what the published code notes for a gene it has met and does not know."""
    ranks = {"ENSG00000000009": 2, "ENSG00000000007": 0, "ENSG00000000001": -1, "late": 99}
    config = write_run(
        tmp_path, "polygene", LABELS, gene_type_id_map=ranks, type_vocab_size=1 + 3 + 3
    )
    tokenizer = peer_tokenizer("polygene_dv", tmp_path, config)
    assert tokenizer.vocabulary.genes == ("ENSG00000000007", "no gene 1", "ENSG00000000009")
    genes = ("late", "ENSG00000000001", "ENSG00000000009.4", "ENSG00000000007", "x")
    tokens = tokenizer.encode(tokenizer.prepare(cells_of({"sex": ["female"]}, genes)))
    # Values 1.8 and 1.2 in the genes of ranks 0 and 2, whose types begin behind three categories.
    assert tokens.input_ids_nt[0, 4:].tolist() == [12, 12]
    assert tokens.token_type_ids_nt[0, 4:].tolist() == [4, 6]
    with pytest.raises(CheckpointError, match="are not those of the checkpoint"):
        peer_tokenizer("polygene_dv", tmp_path, config, ["a", "b", "c"])
    same = peer_tokenizer("polygene_dv", tmp_path, config, tokenizer.vocabulary.genes)
    assert same == tokenizer


def test_values_below_the_first_edge_where_the_run_was_not_sparse(tmp_path: Path) -> None:
    config = write_run(tmp_path, "polygene", LABELS, sparse=False, bin_edges=[1, 2])
    tokenizer = peer_tokenizer("polygene_dv", tmp_path, config)
    tokens = tokenizer.encode(tokenizer.prepare(cells_of({"sex": ["female"]})))
    assert tokens.input_ids_nt[0, 4:].tolist() == [10, 11, 11, 12, 12]


def test_perturbgene_asks_for_genes_and_says_where_they_are(tmp_path: Path) -> None:
    config = write_run(
        tmp_path, "perturbgene", LABELS, included_phenotypes=["sex", "age"], max_length=7
    )
    with pytest.raises(CheckpointError, match=r"6 gene names.*var_names.*gene_ranking_map.json"):
        peer_tokenizer("perturbgene", tmp_path, config)
    with pytest.raises(CheckpointError, match=r"does not fit.*6 gene names.*found 2 genes"):
        peer_tokenizer("perturbgene", tmp_path, config, ["a", "b"])
    with pytest.raises(CheckpointError, match="a gene is in the vocabulary twice"):
        peer_tokenizer("perturbgene", tmp_path, config, ["a"] * 6)
    tokenizer = peer_tokenizer("perturbgene", tmp_path, config, GENES)
    assert tokenizer.schema == CellSchema(("sex", "age"), values="lognorm")
    cells = cells_of({"sex": ["female"], "age": ["30 year old"]})
    tokens = tokenizer.encode(tokenizer.prepare(cells))
    # [CLS], sex 8 of type 3, age 4 of type 1, then genes 1, 2, 3, 4 of five; no [EOS] when cut.
    assert tokens.input_ids_nt.tolist() == [[0, 8, 4, 11, 12, 12, 12]]
    assert tokens.token_type_ids_nt.tolist() == [[0, 3, 1, 5, 6, 7, 8]]
    with pytest.raises(KeyError, match="age"):
        slots(tokenizer, {"sex": ["female"]})


def test_the_tokenizer_survives_our_own_folder(tmp_path: Path) -> None:
    config = write_run(tmp_path, "polygene", LABELS)
    vocabulary = peer_tokenizer("polygene_dv", tmp_path, config).vocabulary
    assert Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict()))) == vocabulary


def test_the_pickle_is_in_the_checkpoint_or_beside_it(tmp_path: Path) -> None:
    inside = tmp_path / "checkpoint-10"
    inside.mkdir()
    with pytest.raises(CheckpointError, match=r"no tokenizer.pkl.*in .*checkpoint-10 or "):
        peer_tokenizer("polygene_cam", inside, {})
    config = write_run(tmp_path, "cellular_aging_map", LABELS)
    beside = peer_tokenizer("polygene_cam", inside, config)
    (tmp_path / "tokenizer.pkl").rename(inside / "tokenizer.pkl")
    assert peer_tokenizer("polygene_cam", inside, config) == beside


def nested(depth: int) -> list[Any]:
    """A list of two times the same list, and so on: 2 ** depth items to print, few to pickle."""
    items: list[Any] = []
    for _ in range(depth):
        items = [items, items]
    return items


NESTED = nested(60)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 14}, r"not that of the model.*expected vocab_size 13; found 14"),
        ({"phenotypic_types": ["sex", "age", "disease"]}, "categories out of order"),
        ({"phenotypic_types": None}, "holds no polygene_cam tokenizer"),
        ({"phenotypic_types": NESTED}, "names that are no texts"),
        ({"flattened_tokens": list("abcdefghijklm")}, "other special tokens"),
        ({"token_to_id_map": {}}, "lacks 'bin_0'"),
        ({"bin_edges": None}, "holds no polygene_cam tokenizer"),
        ({"bin_edges": [1, 0.5]}, "distinct and increasing"),
        ({"type_vocab_size": "many"}, "holds no polygene_cam tokenizer"),
        (
            {"updates_memory": {"token_value_str": ["[x]"], "token_values": []}},
            "holds no polygene_cam tokenizer",
        ),
    ],
)  # fmt: skip
def test_files_that_do_not_fit(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    config = write_run(tmp_path, "cellular_aging_map", LABELS, **changes)
    with pytest.raises(CheckpointError, match=message):
        peer_tokenizer("polygene_cam", tmp_path, config)


def test_another_kind_is_an_error(tmp_path: Path) -> None:
    config = write_run(tmp_path, "cellular_aging_map", LABELS)
    with pytest.raises(CheckpointError, match="other special tokens"):
        peer_tokenizer("perturbgene", tmp_path, config, GENES)
    with pytest.raises(CheckpointError, match=r"no vocab.txt of this polygene_bert checkpoint"):
        peer_tokenizer("polygene_bert", tmp_path, config, GENES)


def write_bert_vocabulary(folder: Path) -> dict[str, int]:
    """22 lines of vocab.txt: two of each missing label and label; bins follow from 17."""
    folder.mkdir(parents=True)
    special = ["[PAD]", "[MASK]", "[SEP]", "[CLS]", "[UNK]", "[START]", "[END]"]
    missing = ["[no_sex]", "[no_tissue]", "[no_cell_type]", "[no_age]", "[no_disease]"]
    tokens = [*special, *missing, "[lung]", "[T_cell]", "[30_years]", "[male]", "[flu]"]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    names = {"tissue": "lung", "cell": "T cell", "age": "30 years", "sex": "male", "disease": "flu"}
    for name, label in names.items():
        (folder / f"{name}_types.txt").write_text(label)
    return {"vocab_size": 17 + 4, "max_position_embeddings": 6 + 8}


@pytest.mark.parametrize("place", ["", "phenotypic_vocab", "data/phenotypic_vocab"])
def test_polygene_bert(place: str, tmp_path: Path) -> None:
    """Four bins: 0, and from 0.1, 4.55 and 9. Age is development_stage; a missing label is no_*."""
    run = tmp_path / "run"
    config = write_bert_vocabulary(run / place)
    tokenizer = peer_tokenizer("polygene_bert", run, config, GENES)
    np.testing.assert_allclose(tokenizer.vocabulary.bin_edges, [0.1, 4.55, 9.0])
    cells = cells_of({"sex": ["male"], "development_stage": ["30 years"], "tissue": [np.nan]})
    values = sparse.csr_matrix(np.array([[0, 0.05, 0.1, 9, 4.6, 0]], dtype=np.float32))
    cells = Cells(values, cells.obs, GENES, GENES, cells.schema)
    tokens = tokenizer.encode(cells)
    assert tokens.input_ids_nt.tolist() == [
        [3, 15, 8, 9, 14, 11, 5, 17, 17, 18, 20, 19, 17, 6],
    ]
    assert tokens.attention_mask_nt.int().tolist() == [[1] * 7 + [0, 0, 1, 1, 1, 0] + [1]]
    assert tokens.token_type_ids_nt.tolist() == [list(range(14))]
    assert tokens.pad_id == 0


def test_polygene_bert_without_a_file_of_labels(tmp_path: Path) -> None:
    config = write_bert_vocabulary(tmp_path / "run")
    with pytest.raises(CheckpointError, match="6 gene names"):
        peer_tokenizer("polygene_bert", tmp_path / "run", config)
    (tmp_path / "run" / "age_types.txt").unlink()
    with pytest.raises(CheckpointError, match=r"age_types\.txt"):
        peer_tokenizer("polygene_bert", tmp_path / "run", config, GENES)
    with pytest.raises(CheckpointError, match="leaves 1 ids for bins"):
        peer_tokenizer("polygene_bert", tmp_path / "run", {**config, "vocab_size": 18}, GENES)
