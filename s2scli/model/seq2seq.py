"""The whole model: embeddings, encoder, decoder and output layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from s2scli.config import PAD, UNK, ModelConfig
from s2scli.model.attention import Memory, RelativePositions
from s2scli.model.batch import Batch
from s2scli.model.decoder import Decoder, DecoderState
from s2scli.model.encoder import Encoded, Encoder
from s2scli.model.linear import Linear, LinearKernel
from s2scli.model.loss import OutputKernel, library_output, smoothed_cross_entropy
from s2scli.model.packed import filled
from s2scli.model.rnn import LSTMKernel, RNNLayer


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The loss of a batch, summed over its target tokens, in nats.

    Attributes:
        smoothed: With label smoothing; what is minimised.
        plain: Without.
    """

    smoothed: Tensor
    plain: Tensor


@dataclass(frozen=True, kw_only=True)
class SearchState:
    """What a search on the plain equations carries: other than in `StepperState`, k hypotheses a sentence.

    Attributes:
        memory: Of the B sentences.
        decoder: Of the B·beam hypotheses.
        beam: Hypotheses of each sentence.
    """

    memory: Memory
    decoder: DecoderState
    beam: int

    def select(self, sentences: Tensor, hypotheses: Tensor) -> SearchState:
        """Hypothesis j of sentence i goes on with ``hypotheses[i, j]`` of ``sentences[i]``."""
        rows = (sentences.unsqueeze(1) * self.beam + hypotheses).flatten()
        memory = self.memory
        if sentences.numel() != memory.mask.size(0):  # the order of sentences never changes, they only leave
            memory = memory.select(sentences)
        return SearchState(memory=memory, decoder=self.decoder.select(rows), beam=hypotheses.size(1))


