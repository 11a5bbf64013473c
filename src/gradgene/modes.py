"""Borrow a model or torch's threads, and give them back as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["explaining", "replaced_forward", "same_threads"]

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@contextmanager
def explaining(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, frozen parameters and gradients on, whatever the surroundings.

    Afterwards training flags and `requires_grad` are as before, also after an exception. If the
    body left a hook or a replaced `forward` behind, they are removed and `RuntimeError` is raised,
    because a model with foreign hooks would silently explain something else.
    """
    training = {m: m.training for m in model.modules()}
    trainable = {p: p.requires_grad for p in model.parameters()}
    before = _attachments(model)
    model.eval().requires_grad_(False)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, flag in training.items():
            module.training = flag
        for parameter, flag in trainable.items():
            parameter.requires_grad_(flag)
        leaked = sorted(_attachments(model) - before)
        _detach(model, leaked)
    if leaked:
        raise RuntimeError(f"left behind on the model: {', '.join(map(str, leaked))}")


@contextmanager
def replaced_forward(module: nn.Module, forward: object) -> Iterator[None]:
    """Let `forward` stand in for the module's own inside the context."""
    before = {k: v for k, v in vars(module).items() if k == "forward"}
    vars(module)["forward"] = forward
    try:
        yield
    finally:
        del vars(module)["forward"]
        vars(module).update(before)


@contextmanager
def same_threads() -> Iterator[None]:
    """Starting numba's threads, as scanpy does, resets how many torch may use; set it back."""
    n_threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _attachments(model: nn.Module) -> set[tuple[str, str, int]]:
    """(module name, kind, id) of every hook and of every `forward` set on an instance."""
    found = set()
    for name, module in model.named_modules():
        found |= {(name, kind, key) for kind in HOOKS for key in getattr(module, kind)}
        if "forward" in vars(module):
            found.add((name, "forward", 0))
    return found


def _detach(model: nn.Module, leaked: list[tuple[str, str, int]]) -> None:
    for name, kind, key in leaked:
        module = model.get_submodule(name)
        if kind == "forward":
            del vars(module)["forward"]
        else:
            del getattr(module, kind)[key]
