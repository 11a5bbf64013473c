"""What every module does when it learns: clip its gradients, and change its rate by step."""

from __future__ import annotations

from functools import partial
from typing import Any

import lightning
from lightning.pytorch.strategies import FSDPStrategy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from gradgene.lit.schedule import warmup_cosine

__all__ = ["LearningModule", "warming_up"]


class LearningModule(lightning.LightningModule):
    """A module whose gradients are clipped wherever they lie."""

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as Lightning does; the norm of gradients that are shared out is FSDP's to take."""
        strategy = self.trainer.strategy
        if isinstance(strategy, FSDPStrategy) and gradient_clip_algorithm in (None, "norm"):
            if gradient_clip_val:
                strategy.model.clip_grad_norm_(gradient_clip_val)  # type: ignore[union-attr,operator]
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)


def warming_up(optimizer: Optimizer, warmup_share: float, total: int) -> dict[str, Any]:
    """What Lightning asks for: an optimiser whose rate rises and falls over `total` steps."""
    factor = partial(warmup_cosine, warmup=round(warmup_share * total), total=total)
    schedule = LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
