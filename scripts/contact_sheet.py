"""Frames of videos on one sheet: python -m scripts.contact_sheet docs/images/demo.jpg output/demo.mp4 --every 2"""

import argparse

import av
import torch
from torch import Tensor

from llia_core.media import contact_sheet, write_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sheet")
    parser.add_argument("videos", nargs="+")
    parser.add_argument("--start", type=int, default=0, help="first frame to take (default 0)")
    parser.add_argument("--every", type=int, default=8, help="take every n-th frame (default 8)")
    parser.add_argument("--count", type=int, default=32, help="frames of each video (default 32)")
    parser.add_argument("--columns", type=int, default=8)
    options = parser.parse_args()
    frames = [picked(video, options.start, options.every, options.count) for video in options.videos]
    write_image(options.sheet, contact_sheet(torch.cat(frames), options.columns))


def picked(video: str, start: int, every: int, count: int) -> Tensor:
    """uint8 (count, H / 2, W / 2, 3)."""
    with av.open(video) as container:
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    chosen = torch.stack(frames[start::every][:count]).permute(0, 3, 1, 2).float()
    return torch.nn.functional.avg_pool2d(chosen, 2).round().to(torch.uint8).permute(0, 2, 3, 1)


if __name__ == "__main__":
    main()
