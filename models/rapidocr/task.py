"""A picture in, the text on it out."""

import warnings
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError
from rapidocr_onnxruntime import RapidOCR

from models.contract import Job, Refused, processors

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
MAX_PIXELS: Final = 50_000_000
"""Chosen: 150 MB when it is unpacked, in the 2 GB of the smallest class; a page at 600 dpi has 35 million."""
_SEARCHED_SIDE: Final = 1_600
"""The longer side of the copy that text is searched on. Measured: without it a line of 640 x 160 pixels is blown up and
takes 30 times as long."""


def work(job: Job) -> None:
    """Read the first picture of the file. Raises Refused."""
    picture = read_picture(job)
    job.say_progress(10, 100)
    engine = RapidOCR(
        det_limit_type="max",
        det_limit_side_len=_SEARCHED_SIDE,
        intra_op_num_threads=processors(),
        inter_op_num_threads=1,
    )
    job.say_progress(20, 100)
    found, _ = engine(picture)
    lines = [_line(entry) for entry in found or []]
    text = "\n".join(line["text"] for line in lines)
    height, width = picture.shape[:2]
    job.write_json({"model": "rapidocr", "width": width, "height": height, "text": text, "lines": lines})
    job.write_text(text)
    job.say_progress(100, 100)


def read_picture(job: Job) -> npt.NDArray[np.uint8]:
    """(height, width, 3), blue first for the engine, upright, white where it is transparent. Raises Refused."""
    try:
        # a picture that says it is huge is refused by the size in its header, before it is unpacked
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(job.input, formats=FORMATS) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise Refused(f"{picture.width} x {picture.height} pixels are too many; at most {MAX_PIXELS}")
                upright = ImageOps.exif_transpose(picture).convert("RGBA")
    except UnidentifiedImageError as error:
        raise Refused(f"{job.input.name} is no picture; there may be {', '.join(FORMATS)}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Refused(f"{job.input.name} has too many pixels; at most {MAX_PIXELS}") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise Refused(f"{job.input.name} can't be read: {error}") from error
    paper = Image.new("RGBA", upright.size, "white")
    paper.alpha_composite(upright)
    return np.ascontiguousarray(np.asarray(paper.convert("RGB"))[:, :, ::-1])


def _line(entry: Any) -> dict[str, Any]:
    """Corners from the upper left one clockwise, in pixels."""
    box, text, confidence = entry
    return {
        "text": text,
        "confidence": round(float(confidence), 4),
        "box": [[round(float(x), 1), round(float(y), 1)] for x, y in box],
    }
