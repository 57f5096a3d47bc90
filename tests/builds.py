"""The builds of the kernels that this processor can run; none where there was no C compiler."""

from __future__ import annotations

import pytest

from s2scli.native import bindings

BUILDS = [
    pytest.param(found, id=name)
    for name in bindings._supported()
    if (found := bindings.opened(bindings.FOLDER / f"kernels-{name}.so")) is not None
]
