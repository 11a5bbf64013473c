"""How far, in which order and by what to prune: one leaf of `conf/pruning/`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from gradgene.errors import ConfigError, closest

__all__ = ["ORDERS", "Control", "Order", "PruningSettings", "RankSource", "Removal", "n_kept"]

ORDERS = ("lowest_first", "highest_first")
Order = Literal["lowest_first", "highest_first", "both"]
Control = Literal[
    "hvg", "deg", "expression", "random", "deg_pseudobulk", "hvg_batch", "random_matched"
]
Removal = Literal["delete", "mask"]
RankSource = Literal["held_out", "per_pair"]


@dataclass(frozen=True)
class PruningSettings:
    """How far, in which order and by what to prune.

    Parameters
    ----------
    ratios
        Shares of the genes removed, in [0, 1): one list for every order, or a list by order.
    order
        "lowest_first", "highest_first" or "both".
    rankings
        Attribution rankings to prune by: "main" for the main one and the default importance of
        every compared method, "all" for every meaningful importance of every method, signed and
        absolute, or a list of names `<method>/<importance>[/abs]`.
    controls
        Control rankings beside them; areas need "random".
    n_random
        Number of random orders.
    rank_source
        "held_out": one global ranking, made on other donors' or cells' pairs than those judged,
        cuts the panel of every held-out cell of both labels. "per_pair", as the paper's code does
        it: every held-out pair's own scores cut the union of its two cells' genes. That leaks the
        label (the scores were made to tell these two cells apart, whatever the model knows), so a
        model of random weights is pruned in the same way beside it.
    removal
        "delete" takes the tokens out; "mask" hides their expression behind `[MASK]`.
    batch_tokens
        Padded tokens per forward pass.
    retrain
        Shares in (0, 1) of the highest-ranked genes without which a model is trained anew (ROAR);
        empty for none.

    Raises
    ------
    ConfigError
        For shares outside their range, an order without shares, or an unknown choice.
    """

    ratios: tuple[float, ...] | dict[str, tuple[float, ...]]
    order: Order = "both"
    rankings: Literal["main", "all"] | tuple[str, ...] = "main"
    controls: tuple[Control, ...] = ("hvg", "deg", "random")
    n_random: int = 10
    rank_source: RankSource = "held_out"
    removal: Removal = "delete"
    batch_tokens: int = 4096
    retrain: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        choices = {"order": Order, "removal": Removal, "rank_source": RankSource}
        for name, known in choices.items():
            _require_known(name, [str(getattr(self, name))], get_args(known))
        _require_known("controls", map(str, self.controls), get_args(Control))
        if not self.grid:
            raise ConfigError(f"no shares for the order {self.order}", where="pruning.ratios")
        for order, ratios in self.grid.items():
            wrong = [r for r in ratios if not 0 <= r < 1]
            if wrong or not ratios or order not in ORDERS:
                raise ConfigError(
                    "not a pruning grid",
                    where="pruning.ratios",
                    expected=f"shares in [0, 1) for {' and '.join(ORDERS)}",
                    found=f"{order}: {list(ratios)}",
                )
        if not all(0 < share < 1 for share in self.retrain):
            raise ConfigError(
                "not shares of genes to train without",
                where="pruning.retrain",
                expected="shares in (0, 1), or none",
                found=str(list(self.retrain)),
            )

    @property
    def grid(self) -> dict[str, tuple[float, ...]]:
        """Order -> increasing ratios."""
        by_order = (
            {k: tuple(v) for k, v in self.ratios.items()}
            if isinstance(self.ratios, dict)
            else {order: tuple(self.ratios) for order in ORDERS}
        )
        wanted = ORDERS if self.order == "both" else (self.order,)
        # An order of another name is kept here, for the check above to refuse it.
        return {
            order: tuple(sorted(set(ratios)))
            for order, ratios in by_order.items()
            if order in wanted or order not in ORDERS
        }

    @property
    def points(self) -> list[tuple[str, float]]:
        """(order, ratio) of every point of a curve."""
        return [(order, ratio) for order, ratios in self.grid.items() for ratio in ratios]


def n_kept(ratio: float, n: int) -> int:
    """How many of `n` genes are left after removing a share, rounded."""
    return round((1 - ratio) * n)


def _require_known(name: str, values: Iterable[str], known: tuple[str, ...]) -> None:
    for value in values:
        if value not in known:
            raise ConfigError(
                f"unknown {name} {value!r}",
                where=f"pruning.{name}",
                expected=f"one of {closest(value, known)}",
            )
