"""A picture in, the text on it out."""

from typing import Any, Final

from rapidocr_onnxruntime import RapidOCR

from marketplace.runners.contract import Job, processors
from marketplace.runners.rapidocr.pictures import read_picture

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


def _line(entry: Any) -> dict[str, Any]:
    """Corners from the upper left one clockwise, in pixels."""
    box, text, confidence = entry
    return {
        "text": text,
        "confidence": round(float(confidence), 4),
        "box": [[round(float(x), 1), round(float(y), 1)] for x, y in box],
    }
