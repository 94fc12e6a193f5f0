"""transformers as the judge: codes, logits and greedy text ids of a -trfs folder.

In: a folder, audio or codes as NumPy. Out: NumPy. Needs torch and transformers (the `oracle` extra); knows nothing of
mlx_kstt.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import DynamicCache, KyutaiSpeechToTextForConditionalGeneration

FRAME_SAMPLES = 1920


class Reference:
    """A checkpoint as transformers runs it, in float32 on the CPU.

    Args:
        folder: of the -trfs layout, its codec without or with the decoder half.

    Raises:
        ValueError: tensors of the encoder or the decoder are missing, left over or misshapen.
    """

    def __init__(self, folder: Path) -> None:
        transformers.utils.logging.disable_progress_bar()
        torch.set_grad_enabled(False)
        torch.set_num_threads(1)  # small matrices: on a busy machine two threads wait for each other ten times as long
        loaded: Any = KyutaiSpeechToTextForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True
        )
        self.model, report = loaded
        wrong = {*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]}
        if wrong := {key for key in wrong if not key.startswith("codec_model.decoder.")}:
            raise ValueError(f"transformers does not load {sorted(wrong)} of {folder}")
        self.model.eval()
        # With the hub's value, 1, generate() encodes the first frame twice and so hears everything a frame late.
        self.model.generation_config.audio_window_size = None
        self.start = self.model.config.vocab_size - 1
        self.context = self.model.config.sliding_window

    def codes(self, pcm: np.ndarray) -> np.ndarray:
        """Codes (frames, codebooks) of whole frames (frames * 1920,), encoded at once."""
        return self.model.codec_model.encode(_batched(pcm)).audio_codes[0].T.numpy()

    def streamed_codes(self, pcm: np.ndarray) -> np.ndarray:
        """The same, encoded frame by frame."""
        codec = self.model.codec_model
        past, padding, frames = DynamicCache(config=codec.config), None, []
        for start in range(0, len(pcm), FRAME_SAMPLES):
            frame = _batched(pcm[start : start + FRAME_SAMPLES])
            said = codec.encode(frame, encoder_past_key_values=past, padding_cache=padding, use_streaming=True)
            past, padding = said.encoder_past_key_values, said.padding_cache
            frames.append(said.audio_codes[0].T.numpy())
        return np.concatenate(frames)

    def hidden(self, codes: np.ndarray, text: np.ndarray, visible: np.ndarray | None = None) -> torch.Tensor:
        """Normalised hidden states (frames + 1, dim), teacher-forced with text_0 .. text_{frames-1}.

        Without a mask of its own, one pass of transformers would see all of the past, unlike its generate().
        """
        ids = np.full((len(codes) + 1, codes.shape[1] + 1), self.model.config.audio_bos_token_id)
        ids[0, 0], ids[1:, 0], ids[1:, 1:] = self.start, text, codes
        mask = additive(window(len(ids), self.context) if visible is None else visible)
        said = self.model.model(torch.from_numpy(ids)[None], attention_mask=mask, use_cache=False)
        return said.last_hidden_state[0]

    def logits(self, codes: np.ndarray, text: np.ndarray, visible: np.ndarray | None = None) -> np.ndarray:
        """Teacher-forced logits (frames + 1, text vocabulary); the row of the start id is left out."""
        return self.model.lm_head(self.hidden(codes, text, visible)).numpy()[:, : self.start]

    def generate(self, pcm: np.ndarray) -> np.ndarray:
        """Greedy ids text_0 .. text_{frames-1}, as transformers' own generate() gives them."""
        return self.model.generate(input_values=_batched(pcm))[0, 1:].numpy()

    def tokens(self, pcm: np.ndarray) -> np.ndarray:
        """Greedy ids text_0 .. text_frames (frames + 1,): those of generate() and the one it stops before.

        Raises:
            ValueError: generate() chose the start id, or an id that is not the likeliest by `logits`.
        """
        said = self.generate(pcm)
        likeliest = self.logits(self.codes(pcm), said).argmax(axis=1)
        if not np.array_equal(likeliest[:-1], said):
            raise ValueError("transformers' generate() and its teacher-forced pass disagree")
        return likeliest


def window(positions: int, context: int) -> np.ndarray:
    """Who sees whom (positions, positions): each the last `context`, itself included."""
    distance = np.arange(positions)[:, None] - np.arange(positions)
    return (distance >= 0) & (distance < context)


def additive(visible: np.ndarray) -> torch.Tensor:
    """A mask for transformers (1, 1, positions, positions): 0 where visible, else minus infinity."""
    return torch.where(torch.from_numpy(visible), 0.0, float("-inf"))[None, None]


def _batched(pcm: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pcm)[None, None]
