"""Kernels of our own, written in C and built when s2scli is installed.

Of search ``kernels.c`` has the steps, ``attention.h``, ``product.h`` and ``inputs.h`` their parts;
``matrix``, ``layer``, ``encoder``, ``prediction`` and ``stepper`` call them. Of training ``recurrence.c`` has
the LSTM, ``loss.c`` the softmax, ``dense.c`` products and ``adam.c`` the updates of weights, by the threads
of ``team.h``; the modules of these names call them.
``vector.h`` and ``tiles.h`` are what all are made of, and ``bindings`` loads them. Where they are not built,
torch does the same.
"""

from s2scli.native.bindings import kernels
from s2scli.native.dense import linear
from s2scli.native.loss import output
from s2scli.native.recurrence import lstm
from s2scli.native.stepper import NativeStepper, supported

__all__ = ["NativeStepper", "kernels", "linear", "lstm", "output", "supported"]
