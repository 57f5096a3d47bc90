"""Builds the kernels of search and training with the C compiler of the machine, if there is one.

There is a build for each kind of processor, and the right one is chosen when s2scli runs, so an installation
may move to another machine of the same system. Without a compiler it is complete all the same, and computes
with torch alone.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path(__file__).parent / "s2scli" / "native"
FLAGS = ["-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]
X86 = {
    "amx": ["-march=sapphirerapids"],
    "vnni": ["-march=icelake-server"],
    "avx2": ["-march=haswell"],
}


def sources(folder: Path) -> str:
    """What the kernels are made of, as a number: a build of other sources is not used (``bindings.py``)."""
    content = b"".join(path.read_bytes() for path in sorted(folder.glob("*.[ch]")))
    return hashlib.sha256(content).hexdigest()[:15]


def build(folder: Path) -> list[Path]:
    """Compile for every kind of processor that this system may have; what cannot be compiled is left out."""
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None or sys.platform == "win32":
        return []
    targets = X86 if platform.machine() in ("x86_64", "AMD64") else {"plain": []}
    running = {}
    for name, target in targets.items():
        # A process that has the old build loaded keeps it, as the new one is moved into its place.
        new = folder / f"kernels-{name}.so.new"
        mark = f"-DSOURCES=0x{sources(folder)}"
        command = [
            *compiler.split(),
            *FLAGS,
            "-shared",
            "-fPIC",
            mark,
            *target,
            "-o",
            str(new),
            *map(str, sorted(folder.glob("*.c"))),
            "-lm",
        ]
        running[name] = new, subprocess.Popen(command, stderr=subprocess.DEVNULL)
    built = []
    for name, (new, process) in running.items():
        if process.wait() == 0:
            built.append(folder / f"kernels-{name}.so")
            new.replace(built[-1])
    return built


class KernelsHook(BuildHookInterface):  # type: ignore[type-arg]
    """Called before a wheel is made, or an installation that refers to this folder."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build what the wheel takes along."""
        built = build(FOLDER)
        if not built:
            self.app.display_warning("Without a C compiler, torch alone does the work, more slowly.")
            return
        build_data["artifacts"] += [path.relative_to(self.root).as_posix() for path in built]
        build_data["pure_python"] = False
        # The kernels know nothing of Python: any version of it will do.
        system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{system}"
