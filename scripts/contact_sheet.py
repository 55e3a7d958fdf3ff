"""Frames of a video on one sheet: python scripts/contact_sheet.py output/demo.mp4 docs/images/demo.jpg --every 8"""

import argparse

import av
import torch

from llia_core.media import contact_sheet, write_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video")
    parser.add_argument("sheet")
    parser.add_argument("--every", type=int, default=8, help="take every n-th frame (default 8)")
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--columns", type=int, default=8)
    options = parser.parse_args()
    with av.open(options.video) as container:
        frames = [torch.from_numpy(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    picked = torch.stack(frames[:: options.every][: options.count])
    small = torch.nn.functional.avg_pool2d(picked.permute(0, 3, 1, 2).float(), 2).round().to(torch.uint8)
    write_image(options.sheet, contact_sheet(small.permute(0, 2, 3, 1), options.columns))


if __name__ == "__main__":
    main()
