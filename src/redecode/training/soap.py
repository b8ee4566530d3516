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
            params: to train. Vectors have Adam's plain steps; what has three dimensions is a stack of matrices, each with bases of its own.
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
                    update = self._update(self.state[parameter], parameter.grad, group)
                    parameter.add_(update.view(parameter.shape), alpha=-group["lr"])
        return loss

    def _update(self, state: dict[str, Any], gradient: Tensor, group: dict[str, Any]) -> Tensor:
        first, second = group["betas"]
        vector, gradient = gradient.ndim == 1, _matrices(gradient)
        products = {} if vector else _products(gradient, group["largest"])
        if not state:
            state |= {"step": torch.tensor(0.0), "mean": torch.zeros_like(gradient), "square": torch.zeros_like(gradient)}
        for side, product in products.items():
            if side in state:
                state[side].lerp_(product, 1 - second)
            else:
                state[side] = product * (1 - second)
                state[_basis(side)] = _first_basis(gradient if side == "right" else gradient.mT)
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


def _matrices(gradient: Tensor) -> Tensor:
    """A stack of matrices [stack, rows, columns]; of a vector, of one row."""
    if gradient.ndim == 3:
        return gradient
    return gradient.flatten(1).contiguous()[None] if gradient.ndim > 1 else gradient[None, None]


def _products(matrices: Tensor, largest: int) -> dict[str, Tensor]:
    _, rows, columns = matrices.shape
    found = {}
    if 1 < rows <= largest:
        found["left"] = matrices @ matrices.mT
    if 1 < columns <= largest:
        found["right"] = matrices.mT @ matrices
    return found


def _basis(side: str) -> str:
    return f"{side}_basis"


def _first_basis(gradient: Tensor) -> Tensor:
    """Eigenvectors of Gᵀ G, largest values first.

    One gradient leaves many of the values zero. Between the vectors of these the last bits would decide, which are not the same on one
    process and on two: the places decide in their stead. (In 64 bits: in 32 the solver has given no numbers where most rows were zero.)
    """
    # On the processor: a GPU solves one such problem at a time, and slowly.
    gradient, device, dtype = gradient.double().cpu(), gradient.device, gradient.dtype
    product = gradient.mT @ gradient
    values, vectors = torch.linalg.eigh(product)
    free = (vectors * (values < 1e-8 * values[:, -1:])[:, None]) @ vectors.mT
    ties = values.mean(-1)[:, None] * torch.linspace(1e-3, 2e-3, product.shape[-1], dtype=product.dtype)
    first: Tensor = torch.linalg.eigh(product + free * ties[:, None] @ free)[1].flip(-1).to(device, dtype).contiguous()
    return first


def _turned(values: Tensor, state: dict[str, Any], back: bool = False) -> Tensor:
    """Into the eigenbases, or back from them."""
    left, right = (state.get(_basis(side)) for side in _SIDES)
    if left is not None:
        values = (left if back else left.mT) @ values
    if right is not None:
        values = values @ (right.mT if back else right)
    return values


def _renew(state: dict[str, Any], side: str) -> None:
    """One round of orthogonal iteration, on eigenvectors in the order of their values."""
    basis, product = state[_basis(side)], state[side]
    order = (basis * (product @ basis)).sum(1).argsort(descending=True)
    state["square"] = state["square"].take_along_dim(order[:, :, None] if side == "left" else order[:, None], 1 + _SIDES.index(side))
    state[_basis(side)] = _orthonormal(product @ basis.take_along_dim(order[:, None], 2))


def _orthonormal(matrices: Tensor) -> Tensor:
    """Orthonormal columns that span, from left to right, what the columns span: [stack, n, n] to the same."""
    found: Tensor = by_cholesky(matrices) if matrices.is_cuda else torch.linalg.qr(matrices)[0]
    return found


def by_cholesky(matrices: Tensor) -> Tensor:
    """As a QR decomposition, but for signs, by products and Cholesky factors: a GPU takes all matrices of a stack at once.

    Twice, in 64 bits (Yamamoto et al. 2015, "Roundoff error analysis of the CholeskyQR2 algorithm"); stacks with a matrix that is too
    close to singular for it take the slow way.
    """
    columns = matrices.double()
    for _ in range(2):
        columns = columns / columns.norm(dim=1, keepdim=True).clamp_min(1e-300)
        factor, failed = torch.linalg.cholesky_ex(columns.mT @ columns, upper=True)
        if failed.any():
            slow: Tensor = torch.linalg.qr(matrices)[0]
            return slow
        columns = torch.linalg.solve_triangular(factor, columns, upper=True, left=False)
    result: Tensor = columns.to(matrices.dtype)
    return result
