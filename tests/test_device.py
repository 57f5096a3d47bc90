"""Nothing is left behind on the CPU when a model computes elsewhere, and an update waits for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import copy_run
from other_device import DEVICE, other_device, waits
from safetensors.torch import load_file

from s2scli import Translator
from s2scli.config import TrainOptions
from s2scli.events import silent
from s2scli.meter import Stop
from s2scli.train import train
from s2scli.trainer import Trainer
from s2scli.translation import SearchOptions

pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration")

LINES = ["a b c", "d e f g h", "b", "h g f e d c", "", "c c c"]
LIMITS: dict[str, Any] = {"max_steps": 4, "validate_every": 4, "batch_tokens": 200, "validate_lines": 5}


def test_the_device_refuses_what_a_gpu_refuses() -> None:
    with other_device():
        there, here = torch.ones(3, device=DEVICE), torch.ones(3)
        with pytest.raises(RuntimeError, match="two devices"):
            there + here
        waits.clear()
        assert (there + 1).tolist() == [2, 2, 2]
        assert float(there.sum()) == 3
        assert len(waits) == 2


@pytest.mark.parametrize("shortlist", [0, 5])
@pytest.mark.parametrize(
    "options",
    [
        SearchOptions(beam=1),
        SearchOptions(beam=4, beam_threshold=3.0),
        SearchOptions(beam=4, n_best=3, attention=True, no_repeat_ngram=2),
        SearchOptions(beam=1, sample=True, top_k=4, top_p=0.9),
    ],
)
def test_translations_are_the_same_on_another_device(
    options: SearchOptions, shortlist: int, trained: Path
) -> None:
    def translations(models: list[Path]) -> list[list[tuple[str, float]]]:
        translator = Translator.load(models, precision="fp32", shortlist=shortlist)
        found = translator.hypotheses(LINES, options)
        return [[(t.text, round(t.score, 3)) for t in best] for best in found]

    for models in ([trained], [trained, trained]):
        expected = translations(models)
        with other_device():
            assert translations(models) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"cell": "gru", "feed": "input", "attention": "additive", "values": "projected", "encoder_layers": 2},
        {"attention": "none", "tie": "none", "decoder_layers": 2, "recurrent_dropout": 0.2, "clip_norm": 0.0},
        {"preset": "lecture", "average": "none", "accumulate": 2},
    ],
)
def test_training_on_another_device_learns_the_same_and_no_update_waits(
    changes: dict[str, Any], prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(name: str) -> dict[str, torch.Tensor]:
        run = copy_run(prepared, tmp_path / name)
        options = {"hidden": 16, "embedding": 8, "precision": "fp32", "run": run} | LIMITS | changes
        train(TrainOptions(**options), silent, Stop())
        train(TrainOptions(run=run, resume=True, max_steps=6), silent, Stop())
        return load_file(run / "last" / "model.safetensors")

    waited: list[int] = []
    update = Trainer.update

    def observed(self: Trainer, *arguments: Any) -> Any:
        waits.clear()
        result = update(self, *arguments)
        waited.append(len(waits))
        return result

    monkeypatch.setattr(Trainer, "update", observed)
    expected = trained("here")
    waited.clear()
    with other_device():
        found = trained("there")
    assert waited == [0] * 6
    assert found.keys() == expected.keys()
    for name, weights in found.items():
        torch.testing.assert_close(weights, expected[name], rtol=0, atol=2e-4, msg=name)


def test_forced_scores_are_the_same_on_another_device(trained: Path) -> None:
    def scores() -> list[float]:
        translator = Translator.load(trained, precision="fp32")
        found = translator.searcher.forced([[4, 5, 6], [7]], [[[6, 5, 4], [6]], [[7, 7]]])
        return [p for line in found for scores in line for p in scores]

    expected = scores()
    with other_device():
        assert scores() == pytest.approx(expected, abs=1e-4)
