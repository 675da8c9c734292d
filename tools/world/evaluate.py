"""Measures a finished pair of folders on the held-out test splits, through the libraries' own loaders."""
import numpy as np
import torch
from PIL import Image

import judge
import nets


def generate(pipe, split, kind, each, seed=99):
    """each pictures for every row, wordings in turn; -> pictures [rows*each], their row numbers and prompts."""
    index = [i for i in range(len(split)) for _ in range(each)]
    prompts = [split.rows[i][kind][k % len(split.rows[i][kind])] for k, i in enumerate(index)]
    return pipe.sample(prompts, torch.Generator().manual_seed(seed)), index, prompts


def rates(pipe, split, kinds=("ep", "sp", "ip"), each=1, scorer=None, seed=99):
    """By kind of prompt: share judged right and superficial, SciScore mean against the implicit prompt, share right by task;
    and the pictures of the first kind of prompt to look at."""
    out, pictures = {}, {}
    for kind in kinds:
        drawn, index, _ = generate(pipe, split, kind, each, seed)
        margin, verdict = judge.verdicts(split, index, drawn)
        tasks = np.array([split.rows[i]["task"] for i in index])
        out[kind] = {"right": round(float((verdict > 0).mean()), 3), "superficial": round(float((verdict < 0).mean()), 3),
                     "by": {str(t): round(float((verdict[tasks == t] > 0).mean()), 2) for t in sorted(set(tasks))}}
        if scorer:
            s = scorer.scores([split.rows[i]["ip"][0] for i in index], drawn)
            out[kind]["sciscore"] = round(float(s.mean()), 2)
            out[kind]["agree"] = round(agreement(s, margin), 3)
        pictures[kind] = drawn
    return out, pictures


def agreement(scores, margin):
    """Share of neighbouring pictures of one row (each = 2) that scorer and judge put in the same order, where the judge sees a difference."""
    ds, dm = scores[::2] - scores[1::2], margin[::2] - margin[1::2]
    clear = np.abs(dm) > 0.3
    return float((np.sign(ds) == np.sign(dm))[clear].mean()) if clear.any() else float("nan")


def grid(pictures, columns=16):
    """Rows of pictures in one image."""
    n = len(pictures) // columns * columns
    return Image.fromarray(np.concatenate([np.concatenate(list(pictures[i:i + columns]), 1) for i in range(0, n, columns)], 0))
