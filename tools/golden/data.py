"""The small data set of the golden steps: pictures that no two channels, corners or turns of are alike, several wordings."""

import io
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

KINDS = "implicit", "explicit", "superficial"

# wordings of the three prompts, sizes of the right pictures (width, height, file format), object, law
TRAIN = [
    (["an unripe apple in a kitchen", "an apple that is not ripe on a very long wooden table beside the window of a kitchen"],
     ["a green apple in a kitchen"],
     ["a red apple in a kitchen"], [(61, 83, "PNG"), (90, 52, "PNG")], "apple", "ripeness"),
    (["a pine in autumn", "a tall pine tree late in autumn, seen from afar", "pine, autumn"],
     ["a pine with green needles", "a green pine in autumn"],
     ["a pine with orange leaves"], [(48, 48, "PNG")], "pine", "seasonal change"),
    (["a stone in a glass of water"], ["a stone on the ground of a glass of water", "water with a stone below"],
     ["a stone that swims on water"], [(40, 70, "JPEG"), (77, 50, "PNG")], "stone", "buoyancy"),
    (["burning copper", "copper in a flame", "copper salt over a burner"], ["a green flame"],
     ["a yellow flame"], [(130, 45, "PNG")], "flame", "flame reaction"),
    (["a banana a month later", "an old banana"], ["a brown banana", "a black banana with spots"],
     ["a yellow banana"], [(33, 37, "PNG"), (64, 49, "PNG")], "banana", "ripeness"),
    (["a cup in space"], ["a floating cup"], ["a cup on a table"], [(50, 60, "PNG")], "cup", "gravity"),  # beyond data.train_tuples
]
TEST = [
    (["a tomato before it is ripe", "an unripe tomato"], ["a green tomato"], ["a red tomato"], [], "tomato", "ripeness"),
    (["an unripe lemon"], ["a green lemon"], ["a yellow lemon"], [], "lemon", "ripeness"),
    (["a cork in a glass of water"], ["a cork that swims on water"], ["a cork on the ground of a glass"], [], "cork", "buoyancy"),
]
PROMPTS = [  # for data.prompts
    {"prompt": "a dandelion after it has bloomed", "object": "dandelion"},
    {"prompt": "a nail that lay in the rain for a whole long year beside an old garden shed", "object": "nail"},
    {"prompt": "an egg in very salty water", "object": "egg"},
]


def draw(number, width, height):
    """A smooth colour field with a block and a disc, without any symmetry."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    u, v = x / width, y / height
    phase = 0.7 * number
    field = np.stack([0.5 + 0.45 * np.sin(3 * u + phase), 0.5 + 0.4 * np.cos(2 * v + 1.7 * phase), 0.25 + 0.6 * u * v], -1)
    field[(u > 0.55) & (u < 0.8) & (v > 0.1) & (v < 0.35)] = (0.9, 0.15, 0.05)
    field[(u - 0.3) ** 2 + (v - 0.7) ** 2 < 0.03] = (0.05, 0.3, 0.85)
    return Image.fromarray((255 * field.clip(0, 1)).round().astype(np.uint8))


def encoded(image, kind):
    b = io.BytesIO()
    image.save(b, kind, **({"quality": 93, "subsampling": 0} if kind == "JPEG" else {"optimize": True}))
    return {"bytes": b.getvalue(), "path": None}


def table(split, tuples):
    rows, number = [], 0
    for i, t in enumerate(tuples):
        right = []
        for width, height, kind in t[3]:
            number += 1
            right.append(encoded(draw(number, width, height), kind))
        row = {"id": f"{split}-{i}", **{k + "_prompt": t[n] for n, k in enumerate(KINDS)}, "explicit_image": right, "superficial_image": [],
               "object": t[4], "law": t[5], "category": "physics"}
        rows.append(row)
    image = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    fields = [pa.field(n, pa.list_(pa.string()) if n.endswith("_prompt") else image if n.endswith("_image") else pa.string())
              for n in rows[0]]
    return pa.Table.from_pylist(rows, pa.schema(fields))


def write(folder):
    os.makedirs(folder, exist_ok=True)
    for split, tuples in (("train", TRAIN), ("test_S", TEST)):
        pq.write_table(table(split, tuples), os.path.join(folder, f"{split}-00000-of-00001.parquet"), compression="zstd")
    with open(os.path.join(folder, "prompts.json"), "w") as f:
        json.dump(PROMPTS, f, indent=1)


def read(folder, split, limit=0):
    """The rows as training sees them: from the files, not from the lists above."""
    rows = pq.read_table(os.path.join(folder, f"{split}-00000-of-00001.parquet")).to_pylist()
    out = [{**{k: r[k + "_prompt"] for k in KINDS}, "object": r["object"], "law": r["law"],
            "right": [Image.open(io.BytesIO(i["bytes"])).convert("RGB") for i in r["explicit_image"]]} for r in rows]
    return out[:limit] if limit else out


def spread(rows, n):
    """n rows evenly over the laws: one of each in turn, laws in the order of their first row."""
    laws = {}
    for r in rows:
        laws.setdefault(r["law"], []).append(r)
    turns = [group[k] for k in range(len(rows)) for group in laws.values() if k < len(group)]
    return turns[:n] if n else rows
