"""The SOAP optimizer (Vyas et al. 2024, "SOAP: improving and stabilizing Shampoo using Adam"): Adam along the directions of gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_SIDES = ("left", "right")


class Soap(Optimizer):
    """Adam in the eigenbases of Shampoo's preconditioners.

    A convolution [out, in, k, k] is treated as the matrix [out, in·k·k]. Neighbouring pixels and many features are correlated, and so are
    the gradients of kernels: when Adam scales each weight separately, the few common directions hide the others. SOAP keeps moving averages
    of G Gᵀ and Gᵀ G for each matrix and runs Adam in the coordinates of their eigenvectors.
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
            params: parameters to train. Vectors get plain Adam; tensors with three dimensions are stacks of matrices, each with its own
                eigenvectors.
            lr: learning rate, as for Adam.
            betas: decay of the moving averages: of the gradient, and of its square in the eigenbasis, G Gᵀ and Gᵀ G.
            every: number of steps between updates of the eigenvectors, each by one round of orthogonal iteration.
            largest: maximum side of a matrix; a longer side keeps its coordinates.
        """
        super().__init__(params, {"lr": lr, "betas": betas, "every": every, "largest": largest})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update all parameters that have a gradient."""
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
        state["square"].lerp_(_change_basis(gradient, state).square(), 1 - second)
        mean = _change_basis(state["mean"], state) / (1 - first**steps)
        square = state["square"] / (1 - second**steps)
        update = _change_basis(mean / (square.sqrt() + 1e-8), state, back=True)
        if steps % group["every"] == 0:
            for side in products:
                _renew(state, side)
        return update


def _matrices(gradient: Tensor) -> Tensor:
    """The gradient as a stack of matrices [stack, rows, columns]; a vector becomes a matrix with one row."""
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
    """Eigenvectors of Gᵀ G, in descending order of their eigenvalues.

    After one gradient many eigenvalues are zero, and rounding errors, which depend on the number of processes, would choose the
    eigenvectors among them. A small diagonal term makes the choice reproducible. (In 64 bits: in 32 bits the solver returned NaN where most
    rows were zero.)
    """
    # On the CPU: a GPU solves one eigenvalue problem at a time, and slowly.
    gradient, device, dtype = gradient.double().cpu(), gradient.device, gradient.dtype
    product = gradient.mT @ gradient
    values, vectors = torch.linalg.eigh(product)
    free = (vectors * (values < 1e-8 * values[:, -1:])[:, None]) @ vectors.mT
    ties = values.mean(-1)[:, None] * torch.linspace(1e-3, 2e-3, product.shape[-1], dtype=product.dtype)
    first: Tensor = torch.linalg.eigh(product + free * ties[:, None] @ free)[1].flip(-1).to(device, dtype).contiguous()
    return first


def _change_basis(values: Tensor, state: dict[str, Any], back: bool = False) -> Tensor:
    """Transform values into the eigenbases, or back."""
    left, right = (state.get(_basis(side)) for side in _SIDES)
    if left is not None:
        values = (left if back else left.mT) @ values
    if right is not None:
        values = values @ (right.mT if back else right)
    return values


def _renew(state: dict[str, Any], side: str) -> None:
    """Update the eigenvectors by one round of orthogonal iteration, sorted by their eigenvalues."""
    basis, product = state[_basis(side)], state[side]
    order = (basis * (product @ basis)).sum(1).argsort(descending=True)
    state["square"] = state["square"].take_along_dim(order[:, :, None] if side == "left" else order[:, None], 1 + _SIDES.index(side))
    state[_basis(side)] = _orthonormal(product @ basis.take_along_dim(order[:, None], 2))


def _orthonormal(matrices: Tensor) -> Tensor:
    """Orthonormalize the columns of matrices [stack, n, n] from left to right, as a QR decomposition does."""
    found: Tensor = by_cholesky(matrices) if matrices.is_cuda else torch.linalg.qr(matrices)[0]
    return found


def by_cholesky(matrices: Tensor) -> Tensor:
    """The Q of a QR decomposition, up to signs, by Cholesky factors, which a GPU computes for all matrices of a stack at once.

    Two rounds in 64 bits (Yamamoto et al. 2015, "Roundoff error analysis of the CholeskyQR2 algorithm"). If a matrix of the stack is nearly
    singular, torch.linalg.qr takes over.
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
