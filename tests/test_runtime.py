"""The process as a whole: its memory and its kernels."""

from __future__ import annotations

import ctypes
import os

import pytest
import torch

from s2scli.model.packed import has_int8
from s2scli.runtime import has_fast_bf16, keep_kernels, keep_memory, set_up


def test_what_the_user_sets_for_kernels_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    keep_kernels()
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
    monkeypatch.delenv("LRU_CACHE_CAPACITY")
    keep_kernels()
    assert os.environ["LRU_CACHE_CAPACITY"] == "16"


def test_a_c_library_without_the_setting_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def library(name: str | None) -> object:
        asked.append(name)
        return object()  # has no mallopt, like that of macOS or musl

    monkeypatch.setattr(ctypes, "CDLL", library)
    keep_memory()
    assert asked == [None]


def test_search_takes_the_fastest_format_and_training_what_it_can_train_in() -> None:
    auto = set_up("cpu", "auto", None)
    trained_in = "bf16" if has_fast_bf16(torch.device("cpu")) else "fp32"
    assert auto.kind == ("int8" if has_int8() else trained_in)
    assert auto.dtype == (torch.bfloat16 if trained_in == "bf16" else torch.float32)
    assert auto.description.endswith(f", {trained_in}")
    exact = set_up("cpu", "fp32", None)
    assert (exact.kind, exact.dtype) == ("fp32", torch.float32)
