"""Small pictures of every kind that is read, each with what Pillow makes of it (NAME.expected.png, RGB).

    python make.py        needs Pillow (made with 11.1.0, from "orientation" on with 13.0.0) and numpy
"""

import io
import pathlib
import struct
import zlib

import numpy as np
from PIL import ExifTags, Image, ImageOps, PngImagePlugin

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


def keep(name, data, same=None):
    (here / name).write_bytes(data)
    image = Image.open(io.BytesIO(data if same is None else same))
    image.load()
    if image.getexif().get(ExifTags.Base.Orientation) is not None:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # Pillow clips to 255; training takes the high byte
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    Image.fromarray(np.asarray(image.convert("RGB"))).save(here / (name + ".expected.png"), optimize=True)


# same is a file of the same picture that Pillow reads, where it refuses data that libpng reads.


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

# orientation: in EXIF of other types, in XMP, in the text chunks of PNG
def ifd(order, kind, count, value, tail=b""):
    o = {"II": "<", "MM": ">"}[order]
    head = order.encode() + struct.pack(o + "HIH", 42, 8, 1) + struct.pack(o + "HHI", 0x112, kind, count)
    return b"Exif\0\0" + head + value.ljust(4, b"\0") + struct.pack(o + "I", 0) + tail


def xmp(text):
    return ('<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" ' + text + "</rdf:RDF></x:xmpmeta>")


def noted(key, text, packed=False, international=False):
    info = PngImagePlugin.PngInfo()
    (info.add_itxt if international else info.add_text)(key, text, zip=packed)
    return encoded(turning, "PNG", pnginfo=info)


def profile(name, data):
    digits = data.hex()
    return f"\n{name}\n{len(data):8}\n" + "\n".join(digits[k:k + 72] for k in range(0, len(digits), 72)) + "\n"


turning = Image.fromarray(samples(5, 3))
flat = dict(quality=95, subsampling=0)
for order, o in (("II", "<"), ("MM", ">")):
    for name, kind, value in (("byte", 1, b"\6"), ("ascii", 2, b"6\0"), ("long", 4, struct.pack(o + "I", 6)), ("sbyte", 6, b"\6"), ("undefined", 7, b"\6"),
                              ("sshort", 8, struct.pack(o + "h", 6)), ("slong", 9, struct.pack(o + "i", 6)), ("float", 11, struct.pack(o + "f", 6))):
        keep(f"exif_{name}_{order}.jpg", encoded(turning, "JPEG", exif=ifd(order, kind, 1, value), **flat))
    keep(f"exif_two_{order}.jpg", encoded(turning, "JPEG", exif=ifd(order, 3, 2, struct.pack(o + "HH", 6, 1)), **flat))
    keep(f"exif_rational_{order}.jpg", encoded(turning, "JPEG", exif=ifd(order, 5, 1, struct.pack(o + "I", 26), struct.pack(o + "II", 6, 1)), **flat))
attribute, element = xmp('tiff:Orientation="8"/>'), xmp("><tiff:Orientation>8</tiff:Orientation></rdf:Description>")
for name, text in (("attribute", attribute), ("element", element), ("quoted", xmp("tiff:Orientation='8'/>")), ("none", xmp('tiff:Make="x"/>'))):
    keep(f"xmp_{name}.jpg", encoded(turning, "JPEG", xmp=text.encode(), **flat))
    keep(f"xmp_{name}.webp", encoded(turning, "WEBP", xmp=text.encode(), lossless=True))
    keep(f"xmp_{name}.png", noted("XML:com.adobe.xmp", text, international=True))
keep("xmp_packed.png", noted("XML:com.adobe.xmp", attribute, True, True))
keep("xmp_behind_exif.jpg", encoded(turning, "JPEG", xmp=attribute.encode(), exif=ifd("II", 3, 1, b"\6"), **flat))
keep("xmp_behind_no_meaning.jpg", encoded(turning, "JPEG", xmp=attribute.encode(), exif=ifd("II", 3, 1, b"\0"), **flat))
keep("profile_exif.png", noted("Raw profile type exif", profile("exif", ifd("MM", 3, 1, b"\0\6")), True))
keep("profile_exif_plain.png", noted("Raw profile type exif", profile("exif", ifd("MM", 3, 1, b"\0\6"))))
upright = encoded(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(turning, "PNG", exif=turned(8))))), "PNG")
keep("profile_app1.png", noted("Raw profile type APP1", profile("APP1", ifd("II", 3, 1, b"\x08")), True), upright)
keep("profile_app1_xmp.png", noted("Raw profile type APP1", profile("APP1", b"http://ns.adobe.com/xap/1.0/\0" + attribute.encode())), upright)

