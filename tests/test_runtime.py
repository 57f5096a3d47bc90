"""The process as a whole: its memory and its kernels."""

from __future__ import annotations

import ctypes
import os

import pytest

from s2scli.runtime import keep_kernels, keep_memory


def test_what_the_user_sets_for_kernels_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    keep_kernels(400)
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "512"


def test_a_c_library_without_the_setting_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def library(name: str | None) -> object:
        asked.append(name)
        return object()  # has no mallopt, like that of macOS or musl

    monkeypatch.setattr(ctypes, "CDLL", library)
    keep_memory()
    assert asked == [None]
