"""A lexical shortlist: only target tokens that are likely for some source token may be emitted.

Jean et al. (2015); L'Hostis et al. (2016). The output layer then has hundreds of
columns for a sentence; for a batch, what any of its sentences may use.
"""

from __future__ import annotations

import torch
from torch import Tensor

from s2scli.config import BOS, EOS, PAD, UNK


class Shortlist:
    """Which target tokens a sentence may use.

    Args:
        lexicon: (source vocabulary, K) likely target tokens of each source token, the likeliest first.
        frequent: (F,) target tokens that every sentence may use.
        target_vocab: Size of the target vocabulary.
    """

    def __init__(self, lexicon: Tensor, frequent: Tensor, target_vocab: int) -> None:
        self.lexicon = lexicon
        # The special tokens keep their numbers, as search knows them.
        special = torch.tensor([PAD, UNK, BOS, EOS], device=lexicon.device)
        self.always = torch.zeros(target_vocab, dtype=torch.bool, device=lexicon.device)
        self.always[frequent] = True
        self.always[special] = True

    def of(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """For source ids (B, S), the tokens (C,) of all sentences together and those of each, (B, C)."""
        marked = self.always.repeat(source.size(0), 1)
        marked.scatter_(1, self.lexicon[source].flatten(1), True)
        chosen = marked.any(dim=0).nonzero().squeeze(1)
        return chosen, marked[:, chosen]
