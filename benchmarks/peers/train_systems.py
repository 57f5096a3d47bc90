"""Systems in training: their commands, on the same tokens and with the same sizes, and what their logs say.

Every system writes a line for each update, this project one for every 25. These lines and the times in them
become points: seconds since the training began, and target tokens so far, EOS included and padding not.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
STAMP = r"\[?(\d+-\d+-\d+ \d+:\d+:\d+,\d+)"


@dataclass(frozen=True)
class Size:
    """What is the same for all systems: one of the measured settings.

    Attributes:
        layers: Of the encoder and of the decoder.
        embedding: Width.
        batch_tokens: Of a batch, as each system counts them. JoeyNMT's batches, of a pair for every 16
            tokens (144 pairs for 2,304), hold about as many.
        hidden: Width of the decoder; that of the encoder is half of it in each direction.
        dropout: Where each system has it.
    """

    layers: int
    embedding: int
    batch_tokens: int
    hidden: int = 512
    dropout: float = 0.3


SIZES = {"large": Size(2, 512, 2304), "small": Size(1, 256, 1024)}


@dataclass(frozen=True)
class Point:
    """Where a training stands ``seconds`` after its beginning; ``waited``: seconds spent waiting for data."""

    seconds: float
    tokens: float
    waited: float = 0.0


@dataclass(frozen=True)
class Tokens:
    """The tokenised corpus: FOLDER/train.SOURCE and so on, with the vocabularies; and this project's data."""

    folder: Path
    run: Path
    languages: tuple[str, str]

    def path(self, part: str, side: int) -> Path:
        return self.folder / f"{part}.{self.languages[side]}"

    def lengths(self) -> list[tuple[int, int]]:
        """Tokens of each training pair, EOS included."""
        sides = (self.path("train", side).read_text(encoding="utf-8").splitlines() for side in (0, 1))
        return [(len(s.split()) + 1, len(t.split()) + 1) for s, t in zip(*sides, strict=True)]

    def fill(self, template: str, out: Path) -> str:
        """A configuration file with its placeholders and its languages replaced."""
        text = (HERE / template).read_text(encoding="utf-8")
        text = text.replace("DATA", str(self.folder)).replace("OUT", str(out))
        names = dict(zip(("en", "de"), self.languages, strict=True))
        return re.sub(r'(?<=[."])(en|de)\b', lambda found: names[found[1]], text)


@dataclass(frozen=True)
class System:
    """A program that trains.

    Attributes:
        name: For the table.
        command: Its words, from (size, tokens, threads, empty folder to write into).
        points: What its log says; ``log`` is the log's name in that folder.
        feed: Whether its decoder feeds the attention's result into the next step.
        bf16: It computes in bf16 where the processor does.
        note: What to know about it, for under the table.
    """

    name: str
    command: Callable[[Size, Tokens, int, Path], list[str]]
    points: Callable[[str], list[Point]]
    log: str = "log"
    feed: bool = True
    bf16: bool = False
    note: str = ""


def ours(*more: str) -> Callable[[Size, Tokens, int, Path], list[str]]:
    """The command of this project, with further options."""

    def command(size: Size, tokens: Tokens, threads: int, out: Path) -> list[str]:
        (out / "data").symlink_to(tokens.run / "data")
        return [
            *(sys.executable, "-m", "s2scli", "train", "--run", str(out), "--threads", str(threads)),
            *("--hidden", str(size.hidden), "--embedding", str(size.embedding), "--tie", "all"),
            *("--encoder-layers", str(size.layers), "--decoder-layers", str(size.layers)),
            *("--dropout", str(size.dropout), "--batch-tokens", str(size.batch_tokens)),
            *("--max-steps", "1000000", *more),
        ]

    return command


def our_points(text: str) -> list[Point]:
    """Of metrics.jsonl, but for its last line if that is not yet whole."""
    points = [Point(0.0, 0.0)]
    for line in text.split("\n")[:-1]:
        found = json.loads(line)
        if found["event"] == "step":
            last, seconds = points[-1], found["elapsed"] - points[-1].seconds
            tokens = last.tokens + seconds * found["tokens_per_second"]
            points.append(Point(found["elapsed"], tokens, last.waited + seconds * found["data_wait"]))
    return points[1:]


