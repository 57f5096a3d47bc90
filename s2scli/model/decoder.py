"""The decoder: writes one token after another while it attends to the source.

    4. concatenate [a_t; s_t] ∈ R^2h
    5. s̃_t = tanh(W [a_t; s_t] + b) ∈ R^h
    6. y_t comes from s̃_t; y_t and the hidden state go into the next step, which does 1-5 again.

Step 6 is read in three ways (``feed``): with ``none`` s̃_t only predicts, and as the RNN then
does not depend on the attention, the whole target goes through in one fused call; with
``input`` s̃_{t-1} stands beside the embedding of y_{t-1} (Luong et al. 2015, section 3.3);
with ``state`` s̃_t replaces the hidden state of the top layer (the lecture's step 6, literally).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from s2scli.config import ModelConfig
from s2scli.model.attention import AttentionLayer, Memory
from s2scli.model.encoder import Encoded
from s2scli.model.linear import Linear
from s2scli.model.rnn import RNN, Dropout, RNNState


@dataclass(frozen=True, kw_only=True)
class DecoderState:
    """All that a decoder carries from one step to the next, for N rows.

    Attributes:
        rnn: The layers' states.
        attentional: s̃_{t-1} (N, h) when it is fed to the next step, else None.
        steps: How many were made, the same for all rows.
    """

    rnn: RNNState
    attentional: Tensor | None
    steps: int = 0

    def select(self, rows: Tensor) -> DecoderState:
        """The state whose row i is row ``rows[i]`` of this one."""
        fed = None if self.attentional is None else self.attentional.index_select(0, rows)
        return replace(self, rnn=self.rnn.select(rows), attentional=fed)


class Bridge(nn.Module):
    """From the encoder's last state to the decoder's first.

    ``last`` hands the state itself to every layer, ``linear`` a learnt projection of it
    (tanh(W h_T + b), after Bahdanau et al. 2015, appendix A.2.2, who take the backward half alone and no b),
    ``zero`` nothing. An LSTM's
    cell starts from the same vector as its hidden state: the one context vector is all
    that passes.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        size = config.hidden * config.decoder_layers
        self.project = Linear(config.hidden, size) if config.bridge == "linear" else None

    def forward(self, last: Tensor) -> RNNState:
        """The first decoder state, from the encoder's last state (B, h)."""
        layers = self.config.decoder_layers
        if self.project is not None:
            start = torch.tanh(self.project(last)).view(last.size(0), layers, -1).transpose(0, 1).contiguous()
        else:
            start = last.expand(layers, -1, -1).contiguous()
            if self.config.bridge == "zero":
                start = torch.zeros_like(start)
        return RNNState(hidden=start, cell=start if self.config.cell == "lstm" else None)


class Decoder(nn.Module):
    """RNN, attention and attentional vector, for a whole target at once or step by step."""

    def __init__(self, config: ModelConfig, embedding: nn.Embedding) -> None:
        super().__init__()
        self.config = config
        self.embedding = embedding
        self.dropout = Dropout(config.dropout, over_time=config.dropout_over_time)
        fed = config.hidden if config.feed == "input" else 0
        self.rnn = RNN(
            config.cell,
            config.embedding + fed,
            config.hidden,
            config.decoder_layers,
            residual=config.residual,
            dropout=self.dropout,
        )
        self.bridge = Bridge(config)
        self.attention: AttentionLayer | None = None
        if config.attention != "none":
            self.attention = AttentionLayer(
                config.attention, config.hidden, config.values, config.relative_positions
            )
        self.combine = Linear(config.hidden * (1 if self.attention is None else 2), config.hidden)

    def memory(self, encoded: Encoded) -> Memory:
        """What the steps attend to; without attention, nothing of it is ever read."""
        if self.attention is None:
            return Memory(keys=encoded.outputs, values=encoded.outputs, mask=encoded.mask)
        return self.attention.memory(encoded.outputs, encoded.mask)

    def start(self, encoded: Encoded) -> DecoderState:
        """The state before the first step; s̃_0 = 0."""
        state = self.bridge(encoded.last)
        fed = torch.zeros_like(encoded.last) if self.config.feed == "input" else None
        return DecoderState(rnn=state, attentional=fed)

    def attend(self, states: Tensor, memory: Memory, steps: range) -> tuple[Tensor, Tensor | None]:
        """Equations 1-5: decoder states s (B, Q, h) to s̃ (B, Q, h) and the weights α (B, Q, S).

        Args:
            states: s_t for each query.
            memory: Of the B sentences.
            steps: t - 1 for each query; a single one if all are of the same step.
        """
        if self.attention is None:
            return torch.tanh(self.combine(states)), None
        value, weights = self.attention(states, memory, steps)
        return torch.tanh(self.combine(torch.cat([value, states], dim=-1))), weights

    def forward(self, embedded: Tensor, memory: Memory, state: DecoderState) -> tuple[Tensor, Tensor | None]:
        """Teacher forcing: the embedded previous tokens (B, T, e) to s̃ (B, T, h) and α (B, T, S)."""
        x = self.dropout(embedded)
        if self.config.feed == "none":
            return self.attend(self.dropout(self.rnn(x, state.rnn)), memory, range(x.size(1)))
        # What is fed back makes each step wait for the one before. The dropout masks are drawn
        # once, so that they too are the same at every step.
        like = state.rnn.hidden[0].unsqueeze(1)
        masks = [self.dropout.mask(like).squeeze(1) for _ in range(self.config.decoder_layers)]
        fed_mask = self.dropout.mask(like).squeeze(1)
        vectors, weights = [], []
        for t in range(x.size(1)):
            vector, weight, state = self._advance(x[:, t], memory, state, 1, masks, fed_mask)
            vectors.append(vector)
            if weight is not None:
                weights.append(weight)
        return torch.cat(vectors, dim=1), torch.cat(weights, dim=1) if weights else None

    def step(
        self, embedded: Tensor, memory: Memory, state: DecoderState, beam: int
    ) -> tuple[Tensor, Tensor | None, DecoderState]:
        """One step of N = B·beam rows; row b·beam + k continues hypothesis k of sentence b.

        Args:
            embedded: (N, e), the previous tokens.
            memory: Of the B sentences: hypotheses of one sentence share it.

        Returns:
            s̃ (B, beam, h), α (B, beam, S) or None, and the next state.
        """
        return self._advance(embedded, memory, state, beam, None, None)

    def _advance(
        self,
        embedded: Tensor,
        memory: Memory,
        state: DecoderState,
        beam: int,
        masks: list[Tensor] | None,
        fed_mask: Tensor | None,
    ) -> tuple[Tensor, Tensor | None, DecoderState]:
        x = embedded
        if state.attentional is not None:
            fed = state.attentional if fed_mask is None else state.attentional * fed_mask
            x = torch.cat([x, fed], dim=-1)
        output, rnn = self.rnn.step(x, state.rnn, masks)
        query = output if masks is None else output * masks[-1]
        steps = range(state.steps, state.steps + 1)
        vector, weights = self.attend(query.view(-1, beam, query.size(-1)), memory, steps)
        flat = vector.flatten(0, 1)
        if self.config.feed == "state":
            rnn = rnn.with_top(flat)
        fed_on = flat if self.config.feed == "input" else None
        return vector, weights, DecoderState(rnn=rnn, attentional=fed_on, steps=state.steps + 1)
