"""A decoded frame -> what a person would see: upright, square pixels, sRGB of 8 bits."""

from typing import Any, cast

import numpy as np
import PIL.Image
from av.video.frame import VideoFrame

from vlmcli.video import light
from vlmcli.video.clips import shown_size, within_limit

_BT709, _BT601 = 1, 5  # as PyAV numbers colour spaces
_SAYS_NOTHING = (0, 2)  # RGB, and unspecified
_HD_LINES = 720


def upright(frame: VideoFrame, aspect: float) -> PIL.Image.Image:
    """The frame as it is shown; `aspect` is that of one of its pixels, width to height."""
    width, height = within_limit(shown_size(frame.width, frame.height, aspect))
    if (transfer := int(frame.color_trc)) in light.FROM_SIGNAL:
        deep = frame.to_ndarray(format="rgb48le", width=width, height=height)
        picture = PIL.Image.fromarray(light.to_srgb(cast(Any, deep), transfer))
    else:
        space = int(frame.colorspace)
        if space in _SAYS_NOTHING:  # players then go by the size
            space = _BT709 if frame.height >= _HD_LINES else _BT601
        flat = frame.to_ndarray(
            format="rgb24", width=width, height=height, src_colorspace=space, interpolation="AREA"
        )
        picture = PIL.Image.fromarray(np.asarray(flat))
    return picture.rotate(frame.rotation, expand=True) if frame.rotation else picture
