"""Named sets of genes: pathways of a GMT file, markers of a table."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradgene.errors import ConfigError
from gradgene.genes.marker_tables import read_gene_columns

__all__ = ["GeneSets"]

#: The configuration key that names the files.
WHERE = "evaluation.gene_sets"


@dataclass(frozen=True)
class GeneSets:
    """Gene sets by name, each from one collection (a file).

    Parameters
    ----------
    sets
        Name -> names of the genes, at least one.
    collections
        Name of the set -> name of its collection, with the same keys.
    """

    sets: Mapping[str, frozenset[str]]
    collections: Mapping[str, str]

    def __post_init__(self) -> None:
        if set(self.sets) != set(self.collections):
            raise ConfigError("every gene set needs a collection", where=WHERE)

    def __len__(self) -> int:
        return len(self.sets)

    @property
    def genes(self) -> frozenset[str]:
        """All genes of all sets."""
        return frozenset[str]().union(*self.sets.values())

    def within(self, background: Iterable[str]) -> GeneSets:
        """The sets with only their genes of `background`; sets without any are left out."""
        known = frozenset(background)
        kept = {name: genes & known for name, genes in self.sets.items() if genes & known}
        return GeneSets(kept, {name: self.collections[name] for name in kept})

    @classmethod
    def read(cls, *files: str | Path) -> GeneSets:
        """Read .gmt or .gmt.gz files: a line a set, with tabs: name, description, genes.

        The collection of a set is its file's name without .gmt and .gz.

        Raises
        ------
        ConfigError
            If a file is missing, cannot be read or is empty, for a line that is no gene set (with
            its number) and for a name that occurs twice, within a file or between them.
        """
        sets: dict[str, frozenset[str]] = {}
        collections: dict[str, str] = {}
        for file in map(Path, files):
            for number, name, genes in _parse(file.expanduser()):
                if name in sets:
                    raise ConfigError(
                        f"{file}, line {number}: the name {name!r} is used already, "
                        f"in {collections[name]}",
                        where=WHERE,
                        fix="give each gene set a name of its own",
                    )
                sets[name], collections[name] = genes, _collection(file)
        return cls(sets, collections)

    @classmethod
    def from_table(
        cls,
        path: str | Path,
        set_column: str | Sequence[str],
        gene_column: str,
        *,
        separator: str | None = None,
    ) -> GeneSets:
        """Make sets of a marker table (.tsv or .csv, also .gz), e.g. one of each cell type.

        Parameters
        ----------
        path
            The table, a row a set and gene; its name is the collection.
        set_column, gene_column
            Columns of the set's name and of the gene: "cell type" and "official gene symbol" in
            PanglaoDB. Several columns together name a set as "A: B". Rows without either are
            passed over.
        separator
            What stands between the genes where a row lists several ("," in CellMarker).

        Raises
        ------
        ConfigError
            If the table cannot be read, lacks a column or names no gene.
        """
        columns = [set_column] if isinstance(set_column, str) else [*set_column]
        table = read_gene_columns(path, [*columns, gene_column], WHERE)
        members: dict[str, set[str]] = {}
        for *names, text in table[[*columns, gene_column]].itertuples(index=False):
            genes = {g.strip() for g in (text.split(separator) if separator else [text])} - {""}
            if genes and all(names):
                members.setdefault(": ".join(names), set()).update(genes)
        if not members:
            raise ConfigError(f"{path} names no gene of a set", where=WHERE)
        collection = _collection(Path(path))
        return cls(
            {name: frozenset(genes) for name, genes in members.items()},
            dict.fromkeys(members, collection),
        )

    def write(self, file: str | Path) -> None:
        """Write the sets as a .gmt file, which `evaluation.gene_sets` can name.

        The collection stands as each set's description, and the genes are in alphabetical order.
        """
        lines = [
            "\t".join([name, self.collections[name], *sorted(genes)])
            for name, genes in self.sets.items()
        ]
        Path(file).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _collection(file: Path) -> str:
    name = file.name
    for ending in (".gz", ".gmt", ".tsv", ".csv", ".txt"):
        name = name.removesuffix(ending)
    return name


def _parse(file: Path) -> list[tuple[int, str, frozenset[str]]]:
    """Number of the line, name and genes of each set of a GMT file."""
    if not file.is_file():
        raise ConfigError(f"no such file: {file}", where=WHERE)
    try:
        data = file.read_bytes()
        text = (gzip.decompress(data) if file.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}", where=WHERE) from error
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, *rest = (part.strip() for part in line.split("\t"))
        genes = frozenset(rest[1:]) - {""}
        if not name or not genes:
            raise ConfigError(
                f"{file}, line {number}, is no gene set",
                where=WHERE,
                expected="name, description and genes with tabs between them",
                found=repr(line[:60]),
            )
        found.append((number, name, genes))
    if not found:
        raise ConfigError(f"{file} holds no gene set", where=WHERE)
    return found
