"""SOAP (Vyas et al. 2024, "SOAP: improving and stabilizing Shampoo using Adam"): Adam along the directions in which gradients vary."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_SIDES = ("left", "right")


class Soap(Optimizer):
    """Adam in the eigenbases of Shampoo's preconditioners.

    A convolution [out, in, k, k] counts as the matrix [out, in·k·k]. Neighbouring pixels are nearly alike, and so are many features, so
    that the gradients of kernels are strongly correlated; scaled weight by weight, as Adam does it, the few directions that they have in
    common hide the others. Here the moving averages of G Gᵀ and Gᵀ G are kept for each matrix, and Adam works in the coordinates of
    their eigenvectors.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.98),
        every: int = 20,
        largest: int = 500,
    ) -> None:
        """
        Args:
            params: to train. Vectors have Adam's plain steps.
            lr: length of a step, as Adam's.
            betas: decay of the averages of the gradient, and of its square in its own coordinates, of G Gᵀ and of Gᵀ G.
            every: steps between two renewals of their eigenvectors, each one round of orthogonal iteration.
            largest: a side of a matrix that is longer stays as it is.
        """
        super().__init__(params, {"lr": lr, "betas": betas, "every": every, "largest": largest})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of all parameters that have a gradient."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update = self._update(self.state[parameter], _matrix(parameter.grad), group)
                    parameter.add_(update.view(parameter.shape), alpha=-group["lr"])
        return loss

    def _update(self, state: dict[str, Any], gradient: Tensor, group: dict[str, Any]) -> Tensor:
        first, second = group["betas"]
        if not state:
            state |= {"step": torch.tensor(0.0), "mean": torch.zeros_like(gradient), "square": torch.zeros_like(gradient)}
        products = _products(gradient, group["largest"])
        for side, product in products.items():
            if side in state:
                state[side].lerp_(product, 1 - second)
            else:
                state[side] = product * (1 - second)
                # In 64 bits: in 32 the solver has given no numbers where most rows were zero.
                state[_basis(side)] = torch.linalg.eigh(product.double())[1].flip(1).to(product.dtype).contiguous()
        state["step"] += 1
        steps = state["step"].item()
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].lerp_(_turned(gradient, state).square(), 1 - second)
        mean = _turned(state["mean"], state) / (1 - first**steps)
        square = state["square"] / (1 - second**steps)
        update = _turned(mean / (square.sqrt() + 1e-8), state, back=True)
        if steps % group["every"] == 0:
            for side in products:
                _renew(state, side)
        return update


def _matrix(gradient: Tensor) -> Tensor:
    return gradient.flatten(1).contiguous() if gradient.ndim > 1 else gradient[None]


def _products(gradient: Tensor, largest: int) -> dict[str, Tensor]:
    rows, columns = gradient.shape
    found = {}
    if 1 < rows <= largest:
        found["left"] = gradient @ gradient.T
    if rows > 1 and columns <= largest:
        found["right"] = gradient.T @ gradient
    return found


def _basis(side: str) -> str:
    return f"{side}_basis"


def _turned(values: Tensor, state: dict[str, Any], back: bool = False) -> Tensor:
    """Into the eigenbases, or back from them."""
    left, right = (state.get(_basis(side)) for side in _SIDES)
    if left is not None:
        values = (left if back else left.T) @ values
    if right is not None:
        values = values @ (right.T if back else right)
    return values


def _renew(state: dict[str, Any], side: str) -> None:
    """One round of orthogonal iteration, on eigenvectors in the order of their values."""
    basis, product = state[_basis(side)], state[side]
    order = (basis * (product @ basis)).sum(0).argsort(descending=True)
    state["square"] = state["square"].index_select(_SIDES.index(side), order)
    state[_basis(side)] = torch.linalg.qr(product @ basis[:, order])[0]
