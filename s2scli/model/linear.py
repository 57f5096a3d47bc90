"""x Wᵀ + b, by the kernel that is fastest where it is."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

LinearKernel = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""x (…, k), W (m, k) and b (m,), if there is one, to x Wᵀ + b (…, m)."""


class Linear(nn.Linear):
    """torch's own.

    Attributes:
        kernel: What computes it.
    """

    kernel: LinearKernel = staticmethod(nn.functional.linear)

    def forward(self, x: Tensor) -> Tensor:
        """x (…, k) to (…, m)."""
        return self.kernel(x, self.weight, self.bias)
