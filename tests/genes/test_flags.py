"""Technical flags by name, by tissue and by number; and what is said where names say nothing."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from gradgene.commands.config.binding import bind, build
from gradgene.commands.config.groups import conf_dir
from gradgene.errors import ConfigError, RankingError
from gradgene.genes import FLAGS, FlagRules, ForeignTissues
from gradgene.genes.cell_cycle import CELL_CYCLE, G2M_PHASE, RENAMED, S_PHASE

EVERYTHING = FlagRules()


def flags(*genes: str, rules: FlagRules = EVERYTHING) -> list[str | None]:
    return list(rules.flag(genes))


@pytest.mark.parametrize(
    ("word", "genes"),
    [
        ("mitochondrial", "MT-CO1 MT-RNR2 MT-TL1 mt-Co1 mt-Nd4l Mt-nd1 MT.ND1"),
        ("ribosomal", "RPL3 RPL3L RPL22L1 RPL36AL RPLP0 RPLP2 RPS4X RPS4Y1 RPS27A RPS27L RPSA"),
        ("ribosomal", "Rpl3 Rpl13a Rpl36al Rplp0 Rps4x Rpsa"),
        ("haemoglobin", "HBA1 HBA2 HBB HBD HBE1 HBG1 HBG2 HBM HBQ1 HBZ"),
        ("haemoglobin", "Hba-a1 Hba-a2 Hba-x Hbb-bs Hbb-bt Hbb-bh1 Hbb-y Hbq1b"),
        ("cell_cycle", "MKI67 PCNA MLF1IP CENPU FAM64A PIMREG HN1 JPT1 Mki67 Pcna Cenpu"),
        ("ambient_suspect", "MTRNR2L1 MTRNR2L12"),
    ],
)
def test_names_that_earn_a_flag(word: str, genes: str) -> None:
    assert flags(*genes.split()) == [word] * len(genes.split())


@pytest.mark.parametrize(
    "genes",
    [
        "RPS6KA1 RPS6KB2 RPS6KL1 RPS19BP1 RPL7P1 RPS10P5 RPL17-C18orf32 MRPL3 MRPS5 RPRD1A RPA1",
        "Rps6ka1 Rpl10-ps3 Mrpl3 rpl3",
        "HBP1 HBEGF HBS1L HBBP1 HBAP1 Hbegf Hbp1 Hba-ps3",
        "MTOR MTRF1 MT1X MT2A Mtor MT_CO1",
        "mki67 mtrnr2l1 Mtrnr2l1 MCM7 ISG15 Isg15",
    ],
)
def test_names_that_do_not(genes: str) -> None:
    assert flags(*genes.split()) == [None] * len(genes.split())


def test_the_result_is_a_series_over_genes_in_the_order_given() -> None:
    found = EVERYTHING.flag(["ISG15", "MT-CO1"])
    assert list(found.index) == ["ISG15", "MT-CO1"]
    assert (found.index.name, found.name) == ("gene", "flags")
    assert found["ISG15"] is None
    assert EVERYTHING.flag([]).empty


def test_numbers_at_or_above_the_threshold_are_flagged_whatever_their_sign() -> None:
    found = FlagRules(depth=0.5, batch=0.25).flag(
        ["A", "B", "MT-CO1", "C", "D"],
        depth_correlation=[0.49, -0.5, 0.9, np.nan, 0.0],
        batch_share=[0.24, 0.25, 0.9, np.nan, 0.3],
    )
    assert list(found) == [None, "depth;batch", "mitochondrial;depth;batch", None, "batch"]


def test_words_come_in_the_order_of_flags() -> None:
    words = "mitochondrial ribosomal haemoglobin cell_cycle ambient_suspect tissue_foreign"
    assert [*words.split(), "depth", "batch"] == list(FLAGS)
    rules = FlagRules(names=("cell_cycle", "mitochondrial"), ambient=("MKI*", "MT-*"))
    assert flags("MKI67", "MT-CO1", rules=rules) == [
        "cell_cycle;ambient_suspect",
        "mitochondrial;ambient_suspect",
    ]


def test_what_is_switched_off_flags_nothing() -> None:
    none = FlagRules(names=(), ambient=(), depth=None, batch=None)
    one = np.ones(2)
    found = none.flag(["MT-CO1", "MTRNR2L1"], depth_correlation=one, batch_share=one)
    assert list(found) == [None, None]
    assert flags("MT-CO1", "RPL3", rules=FlagRules(names=("ribosomal",))) == [None, "ribosomal"]


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"names": ("mitochondria",)}, "flags.names"),
        ({"depth": 1.5}, "flags.depth"),
        ({"batch": -0.1}, "flags.batch"),
        ({"depth": float("nan")}, "flags.depth"),
    ],
)
def test_wrong_settings_are_refused_by_their_key(settings: dict, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FlagRules(**settings)
    assert caught.value.where == where


@pytest.mark.parametrize("key", ["depth_correlation", "batch_share", "ensembl_ids"])
def test_lengths_must_agree(key: str) -> None:
    values: Any = ["ENSG00000187608"] if key == "ensembl_ids" else [0.1]
    with pytest.raises(RankingError, match="2, found 1"):
        EVERYTHING.flag(["A", "B"], **{key: values})


class TestIds:
    MT_CO1, ISG15 = "ENSG00000198804", "ENSG00000187608"

    @pytest.fixture
    def table(self, tmp_path: Path) -> str:
        rows = [("ensembl_id", "gene_symbol"), (self.MT_CO1, "MT-CO1"), (self.ISG15, "ISG15")]
        rows.append(("ENSG00000238009", "ENSG00000238009"))
        file = tmp_path / "symbols.tsv.gz"
        with gzip.open(file, "wt") as out:
            out.write("\n".join("\t".join(row) for row in rows))
        return str(file)

    def test_without_symbols_numbers_still_flag_and_a_note_says_what_is_missing(self) -> None:
        ids = [self.MT_CO1, f"{self.ISG15}.10", "ENSMUSG00000064351", "4549"]
        found = EVERYTHING.flag(ids, depth_correlation=[0.9, 0, 0, 0])
        assert list(found) == ["depth", None, None, None]
        note = EVERYTHING.note(ids)
        assert note is not None
        for part in ("4 of 4 genes", "mitochondrial", "missing, not absent", "flags.symbols"):
            assert part in note

    def test_a_table_of_symbols_makes_ids_speak(self, table: str) -> None:
        rules = FlagRules(symbols=table).read()
        ids = [f"{self.MT_CO1}.2", self.ISG15, "ENSG00000238009", "ENSG00000999999"]
        assert flags(*ids, rules=rules) == ["mitochondrial", None, None, None]
        # The third is known to have no symbol, the fourth is not known.
        assert "1 of 4" in (rules.note(ids) or "")
        assert rules.note(ids[:3]) is None

    def test_ids_beside_names_are_asked_too(self, table: str) -> None:
        rules = FlagRules(symbols=table)
        found = rules.flag(["COX1", "ISG15"], ensembl_ids=[self.MT_CO1, None])
        assert list(found) == ["mitochondrial", None]
        assert rules.note(["4549"], ensembl_ids=[self.MT_CO1]) is None

    def test_symbols_need_no_note(self) -> None:
        assert EVERYTHING.note(["MT-CO1", "ISG15", "RP4-758J18.2"]) is None

    def test_no_note_where_no_flag_goes_by_name(self) -> None:
        assert FlagRules(names=(), ambient=()).note([self.ISG15]) is None

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            (None, "no such file"),
            ("gene\tid\nA\tB\n", "no column 'ensembl_id'"),
            ("ensembl_id\tgene_symbol\n", "has no row"),
            ("", "cannot read"),
        ],
    )
    def test_a_wrong_table_is_refused_before_work(
        self, text: str | None, problem: str, tmp_path: Path
    ) -> None:
        file = tmp_path / "symbols.tsv"
        if text is not None:
            file.write_text(text)
        with pytest.raises(ConfigError, match=problem) as caught:
            FlagRules(symbols=str(file)).read()
        assert caught.value.where == "flags.symbols"


MARKERS = """gene,organ,ubiquity,canonical
ALB,Liver,0.01,1
INS,Pancreas,0.01,1
CD3D,Blood,0.01,1
STAT1,Brain,0.4,1
VAGUE,Brain,,1
BOTH,Liver,0.01,1
BOTH,Blood,0.9,0
LOST,NA,0.01,1
LOST2,,0.01,1
"""


class TestForeignTissues:
    @pytest.fixture
    def file(self, tmp_path: Path) -> str:
        path = tmp_path / "markers.csv"
        path.write_text(MARKERS)
        return str(path)

    def foreign(self, file: str, *tissues: str, **limits: tuple) -> ForeignTissues:
        return ForeignTissues(
            markers=file, tissues=tissues, gene_column="gene", organ_column="organ", limits=limits
        )

    def test_markers_of_other_organs_only(self, file: str) -> None:
        assert self.foreign(file, "Blood").genes == {"ALB", "INS", "STAT1", "VAGUE"}
        assert self.foreign(file, "Liver", "Brain").genes == {"INS", "CD3D"}

    def test_limits_ask_more_of_evidence_against_a_gene_only(self, file: str) -> None:
        """BOTH is at home in blood although that row is beyond the limits."""
        strict = self.foreign(file, "Blood", ubiquity=(None, 0.05), canonical=(1, None))
        assert strict.genes == {"ALB", "INS"}

    def test_flag(self, file: str) -> None:
        rules = FlagRules(foreign=self.foreign(file, "Blood", ubiquity=(None, 0.05))).read()
        genes = ["ALB", "Alb", "CD3D", "STAT1", "MT-CO1"]
        expected = ["tissue_foreign", "tissue_foreign", None, None, "mitochondrial"]
        assert flags(*genes, rules=rules) == expected
        assert "tissue_foreign" in (rules.note(["ENSG00000187608"]) or "")

    @pytest.mark.parametrize(
        ("change", "where", "problem"),
        [
            ({"tissues": ("Blut",)}, "flags.foreign.tissues", "'Blood'"),
            ({"tissues": ()}, "flags.foreign.tissues", "no organ"),
            ({"gene_column": "symbol"}, "flags.foreign.markers", "no column 'symbol'"),
            ({"limits": {"ubiquitous": (0, 1)}}, "flags.foreign.markers", "'ubiquity'"),
            ({"markers": "nowhere.csv"}, "flags.foreign.markers", "no such file"),
            ({"markers": "pyproject.toml"}, "flags.foreign.markers", ".tsv"),
        ],
    )
    def test_mistakes_are_refused_by_their_key(
        self, change: dict, where: str, problem: str, file: str
    ) -> None:
        settings = {"markers": file, "tissues": ("Blood",), "gene_column": "gene"} | change
        with pytest.raises(ConfigError) as caught:
            FlagRules(foreign=ForeignTissues(**settings)).read()
        assert caught.value.where == where
        assert problem in str(caught.value)

    def test_a_damaged_gzip_file_is_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "markers.csv.gz"
        file.write_bytes(gzip.compress(MARKERS.encode())[:60])
        with pytest.raises(ConfigError, match="cannot read"):
            FlagRules(foreign=self.foreign(str(file), "Blood")).read()


def leaf(*overrides: str) -> FlagRules:
    """What `flags` of a composed study builds."""
    study = ["study.name=a", "study.target=b", "study.input=c", "study.baseline=d"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", overrides=[*study, "data.path=x", *overrides])
    bind({"flags": cfg.flags})
    rules = build(cfg.flags)
    assert isinstance(rules, FlagRules)
    return rules


class TestLeaves:
    def test_the_default_is_that_of_the_class(self) -> None:
        assert leaf() == FlagRules()

    def test_none_flags_nothing(self) -> None:
        assert flags("MT-CO1", "MTRNR2L1", rules=leaf("flags=none")) == [None, None]

    def test_tissue_asks_for_a_table_and_the_organs(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"flags\.foreign\.markers"):
            leaf("flags=tissue")
        rules = leaf("flags=tissue", "flags.foreign.markers=m.tsv", "flags.foreign.tissues=[Blood]")
        assert rules.foreign is not None
        assert rules.foreign.limits["ubiquitousness index"] == (None, 0.02)


class TestAgainstPublishedLists:
    """Only where ../shared is: nothing of it is needed at run time."""

    def test_ribosomal_proteins_among_all_genes_of_gencode(self, shared: Path) -> None:
        table = pd.read_csv(shared / "reference/gencode_human_ensembl_symbol.tsv.gz", sep="\t")
        listed = (shared / "reference/ribosomal_protein_genes.txt").read_text().split()
        found = EVERYTHING.flag(list(map(str, table["gene_symbol"])))
        assert set(found.index[found.eq("ribosomal")]) == set(listed)
        assert found.eq("mitochondrial").sum() == 37  # the genes of the human mitochondrion
        assert found.eq("haemoglobin").sum() == 10

    def test_cell_cycle(self, shared: Path) -> None:
        for name, phase in (("S", S_PHASE), ("G2M", G2M_PHASE)):
            listed = (shared / f"reference/regev_cell_cycle_{name}_genes.txt").read_text().split()
            assert set(listed) == phase
        assert len(CELL_CYCLE) == 100

    def test_renamed_genes_are_the_same_by_ensembl_id(self, shared: Path) -> None:
        """Old symbols are gone from the present GENCODE, the new ones are in it."""
        table = pd.read_csv(shared / "reference/gencode_human_ensembl_symbol.tsv.gz", sep="\t")
        symbols = set(table["gene_symbol"].astype(str))
        assert symbols >= CELL_CYCLE - set(RENAMED)
        assert not symbols & set(RENAMED)

    def test_foreign_to_blood_spares_the_interferon_genes(self, shared: Path) -> None:
        rules = leaf(
            "flags=tissue",
            f"flags.foreign.markers={shared}/reference/panglaodb_markers_27_Mar_2020.tsv.gz",
            "flags.foreign.tissues=[Blood,Immune system]",
        )
        interferon = (shared / "reference/kang2018_isg_core.txt").read_text().split()
        assert not set(rules.read().flag(interferon)) & {"tissue_foreign"}
        strangers = ["INS", "PRSS1", "SFTPB", "ALB", "CD3D", "HBB"]
        found = dict(zip(strangers, flags(*strangers, rules=rules), strict=True))
        assert found["INS"] == "tissue_foreign"
        assert found["CD3D"] is None and found["HBB"] == "haemoglobin"
