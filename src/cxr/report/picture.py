"""Pictures inside the page."""

import base64
import io

from PIL import Image

WIDTH = 1200  # pixels, at most
QUALITY = 80  # of JPEG: no finding is read from a picture of the page


def inline(png: bytes, width: int = WIDTH) -> str:
    """Return a PNG as a data URL of a smaller JPEG, so that many fit into the page."""
    with Image.open(io.BytesIO(png)) as opened:
        image = opened.convert("L" if opened.mode in ("1", "L", "LA", "I;16") else "RGB")
    if image.width > width:
        height = max(1, round(image.height * width / image.width))
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
