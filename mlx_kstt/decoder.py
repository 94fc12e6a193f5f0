"""The text decoder: codes and the text so far to the next text id, and to how likely the speaker is pausing.

In: text ids (B, T) and codes (B, T, codebooks) of consecutive positions. Out: hidden states, and from them logits and
pause probabilities. Knows nothing of sound, sampling or words.

Position 0 takes the start ids; position p takes the text id of position p-1 and the codes of frame p-1 (facts sheet
5.2). Source: facts sheet 2; Zeghidour et al., "Streaming Sequence-to-Sequence Learning with Delayed Streams
Modeling", 2025.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from .config import DecoderConfig, TransformerConfig
from .layers import Transformer, TransformerState, silu


class GatedFeedForward(nn.Module):
    """down(silu(gate(x)) * up(x)); the gate's rows come first: (B, T, dim) -> (B, T, dim)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.dim, 2 * config.ffn, bias=False)
        self.down = nn.Linear(config.ffn, config.dim, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        gate, up = mx.split(self.gate_up(x), 2, axis=-1)
        return self.down(silu(gate) * up)


class Decoder(nn.Module):
    """Text and codes to hidden states: (B, T) and (B, T, codebooks) -> (B, T, dim).

    One table embeds all ids: first the text ids with the start id, then each codebook's ids with its start id.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        inner = config.transformer
        rows = config.vocabulary + 1 + config.codebooks * (config.codebook_size + 1)
        self.embedding = nn.Embedding(rows, inner.dim)
        self.transformer = Transformer(
            inner, lambda: nn.RMSNorm(inner.dim, eps=inner.norm_eps), lambda: GatedFeedForward(inner)
        )
        self.norm = nn.RMSNorm(inner.dim, eps=inner.norm_eps)
        self.head = nn.Linear(inner.dim, config.vocabulary, bias=False)
        if config.pause_heads:
            self.pause_heads = nn.Linear(inner.dim, config.pause_heads * config.pause_classes, bias=False)
        self._config = config
        first, rows = config.vocabulary + 1, config.codebook_size + 1
        self._first_rows = mx.array([first + k * rows for k in range(config.codebooks)])

    def init_state(self, batch: int, max_block: int) -> TransformerState:
        """A state for blocks of up to `max_block` positions."""
        return self.transformer.init_state(batch, max_block, self.norm.weight.dtype)

    def start_ids(self, batch: int) -> tuple[mx.array, mx.array]:
        """Text (B, 1) and codes (B, 1, codebooks) of position 0."""
        text = mx.full((batch, 1), self._config.vocabulary, mx.int32)
        return text, mx.full((batch, 1, self._config.codebooks), self._config.codebook_size, mx.int32)

    def step(self, text: mx.array, codes: mx.array, state: TransformerState) -> tuple[mx.array, TransformerState]:
        """Normalised hidden states of the next positions."""
        rows = mx.concatenate([text[..., None], codes + self._first_rows], axis=-1)
        x, state = self.transformer.step(self.embedding(rows).sum(axis=-2), state)
        return self.norm(x), state

    def logits(self, hidden: mx.array) -> mx.array:
        """(B, T, dim) -> (B, T, vocabulary) float32."""
        return self.head(hidden).astype(mx.float32)

    def pauses(self, hidden: mx.array) -> mx.array:
        """(B, T, dim) -> (B, T, pause_heads) float32: each head's probability of no speech within its horizon."""
        B, T, _ = hidden.shape
        if not self._config.pause_heads:
            return mx.zeros((B, T, 0))
        logits = self.pause_heads(hidden).reshape(B, T, self._config.pause_heads, self._config.pause_classes)
        return mx.softmax(logits.astype(mx.float32), axis=-1)[..., 0]

    def rebase(self, state: TransformerState) -> TransformerState:
        """See `Transformer.rebase`."""
        return self.transformer.rebase(state)
