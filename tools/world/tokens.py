"""Trains the two tokenizers on the world's captions and writes them in the files of CLIP and T5."""
import json
import os
from collections import Counter

import sentencepiece
from transformers import CLIPTokenizer, T5TokenizerFast
from transformers.models.clip.tokenization_clip import bytes_to_unicode

START, END = "<|startoftext|>", "<|endoftext|>"
TEXT_LENGTH = 16  # T5 tokens of a prompt, end and padding included


def bpe_merges(words):
    """Byte-pair merges, most frequent pair first (ties by spelling), until every word is one token."""
    spelled = {w: tuple(w[:-1]) + (w[-1] + "</w>",) for w in words}
    merges = []
    while True:
        pairs = Counter(p for s in spelled.values() for p in zip(s, s[1:]))
        if not pairs:
            return merges
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        spelled = {w: merge(s, best) for w, s in spelled.items()}


def merge(symbols, pair):
    out, i = [], 0
    while i < len(symbols):
        if symbols[i:i + 2] == pair:
            out.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return tuple(out)


def clip(captions, folder):
    """vocab.json and merges.txt in CLIP's order: 256 byte symbols, the same with </w>, merges, start, end."""
    os.makedirs(folder, exist_ok=True)
    merges = bpe_merges(sorted({w for c in captions for w in c.lower().split()}))
    symbols = list(bytes_to_unicode().values())
    vocab = symbols + [s + "</w>" for s in symbols] + ["".join(m) for m in merges] + [START, END]
    assert len(set(vocab)) == len(vocab)
    raw = os.path.join(folder, "vocab.json"), os.path.join(folder, "merges.txt")
    with open(raw[0], "w") as f:
        json.dump({v: i for i, v in enumerate(vocab)}, f, ensure_ascii=False)
    with open(raw[1], "w") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    tokenizer = CLIPTokenizer(*raw, model_max_length=77, pad_token=END)
    tokenizer.save_pretrained(folder)
    return tokenizer


def t5(captions, folder):
    """A SentencePiece unigram model with T5's special tokens (0 pad, 1 end, 2 unknown) and 100 extra ids."""
    os.makedirs(folder, exist_ok=True)
    printable = "".join(chr(c) for c in range(33, 127))
    words = sorted({w for c in captions for w in c.split()})
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(captions + [f"{w} {w}" for w in words] * 20), model_prefix=os.path.join(folder, "spiece"), model_type="unigram",
        vocab_size=900, hard_vocab_limit=False, character_coverage=1.0, required_chars=printable,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, pad_piece="<pad>", num_threads=1, minloglevel=2)
    os.remove(os.path.join(folder, "spiece.vocab"))
    tokenizer = T5TokenizerFast(os.path.join(folder, "spiece.model"), extra_ids=100, legacy=True, add_prefix_space=True, model_max_length=TEXT_LENGTH)
    tokenizer.save_pretrained(folder)
    return tokenizer


def report(name, tokenizer, captions):
    lengths = [len(tokenizer(c).input_ids) for c in captions]
    words = sorted({w for c in captions for w in c.split()})
    extra = len(tokenizer("").input_ids)
    split = [w for w in words if len(tokenizer(w).input_ids) > extra + 1]
    print(f"{name}: vocabulary {len(tokenizer)}, longest caption {max(lengths)} tokens, {len(split)} of {len(words)} words need more than one token {split[:12]}", flush=True)
    return max(lengths)


def main(splits, out):
    from data import captions as texts
    captions = texts(*splits)
    report("CLIP", clip(captions, os.path.join(out, "tokenizer")), captions)
    longest = report("T5", t5(captions, os.path.join(out, "tokenizer_2")), captions)
    assert longest <= TEXT_LENGTH, "a caption does not fit: raise TEXT_LENGTH"
