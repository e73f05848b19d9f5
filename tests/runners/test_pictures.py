"""Pictures of strangers: what is read, upright and on white, and what is refused before it fills the memory."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from marketplace.runners.contract import Job, Refused
from marketplace.runners.rapidocr.pictures import read_picture


def job(folder, data, name="page.png"):
    (folder / name).write_bytes(data)
    return Job(folder / name, folder, None)


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def two_halves(mode="RGB"):
    image = Image.new("RGB", (40, 20), (250, 0, 0))
    image.paste((0, 0, 250), (20, 0, 40, 20))
    return image.convert(mode)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_each_format_is_read_by_what_is_in_it_and_blue_comes_first(tmp_path, kind):
    found = read_picture(job(tmp_path, encoded(two_halves(), kind), "named.wrongly"))
    assert (found.shape, found.dtype) == ((20, 40, 3), np.uint8)
    assert found[10, 5].tolist() == pytest.approx([0, 0, 250], abs=10)
    assert found[10, 35].tolist() == pytest.approx([250, 0, 0], abs=10)


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "CMYK", "I;16"])
def test_each_way_to_keep_colours_becomes_the_same(tmp_path, mode):
    image = two_halves().convert("L").convert("I;16") if mode == "I;16" else two_halves(mode)
    found = read_picture(job(tmp_path, encoded(image, "TIFF")))
    assert found.shape == (20, 40, 3)


def test_what_is_transparent_is_white(tmp_path):
    found = read_picture(job(tmp_path, encoded(Image.new("RGBA", (30, 30), (0, 0, 0, 0)), "PNG")))
    assert (found == 255).all()


def test_a_photo_that_lies_on_its_side_is_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_picture(job(tmp_path, encoded(two_halves(), "JPEG", exif=exif))).shape == (40, 20, 3)


@pytest.mark.parametrize(
    ("size", "shape"), [((5_000, 3), (200, 5_000, 3)), ((3, 5_000), (5_000, 200, 3)), ((1, 1), (1, 1, 3))]
)
def test_a_strip_is_filled_up_so_that_the_engine_can_shrink_it(tmp_path, size, shape):
    found = read_picture(job(tmp_path, encoded(Image.new("RGB", size, "black"), "PNG")))
    assert found.shape == shape
    assert found[0, 0].tolist() == [0, 0, 0]
    assert max(size) == 1 or found[-1, -1].tolist() == [255, 255, 255]


def png_that_says(width, height):
    """The head of a real picture, with another size in it."""
    data = bytearray(encoded(Image.new("1", (8, 8)), "PNG"))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    # the head's checksum follows it
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize("size", [(10_000, 5_001), (20_000, 20_000), (65_535, 65_535)])
def test_more_pixels_than_there_is_memory_for_are_refused_by_the_head(tmp_path, size):
    with pytest.raises(Refused, match="too many"):
        read_picture(job(tmp_path, png_that_says(*size)))


def half(data):
    return data[: len(data) // 2]


NOISE = Image.effect_noise((300, 300), 90)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no picture"),
        (b"a text", "no picture"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "no picture|can't be read"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "no picture"),
        (b"%PDF-1.7", "no picture"),
        (half(encoded(NOISE, "PNG")), "can't be read"),
        (half(encoded(NOISE, "JPEG")), "can't be read"),
        (half(encoded(NOISE, "TIFF", compression="tiff_lzw")), "can't be read|no picture"),
        (half(encoded(NOISE, "WEBP")), "can't be read|no picture"),
        (png_that_says(0, 8), "can't be read|no picture"),
        (png_that_says(800, 800), "can't be read"),
    ],
    ids=range(11),
)
def test_what_is_no_picture_or_a_broken_one_is_refused(tmp_path, data, said):
    with pytest.raises(Refused, match=said):
        read_picture(job(tmp_path, data))
