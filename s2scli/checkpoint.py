"""The model directory, self-contained: configuration, tokenizer, weights and, if there is one, lexicon.

Every file is written to a temporary name and moved into place; nothing is ever unpickled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import s2scli
from s2scli.config import ModelConfig, TrainOptions, TranslateOptions
from s2scli.errors import S2SError, UsageError
from s2scli.events import Listener, Notice, silent
from s2scli.files import write_json_atomic
from s2scli.lexicon import lexicon_path
from s2scli.model import Seq2Seq
from s2scli.model.shortlist import Shortlist
from s2scli.resolve import check_range, convert
from s2scli.runfolder import members
from s2scli.tensorfiles import load_tensors, save_tensors
from s2scli.tokenizer import Tokenizer
from s2scli.translation import LENGTH_RATIO
from s2scli.vocabulary import SPECIALS

FORMAT = 1
"""Version of the model directory and of the training state; a newer one is refused."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a model directory says of itself.

    Attributes:
        model: The architecture.
        max_source_length: Longest source, in tokens without EOS, that the model was trained on.
        length_ratio: Target tokens for each source token that a translation may have, beside ten more.
    """

    model: ModelConfig
    max_source_length: int
    length_ratio: float = LENGTH_RATIO


def find_model(path: Path) -> Path:
    """The model directory that a path means: itself, or the best (else last) model of a run folder."""
    if (path / "config.json").is_file():
        return path
    if (complete := _complete(path)) is not None:
        return complete
    if not path.exists():
        raise S2SError(
            "there is no such folder", where=str(path), hint="Name a run folder or model directory."
        )
    hint = (
        "Train one with s2s train." if (path / "data").is_dir() else "Name a run folder or model directory."
    )
    raise S2SError("there is no model in this folder", where=str(path), hint=hint)


def _complete(run: Path) -> Path | None:
    """The best (else last) model of a run folder; None if it has none yet."""
    for candidate in (run / "best", run / "last"):
        # The weights come last: without them the training has not got that far.
        if (candidate / "model.safetensors").is_file():
            return candidate
    return None


def find_models(paths: Sequence[Path], listen: Listener = silent) -> list[Path]:
    """The model directories that paths mean: one of each seed of a run folder, else `find_model`'s.

    Args:
        listen: Told of seeds whose training has not come to a model yet; they are left out.
    """
    found = [folder for path in paths for folder in _models_of(path, listen)]
    once = list({folder.resolve(): folder for folder in found}.values())
    if len(once) < len(found):
        text = "A model that is named more than once is used once."
        listen(Notice(text=text, warning=True))
    return once


def _models_of(path: Path, listen: Listener) -> list[Path]:
    if (path / "config.json").is_file():
        return [path]
    found = []
    for member in members(path):
        if (complete := _complete(member)) is not None:
            found.append(complete)
        else:
            listen(Notice(text=f"Left out, since it holds no model yet: {member}.", warning=True))
    return found or [find_model(path)]


def create_model_directory(folder: Path, info: ModelInfo, tokenizer: Tokenizer) -> None:
    """Write all of a model directory but its weights, which come last and so complete it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder / "tokenizer.json")
    content = {
        "format": FORMAT,
        "s2scli": s2scli.__version__,
        "model": asdict(info.model),
        "max_source_length": info.max_source_length,
        "length_ratio": info.length_ratio,
    }
    write_json_atomic(folder / "config.json", content)


def unique_weights(model: Seq2Seq) -> dict[str, Tensor]:
    """Name → weight, each shared one under its first name only."""
    return dict(model.named_parameters())


def save_weights(folder: Path, model: Seq2Seq) -> None:
    """Put the weights of a model into its directory, in place of older ones."""
    save_tensors(folder / "model.safetensors", unique_weights(model), {"format": str(FORMAT)})


