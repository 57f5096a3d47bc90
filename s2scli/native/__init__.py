"""Search by kernels of our own, written in C and built when s2scli is installed.

``kernels.c`` has the steps, ``attention.h``, ``product.h`` and ``inputs.h`` their parts, ``vector.h`` what
all are made of. ``bindings`` loads them; ``matrix``, ``layer``, ``encoder``, ``prediction`` and ``stepper``
call them. Where they are not built, `model.stepper` makes the same steps with torch.
"""

from s2scli.native.bindings import kernels
from s2scli.native.stepper import NativeStepper, supported

__all__ = ["NativeStepper", "kernels", "supported"]