def onmt(venv: Path, *more: str) -> Callable[[Size, Tokens, int, Path], list[str]]:
    """The command of OpenNMT-py; it shares its output layer with embeddings only of the same width."""

    def command(size: Size, tokens: Tokens, threads: int, out: Path) -> list[str]:
        config = out / "onmt.yaml"
        config.write_text(tokens.fill("onmt.yaml", out), encoding="utf-8")
        layers = str(size.layers)
        return [
            *(str(venv / "bin/onmt_train"), "-config", str(config), "-learning_rate", "0.001"),
            *("-encoder_type", "brnn", "-decoder_type", "rnn", "-rnn_type", "LSTM"),
            *("-enc_layers", layers, "-dec_layers", layers, "-hidden_size", str(size.hidden)),
            *("-enc_hid_size", str(size.hidden), "-dec_hid_size", str(size.hidden)),
            *(
                "-word_vec_size",
                str(size.embedding),
                "-global_attention",
                "general",
                "-dropout",
                str(size.dropout),
            ),
            *(["-share_decoder_embeddings"] if size.embedding == size.hidden else []),
            *("-batch_size", str(size.batch_tokens), "-report_every", "1"),
            *("-train_steps", "1000000", "-valid_steps", "1000000", "-save_checkpoint_steps", "1000000"),
            *more,
        ]

    return command


def stamped(text: str, begin: str, line: str) -> Iterator[tuple[float, re.Match[str]]]:
    """Seconds since the line ``begin`` of each ``line`` (regular expressions), from their time stamps."""
    if (first := re.search(f"{STAMP}.*{begin}", text)) is None:
        return
    begun = datetime.fromisoformat(first[1])
    for found in re.finditer(f"{STAMP}.*{line}", text, re.ASCII):
        yield (datetime.fromisoformat(found[1]) - begun).total_seconds(), found


def onmt_points(text: str) -> list[Point]:
    """``bsz`` holds source tokens, target tokens and pairs of the update."""
    points, tokens = [], 0.0
    for seconds, found in stamped(text, "Start training loop", r"Step .* bsz: *\d+/ *(\d+)/"):
        tokens += int(found[2])
        points.append(Point(seconds, tokens))
    return points


JOEYNMT = {"validation_freq: 450": "validation_freq: 1000000", "logging_freq: 50": "logging_freq: 1"}
"""What differs from joeynmt.yaml, where only its speed is measured."""


def joey(venv: Path, changes: Mapping[str, str] = JOEYNMT) -> Callable[[Size, Tokens, int, Path], list[str]]:
    """The command of JoeyNMT; ``changes`` are texts of joeynmt.yaml and what replaces them."""

    def command(size: Size, tokens: Tokens, threads: int, out: Path) -> list[str]:
        text = tokens.fill("joeynmt.yaml", out / "model")
        sizes = {
            "embedding_dim: 256": f"embedding_dim: {size.embedding}",
            "hidden_size: 512": f"hidden_size: {size.hidden}",
            "hidden_size: 256": f"hidden_size: {size.hidden // 2}",
            "num_layers: 1": f"num_layers: {size.layers}",
            "dropout: 0.3": f"dropout: {size.dropout}",
            "tied_softmax: False": f"tied_softmax: {size.embedding == size.hidden}",
            "batch_size: 64\n    batch_type": f"batch_size: {size.batch_tokens // 16}\n    batch_type",
            # It wants a test set, though it does not use it.
            f'"{tokens.folder}/test"': f'"{tokens.folder}/dev"',
        }
        every = sizes | dict(changes)
        for old in every:
            assert old in text, f"joeynmt.yaml has no {old}"
        # In one pass, so that nothing is replaced twice.
        text = re.sub("|".join(map(re.escape, every)), lambda found: every[found[0]], text)
        (out / "joeynmt.yaml").write_text(text, encoding="utf-8")
        return [str(venv / "bin/python"), "-m", "joeynmt", "train", str(out / "joeynmt.yaml"), "--skip-test"]

    return command


