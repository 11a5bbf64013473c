"""How hard the truth is to find: the sizes, effects and confounders of planted cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gradgene.errors import ConfigError

__all__ = ["FIRST_TEST_SEED", "PLANTED_LEVELS", "PlantedLevel"]

#: Simulations from this seed on are for judging. They and the levels' cells were fixed before any
#: method was run on them, and are not changed for any result: develop on smaller seeds. Only the
#: training was lengthened once, from 8 epochs to 20 and to smaller batches, when models of seeds
#: 1000 and 1001 had learnt one pair of three; it was chosen on seeds 0 to 4.
FIRST_TEST_SEED = 1000


@dataclass(frozen=True, kw_only=True)
class PlantedLevel:
    """What `plant_cells` plants. Means are molecules of a cell of median depth.

    Parameters
    ----------
    name
        Name of the level.
    n_cells
        Cells, spread evenly over 26 donors of three batches.
    n_up, n_down
        Genes that are expressed `main_fold` times as much (as little) in cases as in controls.
    n_xor
        Pairs of genes that say nothing one by one.
    n_copies
        Genes that repeat the molecules of a main gene, each with probability `copy_share`.
    n_decoys, n_ambient, n_batch, n_null
        Genes that say nothing of the label: abundant in every cell; markers of one cell type that
        leak into the others as much as the donor has it; genes that differ between batches; others.
    main_mean, main_fold
        Mean of a main gene over both labels (geometric), and its fold change.
    xor_on, xor_off
        Mean of a gene of a pair that is on, or off. Each is on in half of the cells of each label.
    xor_fidelity
        Share of cases of which exactly one gene of a pair is on, and of controls of which both or
        none is.
    decoy_mean
        Mean of a decoy.
    batch_fold
        Fold change of a batch gene from one batch to the next.
    depth_fold, depth_sd
        Median depth of cases relative to controls; standard deviation of log depth.
    donor_sd
        Standard deviation over donors of the log mean of every gene that says nothing.
    dispersion
        Of the negative binomial: variance = mean + dispersion x mean².
    n_epochs
        Epochs in which a `tiny` model comes to know what can be known of such cells.
    n_pairs
        Held-out pairs that are explained.

    Raises
    ------
    ConfigError
        If there are too few cells, or more copies than main genes.
    """

    name: str
    n_cells: int = 48_000
    n_up: int = 3
    n_down: int = 3
    n_xor: int = 3
    n_copies: int = 2
    n_decoys: int = 10
    n_ambient: int = 3
    n_batch: int = 3
    n_null: int = 13
    main_mean: float = 2.0
    main_fold: float = 1.8
    xor_on: float = 5.0
    xor_off: float = 0.1
    xor_fidelity: float = 0.9
    copy_share: float = 0.9
    decoy_mean: float = 30.0
    batch_fold: float = 3.0
    depth_fold: float = 1.15
    depth_sd: float = 0.25
    donor_sd: float = 0.15
    dispersion: float = 0.1
    n_epochs: int = 20
    n_pairs: int = 500

    def __post_init__(self) -> None:
        if self.n_cells < 200:
            raise ConfigError(
                "are too few cells", where="n_cells", expected="200", found=str(self.n_cells)
            )
        if self.n_copies > self.n_up + self.n_down:
            raise ConfigError(
                "are more copies than main genes",
                where="n_copies",
                expected=f"at most {self.n_up + self.n_down}",
                found=str(self.n_copies),
            )

    @property
    def n_genes(self) -> int:
        """All genes."""
        return sum(self.sizes.values())

    @property
    def sizes(self) -> dict[str, int]:
        """Role -> number of genes."""
        return {
            "main_up": self.n_up,
            "main_down": self.n_down,
            "xor": 2 * self.n_xor,
            "copy": self.n_copies,
            "decoy": self.n_decoys,
            "ambient": self.n_ambient,
            "batch": self.n_batch,
            "null": self.n_null,
        }


#: The levels by name, from a check of a minute to one that a small model hardly learns.
PLANTED_LEVELS: Mapping[str, PlantedLevel] = MappingProxyType(
    {
        level.name: level
        for level in (
            PlantedLevel(
                name="smoke",
                n_cells=4_000,
                n_up=2,
                n_down=2,
                n_xor=1,
                n_copies=1,
                n_decoys=4,
                n_ambient=1,
                n_batch=2,
                n_null=6,
                main_fold=2.5,
                xor_fidelity=0.97,
                n_epochs=15,
                n_pairs=100,
            ),
            PlantedLevel(
                name="easy", n_cells=20_000, n_xor=2, n_null=8, main_fold=2.2, xor_fidelity=0.95
            ),
            PlantedLevel(name="default"),
            PlantedLevel(
                name="hard",
                n_cells=60_000,
                n_up=4,
                n_down=4,
                n_xor=4,
                n_decoys=14,
                n_null=70,
                main_fold=1.5,
                xor_fidelity=0.85,
                n_epochs=30,
            ),
        )
    }
)
