"""The system test: the commands together must learn a task that needs attention."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import reversal_pairs, run_s2s, write_pairs

from s2scli import Translator


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_it_learns_to_reverse_strings(tmp_path: Path) -> None:
    """Symbol strings of length 5 to 15, backwards, to 99 % exact match on unseen ones."""
    write_pairs(tmp_path, "train", reversal_pairs(8000, 5, 15, seed=1))
    write_pairs(tmp_path, "dev", reversal_pairs(200, 5, 15, seed=2))
    test = reversal_pairs(500, 5, 15, seed=3)
    files = [
        x
        for s in ("train", "dev")
        for x in (f"--{s}-src", tmp_path / f"{s}.src", f"--{s}-tgt", tmp_path / f"{s}.tgt")
    ]
    run = tmp_path / "run"
    done = run_s2s("preprocess", "--run", run, "--tokenizer", "word", *files)
    assert done.returncode == 0, done.stderr
    size = ["--hidden", 128, "--embedding", 64, "--batch-tokens", 600, "--dropout", 0, "--word-dropout", 0]
    limits = ["--max-steps", 1600, "--validate-every", 400, "--learning-rate", 0.004, "--ema-decay", 0.99]
    done = run_s2s("train", "--run", run, *size, *limits)
    assert done.returncode == 0, done.stderr
    out = Translator.load(run).translate([source for source, _ in test])
    right = sum(o == target for o, (_, target) in zip(out, test, strict=True))
    assert right >= 0.99 * len(test), f"{right} of {len(test)}"
