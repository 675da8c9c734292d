"""Ids of tokenizers that are not as transformers 4.50 saved them: those of transformers 5, and files with rules of their own.

    python make_rules.py rules5.json      needs transformers 5 (made with 5.24.0, tokenizers 0.23.3)
    python make_rules.py rules4.json      needs transformers 4.50.3 and sentencepiece

A case holds the tokenizer.json without vocabulary and character map, which the test takes from the folder `base`, the
tokenizer_config.json, texts and their ids. Ids of rules5 are those of the saved file itself (tokenizers), and where
transformers can open it those of its class.
"""

import json
import pathlib
import random
import shutil
import sys
import tempfile
import unicodedata

import transformers

here = pathlib.Path(__file__).parent
repo = here.parent.parent
draw = random.Random(11)

WORDS = "an unripe apple Rusty iron nail candle flame without air melted ICE cube green water glass clock realistic".split()
SPECIALS = ["<|startoftext|>", "<|endoftext|>", "<|ENDOFTEXT|>", "<pad>", "</s>", "<unk>", "<extra_id_0>", "<extra_id_99>", "＜/s＞", "<mark>", "<MARK>", "<word>"]
EMOJI = ["\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f3f3\ufe0f\u200d\U0001f308", "\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea", "❤️", "\u2728", "1\ufe0f\u20e3"]
ODD = ["ΣΑΣ", "ΑΣ.", "İ", "ẞ", "ﬁ", "\u212a", "½", "①", "™", "…", "▁", "▁▁", "ｶﾞ", "か\u3099", "ａ\u0301", "e\u0301", "\u0345", "\u200d", "\u200b", "\ufeff", "\u00ad", "\u2028", "\x85", "\u3000",
       "\u00a0", "\r\n", "\n", "\t", "\ufffd", "\x00", "\x07", "\x1f", "\x7f", "'s", "'RE", "'ll"]
CJK = ["果", "未成熟的苹果", "水素", "りんご", "사과", "中 文", "𠀀"]
RANGES = [(0x20, 0x7e), (0xa1, 0x233), (0x386, 0x4ff), (0x5d0, 0x64a), (0x905, 0x939), (0xe01, 0xe3a), (0x1e00, 0x1eff), (0x2010, 0x2044), (0x3041, 0x30ff), (0x4e00, 0x9fa5), (0xac00, 0xd7a3), (0xff01, 0xffdc)]


def character():
    while True:
        c = chr(draw.randint(*draw.choice(RANGES)))
        if unicodedata.ucd_3_2_0.category(c) != "Cn":
            return c


def text():
    pick = [lambda: draw.choice(WORDS), lambda: " ", lambda: draw.choice(ODD), character, lambda: draw.choice(SPECIALS), lambda: draw.choice(EMOJI), lambda: draw.choice(CJK), lambda: str(draw.randint(0, 3000)), lambda: draw.choice(".,!?;:'-_")]
    return "".join(m() for m in draw.choices(pick, (5, 6, 2, 1, 2, 1, 1, 1, 1), k=draw.randint(1, 14)))


TEXTS = ["", " ", "an unripe apple", "</s>apple", "apple</s> nail</s>", " <pad>  apple ", "a <mark> b", "a<mark>b", "x <word> y x<word> <word>y", "A <MARK> b", "x" * 60, "flame " * 30, "果" * 20] + CJK + EMOJI + [text() for _ in range(70)]


def without_model(file):
    """The rules of a tokenizer.json, which keeps no vocabulary and no character map."""
    slim = json.loads(json.dumps(file))
    slim["model"] = {k: v for k, v in slim["model"].items() if k not in ("vocab", "merges")}
    for step in [slim["normalizer"] or {}] + (slim["normalizer"] or {}).get("normalizers", []):
        if step.get("type") == "Precompiled":
            step["precompiled_charsmap"] = ""
    slim["added_tokens"] = [t for t in slim["added_tokens"] if not t["content"].startswith("<extra_id_")]
    return slim


def case(name, base, cls, file, config, ids):
    config = {k: v for k, v in config.items() if k not in ("added_tokens_decoder", "extra_special_tokens", "additional_special_tokens")}
    return {"name": name, "base": base, "class": cls, "rules": file and without_model(file), "config": config, "ids": ids}