# lenient: what libpng reads with a warning
mark, end = b"\x89PNG\r\n\x1a\n", chunk(b"IEND", b"")


def head(colour, depth=8, interlace=0):
    return chunk(b"IHDR", struct.pack(">IIBBBBB", 7, 5, depth, colour, 0, 0, interlace))


def broken(kind, data):
    return chunk(kind, data)[:-4] + b"\xde\xad\xbe\xef"


def pixels(data):
    return chunk(b"IDAT", data)


four = rng.integers(0, 256, (5, 7, 4)).astype(np.uint8)
rows3 = b"".join(b"\0" + r[:, :3].tobytes() for r in four)
rows4, rows1 = b"".join(b"\0" + r.tobytes() for r in four), b"".join(b"\0" + bytes(x * y % 16 for x in range(7)) for y in range(5))
passes = b""
for x0, y0, dx, dy in [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]:
    part = four[y0::dy, x0::dx, :3]
    passes += b"".join(b"\0" + r.tobytes() for r in part if part.shape[1])
whole, colours = zlib.compress(rows3), bytes(range(10, 58))
plain = mark + head(2) + pixels(whole) + end
for name, data, same in [
    ("more_rows", mark + head(2) + pixels(zlib.compress(rows3 + rows3)) + end, None), ("behind_stream", mark + head(2) + pixels(whole + b"garbage") + end, None),
    ("second_idat", mark + head(2) + pixels(whole) + pixels(b"garbage") + end, None), ("behind_end", plain + b"hello" * 10, None),
    ("zeros", mark + head(2) + pixels(whole) + bytes(64), None), ("no_end", mark + head(2) + pixels(whole), None),
    ("no_checksum", mark + head(2) + pixels(whole[:-4]) + end, None), ("cut_checksum", mark + head(2) + pixels(whole)[:-6], None),
    ("broken_text", mark + head(2) + broken(b"tEXt", b"a\0b") + pixels(whole) + end, plain), ("broken_gamma", mark + head(2) + broken(b"gAMA", b"abcd") + pixels(whole) + end, plain),
    ("broken_idat", mark + head(2) + broken(b"IDAT", whole) + end, None), ("broken_end", mark + head(2) + pixels(whole) + broken(b"IEND", b""), None),
    ("clear_rgba", mark + head(6) + chunk(b"tRNS", bytes(6)) + pixels(zlib.compress(rows4)) + end, None), ("clear_late", mark + head(2) + pixels(whole) + chunk(b"tRNS", bytes(6)) + end, None),
    ("clear_twice", mark + head(2) + 2 * chunk(b"tRNS", bytes(6)) + pixels(whole) + end, None), ("clear_cut", mark + head(2) + chunk(b"tRNS", bytes(2)) + pixels(whole) + end, plain),
    ("palette_rgb", mark + head(2) + chunk(b"PLTE", colours[:-1]) + pixels(whole) + end, None), ("palette_grey", mark + head(0) + chunk(b"PLTE", colours) + pixels(zlib.compress(rows1)) + end, None),
    ("palette_short", mark + head(3) + chunk(b"PLTE", colours[:12]) + pixels(zlib.compress(rows1)) + end, None), ("palette_odd", mark + head(3) + chunk(b"PLTE", colours[:-1]) + pixels(zlib.compress(rows1)) + end, None),
    ("palette_twice", mark + head(3) + chunk(b"PLTE", colours) + chunk(b"PLTE", colours[::-1]) + pixels(zlib.compress(rows1)) + end, None),
    ("palette_large", mark + head(3, 4) + chunk(b"PLTE", colours * 2) + pixels(zlib.compress(b"\0\x12\x34\x56\x70" * 5)) + end, None),
    ("clear_before", mark + head(3) + chunk(b"tRNS", b"\0\1") + chunk(b"PLTE", colours) + pixels(zlib.compress(rows1)) + end, None),
    ("many_idat", mark + head(2) + b"".join(pixels(whole[i:i + 3]) for i in range(0, len(whole), 3)) + end, None), ("empty_idat", mark + head(2) + pixels(b"") + pixels(whole) + pixels(b"") + end, None),
    ("unknown", mark + head(2) + chunk(b"ABCD", b"xx") + chunk(b"abCd", b"xx") + pixels(whole) + end, None), ("second_head", mark + head(2) + head(2) + pixels(whole) + end, None),
    ("text_first", mark + chunk(b"tEXt", b"a\0b") + head(2) + pixels(whole) + end, None), ("adam7_more", mark + head(2, 8, 1) + pixels(zlib.compress(passes + b"more")) + end, None),
    ("long_text", mark + head(2) + pixels(whole) + struct.pack(">I", 99999) + b"tEXtxx", plain),
]:
    keep(f"lenient_{name}.png", data, same)
