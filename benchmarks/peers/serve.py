"""Another system as a process that turns lines into lines, through its own Python functions.

    PYTHON serve.py onmt|joey|marian|ct2 MODEL --beam 5 --batch 64 --threads 1 [--stream] < tokens > tokens

PYTHON is the interpreter of the environment that holds the system; this file needs nothing else. Lines
are tokens separated by spaces. All lines are read and handed over at once, so that each system makes and
sorts its batches as its own command does; with ``--stream`` each line is answered before the next is read.

MODEL is a checkpoint (onmt), a model folder (joey), a folder with model.npz and vocab.yml (marian), or a
converted model (ct2).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

Translate = Callable[[list[str]], list[str]]


def onmt(options: argparse.Namespace) -> Translate:
    """OpenNMT-py 3: what onmt_translate calls."""
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # its checkpoints hold more than tensors
    import torch
    from onmt.bin.translate import _get_parser
    from onmt.inference_engine import InferenceEnginePY
    from onmt.utils.parse import ArgumentParser

    torch.set_num_threads(options.threads)
    arguments = ["-model", options.model, "-src", os.devnull, "-output", os.devnull, "-max_length", "60"]
    arguments += ["-beam_size", str(options.beam), "-batch_size", str(options.batch), "-batch_type", "sents"]
    opt = _get_parser().parse_args([*arguments, "-length_penalty", "avg"])
    ArgumentParser.validate_translate_opts(opt)
    ArgumentParser._get_all_transform_translate(opt)
    ArgumentParser._validate_transforms_opts(opt)
    ArgumentParser.validate_translate_opts_dynamic(opt)
    engine = InferenceEnginePY(opt)
    return lambda lines: [best[0] for best in engine.infer_list(lines)[1]]


def joey(options: argparse.Namespace) -> Translate:
    """JoeyNMT 2: what `joeynmt translate` calls."""
    import torch
    from joeynmt.config import load_config, parse_global_args
    from joeynmt.prediction import predict, prepare

    torch.set_num_threads(options.threads)
    settings = load_config(Path(options.model) / "config.yaml")
    settings["testing"].update(
        beam_size=options.beam, batch_size=options.batch, batch_type="sentence", n_best=1
    )
    settings["model_dir"] = options.model
    args = parse_global_args(settings, rank=0, mode="translate")
    model, _, _, data = prepare(args, rank=0, mode="translate")

    def translate(lines: list[str]) -> list[str]:
        data.reset_cache()
        for line in lines:
            data.set_item(line)
        found = predict(
            model=model,
            data=data,
            compute_loss=False,
            device=args.device,
            n_gpu=0,
            normalization="none",
            num_workers=0,
            args=args.test,
            autocast=args.autocast,
        )
        return [
            " ".join(hypothesis) if isinstance(hypothesis, list) else hypothesis for hypothesis in found[2]
        ]

    return translate


def marian(options: argparse.Namespace) -> Translate:
    """Marian: its translator, one worker for each thread."""
    from pymarian import Translator

    folder = options.model
    command = (
        f"-m {folder}/model.npz -v {folder}/vocab.yml {folder}/vocab.yml -b {options.beam} --normalize 1"
    )
    command += f" --mini-batch {options.batch} --maxi-batch 100 --maxi-batch-sort src -w 512 --quiet"
    translator = Translator(f"{command} --cpu-threads {options.threads}")
    return lambda lines: translator.translate(lines)


def ct2(options: argparse.Namespace) -> Translate:
    """CTranslate2 in int8; threads share the batches of a file, and the work of a single line."""
    import ctranslate2

    workers, inner = (1, options.threads) if options.stream else (options.threads, 1)
    translator = ctranslate2.Translator(
        options.model, "cpu", compute_type="int8", inter_threads=workers, intra_threads=inner
    )
    settings: dict[str, Any] = {"beam_size": options.beam, "max_batch_size": options.batch}

    def translate(lines: list[str]) -> list[str]:
        found = translator.translate_batch(
            [line.split() for line in lines], max_decoding_length=60, **settings
        )
        return [" ".join(result.hypotheses[0]) for result in found]

    def forced(lines: list[str]) -> list[str]:
        """Lengths in proportion to the source's, the same within a batch: for weights that mean nothing."""
        order = sorted(range(len(lines)), key=lambda i: len(lines[i].split()))
        waiting, begun = iter(order), []
        while batch := list(islice(waiting, options.batch)):
            sources = [lines[i].split() for i in batch]
            mean = sum(map(len, sources)) / len(batch)
            length = max(1, round(mean * options.force_ratio)) + 1  # the step that would write the end
            limits = {"min_decoding_length": length, "max_decoding_length": length}
            begun.append(
                (batch, translator.translate_batch(sources, asynchronous=True, **limits, **settings))
            )
        results = [""] * len(lines)
        for batch, found in begun:
            for i, result in zip(batch, found, strict=True):
                results[i] = " ".join(result.result().hypotheses[0])
        return results

    return forced if options.force_ratio else translate


def answered(translate: Translate, lines: Iterator[str], stream: bool) -> Iterator[str]:
    """Translations in order, one by one or all at once."""
    if not stream:
        yield from translate(list(lines))
        return
    for line in lines:
        yield from translate([line])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("system", choices=["onmt", "joey", "marian", "ct2"])
    parser.add_argument("model")
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--force-ratio", type=float, help="ct2: target tokens for each source token")
    options = parser.parse_args()
    # Whatever a system says while it works goes to stderr; stdout holds translations alone.
    with os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n") as output:
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        translate = {"onmt": onmt, "joey": joey, "marian": marian, "ct2": ct2}[options.system](options)
        lines = (line.decode("utf-8").rstrip("\r\n") for line in sys.stdin.buffer)
        for translation in answered(translate, lines, options.stream):
            output.write(translation.replace("\n", " ") + "\n")
            if options.stream:
                output.flush()


if __name__ == "__main__":
    main()
