"""Strangers' pictures, opened with care: few formats, no more pixels than there is memory for."""

import warnings
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from marketplace.runners.contract import Job, Refused

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
MAX_PIXELS: Final = 50_000_000
"""Chosen: 150 MB when it is unpacked, in the 2 GB of the smallest class; a page at 600 dpi has 35 million."""
LONGEST_STRIP: Final = 25
"""Chosen: sides of a greater ratio are filled up with white, for the engine shrinks the longer one to 2,000 pixels, and
of the shorter one nothing would be left."""


def read_picture(job: Job) -> npt.NDArray[np.uint8]:
    """(height, width, 3), blue first for the engine, upright, white where it is transparent. Raises Refused.

    The first picture of several; places on it are those of the file, in pixels of the upright picture.
    """
    try:
        # a picture that says it is huge is refused by the size in its header, before it is unpacked
        with warnings.catch_warnings():
            # what it warns of besides, damaged notes beside the picture, is no reason not to read it
            warnings.simplefilter("ignore")
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
    width, height = upright.size
    paper = Image.new("RGBA", (max(width, height // LONGEST_STRIP), max(height, width // LONGEST_STRIP)), "white")
    paper.alpha_composite(upright)
    return np.ascontiguousarray(np.asarray(paper.convert("RGB"))[:, :, ::-1])