keep("animated.png", encoded(Image.fromarray(samples(7, 5)), "PNG", save_all=True, append_images=[Image.fromarray(samples(7, 5))]))

# gif: the first frame on its canvas


def blocks(indices, bits=4):
    """LZW without compression: a clear code before each index."""
    acc, n, out = 0, 0, bytearray()
    for code in [c for i in indices for c in (1 << bits, i)] + [(1 << bits) + 1]:
        acc |= code << n
        n += bits + 1
        while n >= 8:
            out.append(acc & 255)
            acc, n = acc >> 8, n - 8
    if n:
        out.append(acc & 255)
    return bytes([bits]) + b"".join(bytes([len(out[k:k + 255])]) + bytes(out[k:k + 255]) for k in range(0, len(out), 255)) + b"\0"


def gif(width, height, frame, table=True, local=False, clear=None, interlace=False, version=b"89a", more=b";"):
    left, top, wide, high = frame
    out = b"GIF" + version + struct.pack("<HHBBB", width, height, 0x83 if table else 0, 5, 0) + (colours if table else b"")
    out += b"!\xfe\3abc\0"
    if clear is not None:
        out += b"!\xf9\4" + bytes([1, 0, 0, clear]) + b"\0"
    out += b"," + struct.pack("<HHHHB", left, top, wide, high, (0x83 if local else 0) | (0x40 if interlace else 0)) + (colours[::-1] if local else b"")
    return out + blocks([(3 * x * x + 5 * y + x) % 16 for y in range(high) for x in range(wide)]) + more


second = b"!\xf9\4\0\0\0\0\0" + gif(9, 6, (0, 0, 9, 6))[18 + len(colours):]
for name, data in [
    ("whole", gif(9, 6, (0, 0, 9, 6))), ("v87", gif(9, 6, (0, 0, 9, 6), version=b"87a")), ("inside", gif(9, 6, (2, 1, 4, 3))), ("inside_clear", gif(9, 6, (2, 1, 4, 3), clear=7)),
    ("outside", gif(3, 2, (2, 1, 4, 3))), ("no_canvas", gif(0, 0, (0, 0, 4, 3))), ("interlaced", gif(9, 19, (0, 0, 9, 19), interlace=True)), ("local", gif(9, 6, (0, 0, 9, 6), local=True)),
    ("local_only", gif(9, 6, (2, 1, 4, 3), table=False, local=True)), ("no_table", gif(9, 6, (0, 0, 9, 6), table=False)), ("no_trailer", gif(9, 6, (0, 0, 9, 6), more=b"")),
    ("animated", gif(9, 6, (0, 0, 9, 6), more=second)), ("short_table", gif(9, 6, (0, 0, 9, 6)).replace(b"\x83\5\0" + colours, b"\x80\5\0" + colours[:6])),
]:
    keep(f"gif_{name}.gif", data)
keep("gif_photo.gif", encoded(Image.fromarray(samples(40, 30)).quantize(200), "GIF"))
keep("gif_frames.gif", encoded(Image.fromarray(samples(24, 17)).quantize(60), "GIF", save_all=True, append_images=[Image.fromarray(samples(24, 17)).quantize(60)]))

# animated WebP: the first frame
first, later = Image.fromarray(samples(16, 12)), Image.fromarray(samples(16, 12))
keep("animated_lossless.webp", encoded(first, "WEBP", save_all=True, append_images=[later], lossless=True))
keep("animated_lossy.webp", encoded(first, "WEBP", save_all=True, append_images=[later], quality=80))
layered = [Image.fromarray(samples(16, 12, 4)) for _ in range(2)]
keep("animated_alpha.webp", encoded(layered[0], "WEBP", save_all=True, append_images=layered[1:], lossless=True, exact=True))
keep("animated_alpha_lossy.webp", encoded(layered[0], "WEBP", save_all=True, append_images=layered[1:], quality=80))
moved = bytearray(encoded(first, "WEBP", save_all=True, append_images=[later], lossless=True))
place = moved.index(b"VP8X") + 12
moved[place:place + 6] = struct.pack("<I", 24)[:3] + struct.pack("<I", 20)[:3]  # a canvas of 25×21
place = moved.index(b"ANMF") + 8
moved[place:place + 6] = struct.pack("<I", 2)[:3] + struct.pack("<I", 3)[:3]  # the frame at (4, 6)
keep("animated_inside.webp", bytes(moved))
keep("animated_turned.webp", encoded(first, "WEBP", save_all=True, append_images=[later], lossless=True, exif=turned(6)))
