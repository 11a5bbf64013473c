"""How well masked tokens are named: for each phenotype among its labels, for genes among bins."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from gradgene.tokens import Vocabulary

__all__ = ["MaskedMetrics", "accuracy", "macro_f1", "within_one"]

BINS = "bins"


def accuracy(confusion_cc: Tensor) -> Tensor:
    """Share of hits, of counts (true class, predicted class); NaN where nothing was counted."""
    return confusion_cc.diagonal().sum() / confusion_cc.sum()


def macro_f1(confusion_cc: Tensor) -> Tensor:
    """Mean of 2 hits / (true + predicted) over the classes that occur as either."""
    both_c = confusion_cc.sum(dim=0) + confusion_cc.sum(dim=1)
    occurs_c = both_c > 0
    return (2 * confusion_cc.diagonal()[occurs_c] / both_c[occurs_c]).mean()


def within_one(confusion_cc: Tensor) -> Tensor:
    """Share of predictions at most one class away from the true one, of classes in order."""
    near = torch.cat([confusion_cc.diagonal(offset=i) for i in (-1, 0, 1)]).sum()
    return near / confusion_cc.sum()


class MaskedMetrics(Metric):
    """Counts of true and predicted labels, and of bins, summed over batches and processes.

    `loss` is the weighted mean over all masked tokens. For each category `<category>/accuracy` and
    `<category>/macro_f1` compare with the most likely of its labels; `bins/…` likewise, with
    `bins/within_one` and `bins/perplexity`, the exponential of the mean negative log-probability
    of the true bin among the bins: guessing gives the number of bins.
    """

    loss: Tensor
    surprise: Tensor
    weight: Tensor

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        first, n_bins = vocabulary.bin_offset, len(vocabulary.bins) + 1
        ids = {c: list(vocabulary.label_ids(c)) for c in vocabulary.phenotypes}
        ids[BINS] = [*range(first, first + n_bins)]
        self.groups = [*ids]
        group_v = torch.full((vocabulary.n_values,), -1)
        class_v = torch.full((vocabulary.n_values,), -1)
        for i, ids_c in enumerate(map(torch.tensor, ids.values())):
            group_v[ids_c], class_v[ids_c] = i, torch.arange(len(ids_c))
            counts_cc = torch.zeros(len(ids_c), len(ids_c), dtype=torch.long)
            self.add_state(f"confusion_{i}", counts_cc, dist_reduce_fx="sum")
            self.register_buffer(f"ids_{i}", ids_c, persistent=False)
        self.register_buffer("group_v", group_v, persistent=False)
        self.register_buffer("class_v", class_v, persistent=False)
        for name in ("loss", "surprise", "weight"):
            self.add_state(name, torch.zeros((), dtype=torch.double), dist_reduce_fx="sum")

    def update(self, logits_mv: Tensor, labels_m: Tensor, loss: Tensor, weight: Tensor) -> None:
        """Count m masked tokens: logits over the input ids, labels, summed loss and weights."""
        # Not in place: a state may come from a validation in inference mode.
        self.loss = self.loss + loss.detach()
        self.weight = self.weight + weight
        group_m = self.get_buffer("group_v")[labels_m]
        class_m = self.get_buffer("class_v")[labels_m]
        for i, name in enumerate(self.groups):
            mine_m = group_m == i
            logits_kc = logits_mv[mine_m][:, self.get_buffer(f"ids_{i}")].float()
            true_k = class_m[mine_m]
            counts_cc = getattr(self, f"confusion_{i}")
            place_k = true_k * len(counts_cc) + logits_kc.argmax(dim=1)
            more_cc = place_k.bincount(minlength=counts_cc.numel()).view_as(counts_cc)
            setattr(self, f"confusion_{i}", counts_cc + more_cc)
            if name == BINS:
                surprise = F.cross_entropy(logits_kc, true_k, reduction="sum")
                self.surprise = self.surprise + surprise

    def compute(self) -> dict[str, Tensor]:
        """Name -> value over all processes; what was never asked for is left out."""
        found = {"loss": self.loss / self.weight} if self.weight else {}
        for i, name in enumerate(self.groups):
            counts_cc = getattr(self, f"confusion_{i}")
            if not counts_cc.any():
                continue
            found[f"{name}/accuracy"] = accuracy(counts_cc)
            found[f"{name}/macro_f1"] = macro_f1(counts_cc)
            if name == BINS:
                found["bins/within_one"] = within_one(counts_cc)
                found["bins/perplexity"] = (self.surprise / counts_cc.sum()).exp()
        return {key: value.float() for key, value in found.items()}
