# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Muon for the matrices of the blocks, AdamW for everything else, as one optimizer.

Muon (https://kellerjordan.github.io/posts/muon) orthogonalises the momentum of each matrix. Its update is scaled to the
size of AdamW's, as in Muon is Scalable for LLM Training (https://arxiv.org/abs/2502.16982), so that learning rate,
weight decay and layer decay of a recipe keep their meaning. The implementation is `torch.optim.Muon`, of torch 2.9.
"""

import torch


class MuonAndAdamW(torch.optim.Optimizer):
    """`torch.optim.Muon` and `torch.optim.AdamW`, which share groups and states of this optimizer.

    Args:
        params: parameter groups, each with `use_muon`: whether Muon updates its matrices.
        lr: learning rate of groups without their own.
        betas, eps: of AdamW.
        momentum: of Muon.

    Raises:
        ValueError: no group has matrices for Muon.
    """

    def __init__(
        self,
        params: list[dict],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        momentum: float = 0.95,
    ) -> None:
        others, matrices = ([group for group in params if group["use_muon"] is which] for which in (False, True))
        if not matrices:
            raise ValueError("optim=muon is for the matrices of the blocks, which are all frozen here; leave it out.")
        self.parts = [torch.optim.AdamW(others, lr=lr, betas=betas, eps=eps)]
        self.parts += [torch.optim.Muon(matrices, lr=lr, momentum=momentum, adjust_lr_fn="match_rms_adamw")]
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Gives both optimizers the groups of this one, whose rates a schedule changes, and its states."""
        for part, is_muon in zip(self.parts, (False, True)):
            part.param_groups = [group for group in self.param_groups if group["use_muon"] is is_muon]
            part.state = self.state

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure=None) -> torch.Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss
