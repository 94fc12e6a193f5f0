"""Tiny tokenizers for tests: a SentencePiece model and the `tokenizer.json` that says the same.

In: a vocabulary size and a kind ("unigram" or "bpe"). Out: files. As in Kyutai's tokenizers ids 0 to 3 are
<unk>, <s>, </s>, <pad>, the 256 bytes follow, then the pieces. Knows nothing of models.
"""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path

import sentencepiece
from hashed import uniform
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")
_SYLLABLES = ("ba", "do", "ki", "lu", "me", "no", "ra", "se", "ti", "vo", "stra", "pen", "gel", "on", "er", "ing")


def write_sentencepiece(path: Path, size: int, kind: str) -> None:
    """Write a SentencePiece model with exactly `size` pieces."""
    path.write_bytes(_trained(size, kind))


def write_tokenizer_json(path: Path, size: int, kind: str) -> None:
    """Write the same vocabulary as a `tokenizers` file, with the decoder chain of the -trfs checkpoints."""
    pieces = sentencepiece.SentencePieceProcessor(model_proto=_trained(size, kind))
    scored = [(pieces.id_to_piece(i), pieces.get_score(i)) for i in range(pieces.get_piece_size())]
    tokenizer = Tokenizer(_bpe(scored) if kind == "bpe" else models.Unigram(scored, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    chain = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(chain)
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(path))


@cache
def _trained(size: int, kind: str) -> bytes:
    """A SentencePiece model, trained on a made-up language."""
    model = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_sentences()),
        model_writer=model,
        vocab_size=size,
        model_type=kind,
        byte_fallback=True,
        num_threads=1,
        minloglevel=2,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=3,
    )
    return model.getvalue()


def _bpe(scored: list[tuple[str, float]]) -> models.BPE:
    """SentencePiece keeps pieces in the order of their merges: each piece is merged from every pair that spells it."""
    ids = {piece: i for i, (piece, _) in enumerate(scored)}
    pairs = [
        (ids[piece], ids[piece[:cut]], ids[piece[cut:]], piece[:cut], piece[cut:])
        for piece, _ in scored[len(SPECIAL) + 256 :]
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    ]
    merges = [(left, right) for *_, left, right in sorted(pairs)]
    return models.BPE(vocab=ids, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)


def _sentences() -> list[str]:
    picks = iter(uniform("vocabulary", (40_000,)).tolist())
    words = [
        "".join(_SYLLABLES[int(next(picks) ** 2 * 16)] for _ in range(1 + int(next(picks) * 3))) for _ in range(400)
    ]
    return [" ".join(words[int(next(picks) ** 2 * 400)] for _ in range(12)) + "." for _ in range(300)]
