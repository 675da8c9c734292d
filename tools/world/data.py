"""Reads the world's parquet files: pictures, prompts of the three kinds, and what each row is about."""
import glob
import io
import os
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

KINDS = ("ip", "ep", "sp")
COLUMNS = {"ip": "implicit_prompt", "ep": "explicit_prompt", "sp": "superficial_prompt"}


@dataclass
class Split:
    """rows[i] holds task, subject, scene, box (cx, cy, w, h in 0..1) and the wordings rows[i]["ip"|"ep"|"sp"];
    right[i] and wrong[i] are its pictures, uint8 [64,64,3]."""
    rows: list
    right: np.ndarray
    wrong: np.ndarray

    def __len__(self):
        return len(self.rows)

    def take(self, index):
        return Split([self.rows[i] for i in index], self.right[index], self.wrong[index])


def picture(cell):
    return np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB"))


def load(folder, split):
    """All shards of one split. Test splits have one wording of each kind (a string), the others a list."""
    files = sorted(glob.glob(os.path.join(folder, f"{split}-*.parquet")))
    if not files:
        raise SystemExit(f"no {split}-*.parquet in {folder}; draw them with: sciflux data world --out {folder}")
    rows, right, wrong = [], [], []
    for file in files:
        for r in pq.read_table(file).to_pylist():
            row = {k: r[k] for k in ("task", "subject", "scene", "box")}
            row.update({k: [r[c]] if isinstance(r[c], str) else r[c] for k, c in COLUMNS.items()})
            rows.append(row)
            right.append(picture(r["explicit_image"][0]))
            wrong.append(picture(r["superficial_image"][0]))
    return Split(rows, np.stack(right), np.stack(wrong))


def captions(*splits):
    """Every wording of the splits once, sorted."""
    return sorted({p for s in splits for r in s.rows for k in KINDS for p in r[k]})