def read_info(folder: Path) -> ModelInfo:
    """What ``config.json`` says.

    Raises:
        S2SError: It is missing, garbled, or from another version of the format.
    """
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["format"]
    except FileNotFoundError as error:
        raise S2SError(
            "the file is missing", where=str(path), hint="Name a run folder or model directory."
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise S2SError("this is not the configuration of a model", where=str(path)) from error
    check_format(version, path)
    try:
        longest = convert(content["max_source_length"], int, "max_source_length")
        ratio = convert(content.get("length_ratio", LENGTH_RATIO), float, "length_ratio")
        check_range(TranslateOptions, "max_length_ratio", ratio, "length_ratio")
        return ModelInfo(model=_architecture(content["model"]), max_source_length=longest, length_ratio=ratio)
    except (TypeError, ValueError, KeyError, UsageError) as error:
        raise S2SError(f"the configuration of the model is damaged: {error}", where=str(path)) from error


def _architecture(content: Mapping[str, Any]) -> ModelConfig:
    """The architecture, its values of the right kinds and not larger than any training makes them."""
    for name, kind in get_type_hints(ModelConfig).items():
        if name in content:
            value = convert(content[name], kind, name)
            if name in TrainOptions.__dataclass_fields__:
                check_range(TrainOptions, name, value, name)
            elif not len(SPECIALS) <= value < 2**31:
                raise ValueError(f"{name}: {value} is out of range")
    return ModelConfig(**content)


def check_format(version: object, path: Path) -> None:
    """Refuse a format that this version does not know."""
    if version == FORMAT:
        return
    if isinstance(version, int) and version > FORMAT:
        hint = "Update s2scli."
    else:
        hint = "Train the model again, or use the version of s2scli that wrote it."
    raise S2SError(
        f"this has format version {version}; this s2scli reads version {FORMAT}", where=str(path), hint=hint
    )


def load_weights(model: Seq2Seq, weights: Mapping[str, Tensor], path: Path) -> None:
    """Fill a model with weights; every name and shape must fit."""
    expected = unique_weights(model)
    if set(weights) != set(expected):
        odd = sorted(set(weights) ^ set(expected))[0]
        raise S2SError(f"the weights do not belong to config.json ('{odd}')", where=str(path))
    with torch.no_grad():
        for name, parameter in expected.items():
            if weights[name].dtype != torch.float32:
                raise S2SError(f"weight '{name}' is not in 32-bit floating point", where=str(path))
            if parameter.shape != weights[name].shape:
                shapes = f"{tuple(weights[name].shape)}, expected {tuple(parameter.shape)}"
                raise S2SError(f"weight '{name}' has shape {shapes}", where=str(path))
            # The sum is no number if one of them is none, and is found faster.
            if not math.isfinite(float(weights[name].sum())):
                raise S2SError(
                    f"weight '{name}' holds values that are no numbers",
                    where=str(path),
                    hint="The file is damaged, or a training went wrong: take another model.",
                )
            parameter.copy_(weights[name])


class _Undrawn(TorchFunctionMode):
    """Layers that are made here draw no weights, which would take long and random numbers of the caller's."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return (kwargs or {}).get("tensor", args[0] if args else None)
        return func(*args, **(kwargs or {}))


def load_model(path: Path) -> tuple[Seq2Seq, Tokenizer, ModelInfo]:
    """Model, tokenizer and description from a run folder or model directory (fp32, CPU)."""
    folder = find_model(path)
    info = read_info(folder)
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    sizes = (tokenizer.source.vocab_size, tokenizer.target.vocab_size)
    if sizes != (info.model.source_vocab, info.model.target_vocab):
        raise S2SError(
            f"the tokenizer has {sizes[0]} and {sizes[1]} tokens, the model {info.model.source_vocab} and "
            f"{info.model.target_vocab}",
            where=str(folder / "tokenizer.json"),
            hint="It belongs to another model: put back the one that was trained with this model.",
        )
    weights, _ = load_tensors(folder / "model.safetensors")
    with _Undrawn():
        model = Seq2Seq(info.model, initialise=False)
    load_weights(model, weights, folder / "model.safetensors")
    return model.eval(), tokenizer, info


def load_models(folders: Sequence[Path]) -> tuple[list[Seq2Seq], Tokenizer, list[ModelInfo]]:
    """Models that are to be used together (fp32, CPU).

    Returns:
        The models, their tokenizer, and what each says of itself.

    Raises:
        S2SError: Their tokenizers differ, so that the same ids are not the same tokens.
    """
    loaded = [load_model(folder) for folder in folders]
    first, *others = [(folder / "tokenizer.json").read_bytes() for folder in folders]
    for folder, other in zip(folders[1:], others, strict=True):
        if other != first:
            raise S2SError(
                "these models have different tokenizers and cannot be used together",
                where=f"{folders[0]}, {folder}",
                hint="Train them on the same preprocessed data, or name one of them.",
            )
    models, tokenizers, infos = zip(*loaded, strict=True)
    return list(models), tokenizers[0], list(infos)


def load_shortlist(path: Path, size: int, device: torch.device) -> Shortlist:
    """The ``size`` likeliest target tokens of each source token, from a run folder or model directory.

    Raises:
        S2SError: The model has no lexicon.
    """
    folder = find_model(path)
    file = lexicon_path(folder)
    if not file.is_file():
        hint = "It was made before shortlists were: preprocess and train again, or leave --shortlist out."
        what = "this model has no lexicon, which a shortlist is taken from"
        raise S2SError(what, where=str(folder), hint=hint)
    tensors, _ = load_tensors(file)
    info = read_info(folder).model
    try:
        likely, frequent = (tensors[name].to(device, torch.int64) for name in ("likely", "frequent"))
        ids = torch.cat([likely.flatten(), frequent])
        if len(likely) != info.source_vocab or ids.min() < 0 or ids.max() >= info.target_vocab:
            raise ValueError
    except (KeyError, ValueError, RuntimeError) as error:
        hint = "Put back the one that was trained with this model, or leave --shortlist out."
        raise S2SError("the lexicon does not belong to this model", where=str(file), hint=hint) from error
    return Shortlist(likely[:, :size], frequent, info.target_vocab)
