"""Tokenizer cases over small vocabularies: texts of every script, control characters, marks, special tokens.

    python make_tokenize.py        needs transformers 4.50.3, torch, safetensors; without ftfy

Vocabularies: CLIP and T5 of pipeline_dev beside this file, and a WordPiece vocabulary built here. Texts are drawn from
a fixed seed and use only code points that have been assigned since Unicode 3.2, so that the Unicode version of whoever
runs this does not matter.
"""

import json
import pathlib
import random
import unicodedata

import torch
from safetensors.torch import save_file
from transformers import BertTokenizerFast, CLIPTokenizer, CLIPTokenizerFast, T5TokenizerFast

here = pathlib.Path(__file__).parent
draw = random.Random(7)

WORDS = "an unripe apple rusty iron nail candle flame without air melted ice cube green water glass clock Powerless PHOTO realistic".split()
SPECIALS = ["<|startoftext|>", "<|endoftext|>", "<|ENDOFTEXT|>", "<pad>", "</s>", "<unk>", "<extra_id_0>", "<extra_id_99>", "<extra_id_100>", "[CLS]", "[SEP]", "[MASK]", "[mask]", "＜/s＞"]
ODD = ["ΣΑΣ", "ΑΣ.", "ΑΣ'Α", "Σ\u0301Α", "İ", "ẞ", "ß", "ﬁ", "\u212a", "\u212b", "ſ", "'ſ", "½", "①", "™", "…", "▁", "▁▁", "ｶﾞ", "か\u3099", "ａ\u0301", "ａ\u0301\u0302", "e\u0301", "\u0345",
       "\u200d", "\u200b", "\ufeff", "\u00ad", "\ufe0f", "\u2028", "\u2029", "\x85", "\u3000", "\u00a0", "\r\n", "\n", "\t", "\ufffd", "\x00", "\x1f", "'s", "'RE", "'ll", "'d"]
RANGES = [(0x20, 0x7e), (0xa1, 0xff), (0x100, 0x233), (0x386, 0x4ff), (0x5d0, 0x64a), (0x905, 0x939), (0xe01, 0xe3a), (0x1100, 0x1159), (0x1e00, 0x1eff), (0x2010, 0x2044), (0x2153, 0x22ff),
          (0x3041, 0x30ff), (0x4e00, 0x9fa5), (0xac00, 0xd7a3), (0xff01, 0xffdc), (0x1d400, 0x1d433), (0x20000, 0x2a6d6)]


def character():
    while True:
        low, high = draw.choice(RANGES)
        c = chr(draw.randint(low, high))
        if unicodedata.ucd_3_2_0.category(c) != "Cn":
            return c


def text():
    makers = [lambda: draw.choice(WORDS), lambda: " ", lambda: " ", lambda: draw.choice(ODD), character, lambda: draw.choice(SPECIALS), lambda: str(draw.randint(0, 3000)), lambda: draw.choice(".,!?;:'-()")]
    weights = draw.choice([(4, 4, 0, 0, 0, 0, 1, 1), (2, 2, 1, 3, 3, 1, 1, 1)])
    return "".join(m() for m in draw.choices(makers, weights, k=draw.randint(0, 16)))


TEXTS = ["", " ", "an unripe apple", "An unripe apple's LED, it's 2024!!", "x" * 101, "flame " * 40, "果" * 30] + [text() for _ in range(80)]


def save(name, about, tokenizer, which, length, model):
    ids = tokenizer(TEXTS, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids.int()
    args = {"tokenizer": which, "class": type(tokenizer).__name__, "max_length": length, "padding": "max_length", "texts": TEXTS}
    (here / name).mkdir(exist_ok=True)
    case = {"kind": "tokenize", "about": about, "model": model, "args": args, "tolerance": {"*": 0}}
    (here / name / "case.json").write_text(json.dumps(case, indent=1) + "\n")
    save_file({"ids": ids}, str(here / name / "expected.safetensors"))


def word_pieces():
    letters = [chr(c) for c in range(0x21, 0x7f) if not chr(c).isupper()] + list("éσα果かｶ½")
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + letters + ["##" + c for c in letters if c.isalnum()] + [w.lower() for w in WORDS if len(w) > 1] + ["##ripe", "##less", "##ed"]


bert = here / "tokenize_small_bert" / "model"
bert.mkdir(parents=True, exist_ok=True)
(bert / "vocab.txt").write_text("".join(w + "\n" for w in word_pieces()))
(bert / "tokenizer_config.json").write_text('{"do_lower_case": true, "model_max_length": 512, "tokenizer_class": "BertTokenizer"}\n')
save("tokenize_small_bert", "WordPiece over a built vocabulary", BertTokenizerFast.from_pretrained(bert), "bert", 40, "model")
clip = here / "pipeline_dev" / "tokenizer"
save("tokenize_small_clip", "the slow CLIP class over a small vocabulary, without ftfy", CLIPTokenizer.from_pretrained(clip), "clip", 77, "../pipeline_dev/tokenizer")
save("tokenize_small_clip_fast", "the fast CLIP class over the same vocabulary", CLIPTokenizerFast.from_pretrained(clip), "clip", 50, "../pipeline_dev/tokenizer")
save("tokenize_small_t5", "a small unigram vocabulary from tokenizer.json", T5TokenizerFast.from_pretrained(here / "pipeline_dev" / "tokenizer_2"), "t5", 48, "../pipeline_dev/tokenizer_2")
