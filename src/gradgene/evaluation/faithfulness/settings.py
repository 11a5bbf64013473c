"""How faithfulness is measured in a study."""

from __future__ import annotations

from dataclasses import dataclass

from gradgene.errors import require_least

__all__ = ["Faithfulness"]


@dataclass(frozen=True, kw_only=True)
class Faithfulness:
    """Faithfulness of the scores of single pairs, on a sample of the held-out pairs.

    Parameters
    ----------
    max_pairs
        At most so many pairs, drawn at random from those of the study.
    also
        Leaves of `conf/attribution/` to measure beside the methods of the study, such as
        `swap_occlusion`.
    n_sets
        Random sets of genes a pair, for infidelity.
    n_draws
        Times that a few bins move, for sensitivity; each explains the pairs once more.
    n_searched
        Of so many of these pairs the limits of AOPC are searched, which takes about six readings a
        gene; 0 for no normalised AOPC.
    batch_tokens
        Padded tokens per forward pass.

    Raises
    ------
    ConfigError
        For numbers out of range.
    """

    max_pairs: int = 64
    also: tuple[str, ...] = ()
    n_sets: int = 27
    n_draws: int = 4
    n_searched: int = 8
    batch_tokens: int = 8192

    def __post_init__(self) -> None:
        require_least(
            "evaluation.faithfulness",
            max_pairs=(self.max_pairs, 1),
            n_sets=(self.n_sets, 1),
            n_draws=(self.n_draws, 1),
            n_searched=(self.n_searched, 0),
            batch_tokens=(self.batch_tokens, 1),
        )