class Seq2Seq(nn.Module):
    """Recurrent encoder-decoder with attention (Bahdanau et al. 2015; Luong et al. 2015)."""

    def __init__(self, config: ModelConfig, *, initialise: bool = True) -> None:
        """Build the model; without ``initialise`` its weights mean nothing until they are loaded."""
        super().__init__()
        self.config = config
        self.output_kernel: OutputKernel = library_output
        target = nn.Embedding(config.target_vocab, config.embedding, PAD)
        source = target
        if config.tie != "all":
            source = nn.Embedding(config.source_vocab, config.embedding, PAD)
        self.encoder = Encoder(config, source)
        self.decoder = Decoder(config, target)
        # s̃_t ∈ R^h always: where the output layer shares narrower embeddings, a projection stands between.
        tied = config.tie != "none"
        self.narrow = (
            Linear(config.hidden, config.embedding) if tied and config.hidden != config.embedding else None
        )
        self.output = nn.Linear(config.embedding if tied else config.hidden, config.target_vocab)
        if tied:
            self.output.weight = target.weight
        if initialise:
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw first weights: RNN layers as they say themselves, embeddings with variance 1/e.

        So a tied output layer, too, starts at unit scale. Linear layers have those that torch draws.
        """
        for module in self.modules():
            if isinstance(module, RNNLayer):
                module.reset_parameters()
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
                nn.init.zeros_(module.weight.data[PAD])
                # Symbols that training never shows: at first no input at all, rather than a random one.
                # Where they are tied, the output layer moves them like all others.
                nn.init.zeros_(module.weight.data[UNK])

    def compute_with(self, lstm: LSTMKernel, linear: LinearKernel, output: OutputKernel) -> None:
        """Let whole sequences be read, layers be computed, and losses, by other kernels than torch's."""
        self.output_kernel = output
        for module in self.modules():
            if isinstance(module, RNNLayer):
                module.lstm = lstm
            if isinstance(module, Linear):
                module.kernel = linear

    def _embed(self, ids: Tensor, embedding: nn.Embedding) -> Tensor:
        """Embeddings (…, e) of ids, in the working precision, whole words dropped in training."""
        embedded = nn.functional.embedding(ids, embedding.weight, PAD, sparse=embedding.sparse)
        embedded = embedded.to(self.decoder.combine.weight.dtype)
        if self.training and self.config.word_dropout:
            keep = torch.ones_like(embedded[..., :1])
            embedded = embedded * nn.functional.dropout(keep, self.config.word_dropout)
        return embedded

    def encode(self, source: Tensor, lengths: Tensor) -> Encoded:
        """Read the source ids (B, S) of ``lengths`` (B,)."""
        # Time first in memory, as the RNN's kernels read it.
        embedded = self._embed(source.t(), self.encoder.embedding).transpose(0, 1)
        encoded: Encoded = self.encoder(embedded, lengths)
        return encoded

    def _narrow(self, vectors: Tensor) -> Tensor:
        return vectors if self.narrow is None else self.narrow(vectors)

    def vectors(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Teacher forcing: s̃ (B, T, h) and α (B, T, S) for every target position."""
        encoded = self.encode(batch.source, batch.source_lengths)
        embedded = self._embed(batch.previous.t(), self.decoder.embedding).transpose(0, 1)
        vectors, weights = self.decoder(embedded, self.decoder.memory(encoded), self.decoder.start(encoded))
        return vectors, weights

    def forward(self, batch: Batch, smoothing: float = 0.0) -> Loss:
        """The loss of the batch's target tokens, padding left out."""
        vectors, _ = self.vectors(batch)
        # Filled up with rows that do not count: their number is one that kernels are prepared for already.
        useful = vectors.flatten(0, 1).index_select(0, batch.positions)
        useful = self._narrow(filled(self.decoder.dropout(useful.unsqueeze(1)).squeeze(1)))
        target = batch.target.flatten().index_select(0, batch.positions)
        smoothed, plain = smoothed_cross_entropy(
            useful, self.output.weight, self.output.bias, target, smoothing, self.output_kernel
        )
        return Loss(smoothed=smoothed, plain=plain)

    def log_probabilities(self, vectors: Tensor) -> Tensor:
        """log p(y | s̃) for s̃ (…, h), as (…, V) in fp32."""
        return torch.log_softmax(self.output(self._narrow(vectors)), dim=-1, dtype=torch.float32)

    def start(self, source: Tensor, lengths: Tensor) -> SearchState:
        """The state of one empty hypothesis for each of B sentences."""
        encoded = self.encode(source, lengths)
        return SearchState(memory=self.decoder.memory(encoded), decoder=self.decoder.start(encoded), beam=1)

    def step(self, tokens: Tensor, state: SearchState) -> tuple[Tensor, Tensor | None, SearchState]:
        """Append ``tokens`` (B, beam) to the hypotheses.

        Returns:
            Log-probabilities of the next token (B, beam, V), attention weights (B, beam, S) or
            None, and the next state.
        """
        embedded = self._embed(tokens.flatten(), self.decoder.embedding)
        vectors, weights, following = self.decoder.step(embedded, state.memory, state.decoder, state.beam)
        return (
            self.log_probabilities(vectors),
            weights,
            SearchState(memory=state.memory, decoder=following, beam=state.beam),
        )

    def cast_weights(self) -> Iterator[tuple[str, Tensor]]:
        """The weights that a training step computes with in its working precision, for each module.

        Relative positions and the output's bias, which go to sums in fp32, are not among them.
        """
        for prefix, module in self.named_modules():
            for name, parameter in module.named_parameters(prefix, recurse=False):
                if name != "output.bias" and not isinstance(module, RelativePositions):
                    yield name, parameter

    def step_weights(
        self, dtype: torch.dtype, copies: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The weights that one training step computes with.

        They are those of ``cast_weights``, cast once a step instead of at each use, with some recurrent
        weights dropped (Merity et al. 2018, section 2). Without copies, embeddings are cast as rows that
        were looked up, and by the output layer that shares them: so their gradients add up in fp32.

        Args:
            dtype: The working precision.
            copies: Weights that are at hand in it already; these get the gradient, in the working precision.
        """
        rate = self.config.recurrent_dropout if self.training else 0.0
        embeddings = self.encoder.embedding.weight, self.decoder.embedding.weight
        weights: dict[str, Tensor] = {}
        for name, parameter in self.cast_weights():
            if rate and name.endswith("weight_hh"):
                weights[name] = nn.functional.dropout(parameter, rate).to(dtype)
            elif copies and name in copies:
                weights[name] = copies[name]
            elif all(parameter is not embedding for embedding in embeddings):
                weights[name] = parameter.to(dtype)
        return weights