def joey_points(text: str) -> list[Point]:
    """Its lines say tokens a second since the line before."""
    points = [Point(0.0, 0.0)]
    for seconds, found in stamped(text, r"EPOCH 1\b", r"Tokens per Sec: *(\d+)"):
        points.append(Point(seconds, points[-1].tokens + int(found[2]) * (seconds - points[-1].seconds)))
    return points[1:]


def marian(venv: Path) -> Callable[[Size, Tokens, int, Path], list[str]]:
    """The command of Marian."""

    def command(size: Size, tokens: Tokens, threads: int, out: Path) -> list[str]:
        vocabulary = str(tokens.folder / "vocab.marian.yml")
        return [
            # Its threads are workers of its own; threads of the matrix library would share their cores.
            *("env", "OMP_NUM_THREADS=1", "MKL_NUM_THREADS=1", str(venv / "bin/pymarian")),
            *("--type", "s2s", "--enc-type", "bidirectional", "--enc-cell", "lstm", "--dec-cell", "lstm"),
            *(
                "--enc-depth",
                str(size.layers),
                "--dec-depth",
                str(size.layers),
                "--dim-rnn",
                str(size.hidden),
            ),
            *("--dim-emb", str(size.embedding), "--tied-embeddings-all", "--dropout-rnn", str(size.dropout)),
            *("--label-smoothing", "0.1", "--optimizer", "adam", "--learn-rate", "0.001", "--seed", "1"),
            *("--mini-batch-words", str(size.batch_tokens), "--mini-batch-fit", "false"),
            *("--cpu-threads", str(threads), "-w", "4000", "--disp-freq", "1", "--overwrite"),
            *("-t", str(tokens.path("train", 0)), str(tokens.path("train", 1))),
            *("-v", vocabulary, vocabulary, "-m", str(out / "model.npz")),
        ]

    return command


def marian_points(text: str) -> list[Point]:
    """Its lines say all target tokens so far, and the seconds since the line before."""
    points, seconds = [], 0.0
    for found in re.finditer(r"Up\. .* after ([\d,]+) : Time ([\d.]+)s", text):
        seconds += float(found[2])
        points.append(Point(seconds, int(found[1].replace(",", ""))))
    return points


def _own(name: str, *more: str, feed: bool, bf16: bool) -> System:
    command = ours("--validate-every", "1000000", *more)
    return System(name, command, our_points, "metrics.jsonl", feed=feed, bf16=bf16)


def systems(peers: Path | None) -> dict[str, System]:
    """All systems by the name that --systems knows; ``peers`` is the folder of their environments."""
    found = {
        "ours-auto": _own("s2s", feed=False, bf16=True),
        "ours-fp32": _own("s2s, fp32", "--precision", "fp32", feed=False, bf16=False),
        "ours-feed": _own("s2s, --feed input", "--feed", "input", feed=True, bf16=True),
    }
    if peers is not None:
        unfed = onmt(peers / "onmt", "-input_feed", "0")
        found |= {
            "onmt": System("OpenNMT-py 3.5.1", onmt(peers / "onmt"), onmt_points),
            "onmt-nofeed": System("OpenNMT-py 3.5.1, -input_feed 0", unfed, onmt_points, feed=False),
            "joey": System(
                "JoeyNMT 2.3.0",
                joey(peers / "joey"),
                joey_points,
                note="its batches are 144 (small: 64) pairs as they come, not of similar length",
            ),
            "marian": System(
                "Marian 1.12 (pymarian)",
                marian(peers / "marian"),
                marian_points,
                note="its decoder has another shape, so its share of the floor is a rough one",
            ),
        }
    return found


def late(points: Sequence[Point], seconds: float) -> list[Point]:
    """Those of the second half of a training of so many seconds."""
    return [point for point in points if point.seconds >= seconds / 2]
