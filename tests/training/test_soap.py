from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from redecode.training.soap import Soap, by_cholesky  # noqa: E402


def gradient(weights: torch.Tensor, scales: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Losses of a nearly quadratic function that is much steeper in some directions than in others."""
    away = weights - target
    return away * scales + 0.1 * away**3


def test_columns_are_made_orthonormal_by_cholesky_as_by_qr() -> None:
    torch.manual_seed(2)
    values = torch.logspace(0, -6, 24)
    basis = torch.linalg.qr(torch.randn(5, 24, 24))[0]
    near = torch.linalg.qr(basis + 0.05 * torch.randn(5, 24, 24))[0]
    matrices = (basis * values) @ basis.mT @ near
    ours, theirs = by_cholesky(matrices), torch.linalg.qr(matrices.double())[0].float()
    torch.testing.assert_close(ours.mT @ ours, torch.eye(24).expand(5, -1, -1), atol=1e-5, rtol=0)
    torch.testing.assert_close(ours * (ours * theirs).sum(1, keepdim=True).sign(), theirs, atol=1e-3, rtol=0)
    matrices[2, :, 7] = 0
    singular = by_cholesky(matrices)
    torch.testing.assert_close(singular.mT @ singular, torch.eye(24).expand(5, -1, -1), atol=1e-5, rtol=0)


def test_vectors_have_the_steps_of_adam() -> None:
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(7)) for _ in range(2))
    soap, adam = Soap([ours], 0.01, betas=(0.9, 0.98)), torch.optim.Adam([theirs], 0.01, betas=(0.9, 0.98))
    for _ in range(30):
        ours.grad = torch.randn(7)
        theirs.grad = ours.grad.clone()
        soap.step()
        adam.step()
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_coordinates_do_not_matter() -> None:
    """Rotating the coordinates of rows and columns rotates the whole training; with Adam it would change it."""
    torch.manual_seed(0)
    start, target = torch.randn(2, 5, 6, dtype=torch.float64)
    scales = torch.logspace(-2, 2, 30, dtype=torch.float64).view(5, 6)
    rows, columns = (torch.linalg.qr(torch.randn(n, n, dtype=torch.float64))[0] for n in (5, 6))
    plain, turned = torch.nn.Parameter(start.clone()), torch.nn.Parameter(rows @ start @ columns)
    optimizers = [Soap([parameter], 0.05, every=5) for parameter in (plain, turned)]
    for _ in range(40):
        plain.grad = gradient(plain.detach(), scales, target)
        turned.grad = rows @ gradient(rows.T @ turned.detach() @ columns.T, scales, target) @ columns
        for optimizer in optimizers:
            optimizer.step()
    assert (plain - start).abs().max() > 0.5
    torch.testing.assert_close(turned, rows @ plain @ columns, atol=1e-4, rtol=0)


def test_a_long_side_stays_as_it_is() -> None:
    parameter = torch.nn.Parameter(torch.zeros(3, 4, 3, 3))
    optimizer = Soap([parameter], largest=20)
    parameter.grad = torch.randn(3, 4, 3, 3)
    optimizer.step()
    state = optimizer.state[parameter]
    assert state["left_basis"].shape == (1, 3, 3)
    assert "right_basis" not in state
    assert parameter.abs().min() > 0