def saved_by_5():
    """What transformers 5 saves, and what its own class makes of that."""
    from tokenizers import Tokenizer
    from transformers import CLIPTokenizer, T5Tokenizer
    for name, cls, base in (("clip", CLIPTokenizer, "testdata/golden/pipeline_dev/tokenizer"), ("t5", T5Tokenizer, "testdata/golden/pipeline_dev/tokenizer_2"),
                            ("t5 not legacy", T5Tokenizer, "testdata/golden/pipeline_dev/tokenizer_2")):
        with tempfile.TemporaryDirectory() as folder:
            cls.from_pretrained(repo / base, **({"legacy": False} if "legacy" in name else {})).save_pretrained(folder)
            file, config = (json.loads((pathlib.Path(folder) / f).read_text()) for f in ("tokenizer.json", "tokenizer_config.json"))
            again = cls.from_pretrained(folder)
            own = Tokenizer.from_file(folder + "/tokenizer.json")
            ids = [again(t).input_ids for t in TEXTS]
            assert ids == [own.encode(t).ids for t in TEXTS], name
            yield name, base, cls.__name__, file, config, ids


def other_rules(found):
    """Files with changed rules; the oracle is the file itself."""
    from tokenizers import Tokenizer
    mark = lambda id, content, **more: {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True, **more}
    first = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}
    changes = [
        ("t5", "prepended once", lambda f: f.update(pre_tokenizer=first)),
        ("t5", "prepended once after white space", lambda f: f.update(pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, first]})),
        ("t5", "never prepended, stripped, framed by pad", lambda f: f.update(
            pre_tokenizer={**first, "prepend_scheme": "never"}, normalizer={"type": "Sequence", "normalizers": [f["normalizer"], {"type": "Strip", "strip_left": True, "strip_right": True}, {"type": "Lowercase"}]},
            post_processor={"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<pad>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}], "pair": f["post_processor"]["pair"],
                            "special_tokens": {"<pad>": {"id": "<pad>", "ids": [0], "tokens": ["<pad>"]}, **f["post_processor"]["special_tokens"]}})),
        ("t5", "tokens of every kind", lambda f: f["added_tokens"].extend([mark(len(f["model"]["vocab"]), "<mark>", lstrip=True, rstrip=True), mark(len(f["model"]["vocab"]) + 1, "<word>", single_word=True), mark(len(f["model"]["vocab"]) + 2, "ice", normalized=True)])),
        ("clip", "tokens of every kind", lambda f: f["added_tokens"].extend([mark(len(f["model"]["vocab"]), "<mark>", lstrip=True, rstrip=True), mark(len(f["model"]["vocab"]) + 1, "<Word>", normalized=True, single_word=True)])),
        ("clip", "special tokens in the text as given", lambda f: [t.update(normalized=False) for t in f["added_tokens"]]),
        ("clip", "case kept, NFKC, template", lambda f: f.update(normalizer={"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Strip", "strip_left": True, "strip_right": False}]}, post_processor={
            "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "s", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"s": {"id": "s", "ids": [f["post_processor"]["cls"][1]], "tokens": ["s"]}}})),
    ]
    for base, name, change in changes:
        _, folder, cls, file, config, _ = found[base]
        file = json.loads(json.dumps(file))
        change(file)
        own = Tokenizer.from_str(json.dumps(file))
        yield base + ": " + name, folder, cls, file, config, [own.encode(t).ids for t in TEXTS]


def spiece():
    """A spiece.model that transformers 4.50 converts, by the settings of its config."""
    from transformers import T5TokenizerFast
    base = "models/world/tokenizer_2"
    for settings in ({"legacy": False, "add_prefix_space": True}, {"legacy": True, "add_prefix_space": True}, {"legacy": False, "add_prefix_space": False}):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(repo / base / "spiece.model", folder)
            config = {"extra_ids": 100, "tokenizer_class": "T5Tokenizer", **settings}
            (pathlib.Path(folder) / "tokenizer_config.json").write_text(json.dumps(config))
            again = T5TokenizerFast.from_pretrained(folder)
            yield str(settings), base, "T5TokenizerFast", None, config, [again(t).input_ids for t in TEXTS]


if transformers.__version__.startswith("5."):
    saved = list(saved_by_5())
    cases = saved + list(other_rules({s[0]: s for s in saved}))
else:
    cases = list(spiece())
pathlib.Path(sys.argv[1]).write_text(json.dumps({"transformers": transformers.__version__, "texts": TEXTS, "cases": [case(*c) for c in cases]}, ensure_ascii=True) + "\n")
