"""Writes the parquet files of this folder with pyarrow and Pillow: one small table in the encodings that Science-T2I files may have."""
import io
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def picture(w, h, form="PNG"):
    b = io.BytesIO()
    Image.new("RGB", (w, h), (10 * w % 255, 20 * h % 255, 77)).save(b, form)
    return b.getvalue()


def prompts(kind, lists):
    def one(i):
        if i == 2 and kind == "e":
            return None
        return [f"{kind} prompt {i} wording {j}" if (i + j) % 5 else None for j in range(i % 3)] if lists else f"{kind} prompt {i}"
    return [one(i) for i in range(7)]


def table(lists, large):
    string = pa.large_string() if large else pa.string()
    prompt = pa.list_(string) if lists else string
    image = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    images = [[{"bytes": picture(3, 4), "path": "a.png"}], [], None, [None, {"bytes": picture(5, 2, "JPEG"), "path": None}], [{"bytes": None, "path": "b.png"}],
              [{"bytes": picture(i + 1, 1), "path": "x"} for i in range(4)], [{"bytes": b"not a picture", "path": "c.png"}]]
    return pa.table({
        "implicit_prompt": pa.array(prompts("i", lists), prompt), "explicit_prompt": pa.array(prompts("e", lists), prompt), "superficial_prompt": pa.array(prompts("s", lists), prompt),
        "explicit_image": pa.array(images, image), "superficial_image": pa.array(images[::-1], image),
        "category": pa.array(["physics", None, "biology", "physics", "chemistry", "biology", "physics"]), "law": pa.array(["gravity"] * 3 + ["rust"] * 4),
        "pose": pa.array([1, 2, None, 4, 5, 6, 7], pa.int64()), "box": pa.array([[.1, .2], None, [], [.5], [1.0], [0.0], [2.5]], pa.list_(pa.float32())), "flag": pa.array([True] * 7)})


FORMS = {
    "snappy_v1": dict(compression="snappy"), "gzip_v2": dict(compression="gzip", data_page_version="2.0"), "zstd_item": dict(compression="zstd", use_compliant_nested_type=False),
    "none_plain": dict(compression="none", use_dictionary=False), "gzip_small_pages": dict(compression="gzip", data_page_size=16, write_batch_size=1),
    "snappy_v2_groups": dict(compression="snappy", data_page_version="2.0", row_group_size=2),
    "zstd_v2_plain": dict(compression="zstd", use_dictionary=False, data_page_version="2.0", store_schema=False), "brotli": dict(compression="brotli"), "lz4": dict(compression="lz4"),
}
for name, form in FORMS.items():
    for lists in (False, True):
        pq.write_table(table(lists, name == "none_plain"), f"{name}_{'lists' if lists else 'strings'}-00000-of-00001.parquet", **form)

# own/ holds what people's own files look like: other shapes of the picture columns, and LZ4 pages that shrink little, of
# which readers have made empty strings.
import os
import random
os.makedirs("own", exist_ok=True)
struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
sized = pa.struct([("width", pa.int32()), ("bytes", pa.binary()), ("path", pa.string())])
cell = {"bytes": picture(6, 4), "path": "a.png"}
draw = random.Random(7)
laws = ["law " + "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=24)) for _ in range(60)]


def own(n, image, value, law="ripeness"):
    return pa.table({
        "implicit_prompt": ["an unripe apple"] * n, "explicit_prompt": ["a green apple"] * n, "superficial_prompt": ["a red apple"] * n,
        "explicit_image": pa.array([value] * n, image), "superficial_image": pa.array([value] * n, image),
        "law": laws[:n] if law is None else [law] * n})


pq.write_table(own(2, struct, cell), "own/single.parquet")
pq.write_table(own(2, pa.list_(sized), [{**cell, "width": 6}]), "own/fields.parquet")
pq.write_table(own(2, pa.list_(pa.binary()), [cell["bytes"]]), "own/binaries.parquet")
pq.write_table(own(2, pa.binary(), cell["bytes"]), "own/binary.parquet")
pq.write_table(own(2, pa.list_(struct), [cell] * 3), "own/dictionary.parquet")
pq.write_table(own(2, pa.list_(struct), [cell] * 3), "own/delta.parquet", use_dictionary=False, column_encoding={"explicit_image.list.element.bytes": "DELTA_BYTE_ARRAY"})
for version in ("1.0", "2.0"):
    pq.write_table(own(60, struct, cell, None), f"own/laws{version[0]}.parquet", compression="lz4", data_page_version=version)
pq.write_table(pa.table({"image": pa.array([cell, None], struct), "text": ["an apple", "a pear"]}), "own/captions.parquet")
