"""Small pictures of every kind that is read, each with what Pillow makes of it (NAME.expected.png, RGB).

    python make.py        needs Pillow (made with 11.1.0) and numpy
"""

import io
import pathlib
import struct
import zlib

import numpy as np
from PIL import ExifTags, Image, ImageOps

here = pathlib.Path(__file__).parent
rng = np.random.default_rng(5)


def samples(width, height, channels=3):
    """Waves, hard edges and a little noise."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [128 + 100 * np.sin(rng.uniform(0.02, 0.3) * x + rng.uniform(0.02, 0.3) * y + rng.uniform(0, 6)) for _ in range(channels)]
    image = np.stack(waves, -1)
    for _ in range(4):
        left, top = rng.integers(0, width), rng.integers(0, height)
        image[top:top + height // 3 + 1, left:left + width // 3 + 1] = rng.uniform(0, 255, channels)
    return np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)


def keep(name, data):
    (here / name).write_bytes(data)
    image = Image.open(io.BytesIO(data))
    image.load()
    if image.getexif().get(ExifTags.Base.Orientation) is not None:
        image = ImageOps.exif_transpose(image)
    Image.fromarray(np.asarray(image.convert("RGB"))).save(here / (name + ".expected.png"), optimize=True)


def encoded(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def turned(value):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    return exif


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width, height, depth, colour, bits, extra=()):
    rows = b"".join(b"\0" + rng.integers(0, 256, (width * bits + 7) // 8).astype(np.uint8).tobytes() for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    middle = b"".join(chunk(*e) for e in extra)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + middle + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


for width, height in [(33, 18), (5, 4), (1, 1)]:
    image = Image.fromarray(samples(width, height))
    for subsampling, name in enumerate(["444", "422", "420"]):
        keep(f"{name}_{width}x{height}.jpg", encoded(image, "JPEG", quality=92, subsampling=subsampling))
    keep(f"lossy_{width}x{height}.webp", encoded(image, "WEBP", quality=85))
keep("progressive.jpg", encoded(Image.fromarray(samples(30, 21)), "JPEG", quality=85, progressive=True))
keep("grey.jpg", encoded(Image.fromarray(samples(20, 11, 1)[..., 0]), "JPEG", quality=90))
inks = encoded(Image.fromarray(samples(19, 14, 4), "CMYK"), "JPEG", quality=95)
keep("cmyk.jpg", inks)
place = inks.index(b"Adobe") + 11
keep("ycck.jpg", inks[:place] + b"\2" + inks[place + 1:])  # the same data read with Adobe's colour transform
keep("restarts.jpg", encoded(Image.fromarray(samples(40, 33)), "JPEG", quality=90, restart_marker_blocks=2))
keep("lossless.webp", encoded(Image.fromarray(samples(13, 9)), "WEBP", lossless=True))
keep("alpha_lossy.webp", encoded(Image.fromarray(samples(21, 13, 4)), "WEBP", quality=90))
keep("alpha_lossless.webp", encoded(Image.fromarray(samples(13, 9, 4)), "WEBP", lossless=True, exact=True))
for value in range(1, 9):
    keep(f"turned_{value}.png", encoded(Image.fromarray(samples(5, 3)), "PNG", exif=turned(value)))
keep("turned_6.jpg", encoded(Image.fromarray(samples(24, 16)), "JPEG", quality=95, subsampling=0, exif=turned(6)))
keep("turned_5.webp", encoded(Image.fromarray(samples(9, 6)), "WEBP", lossless=True, exif=turned(5)))
keep("grey_16.png", encoded(Image.fromarray(rng.integers(0, 400, (4, 6)).astype(np.uint16)), "PNG"))
keep("rgb_16.png", raw_png(5, 4, 16, 2, 48))
keep("rgba_16.png", raw_png(5, 4, 16, 6, 64))
keep("rgb_16_clear.png", raw_png(5, 4, 16, 2, 48, [(b"tRNS", b"\0\1\0\2\0\3")]))
keep("grey_alpha_16.png", raw_png(5, 4, 16, 4, 32))
keep("grey_16_clear.png", raw_png(5, 4, 16, 0, 16, [(b"tRNS", b"\0\1")]))
keep("rgba.png", raw_png(5, 4, 8, 6, 32))
keep("grey_alpha.png", raw_png(5, 4, 8, 4, 16))
keep("rgb_clear.png", raw_png(5, 4, 8, 2, 24, [(b"tRNS", b"\0\1\0\2\0\3")]))
for depth in (1, 2, 4):
    keep(f"grey_{depth}.png", raw_png(9, 4, depth, 0, depth))
    palette = rng.integers(0, 256, 3 << depth).astype(np.uint8).tobytes()
    keep(f"palette_{depth}.png", raw_png(9, 4, depth, 3, depth, [(b"PLTE", palette), (b"tRNS", b"\x00\x80")]))
