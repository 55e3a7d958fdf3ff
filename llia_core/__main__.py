"""The command line: python -m llia_core animate | bench | quantize | evaluate | train | convert | doctor."""

import argparse
import sys
from collections.abc import Sequence

from . import commands


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(
        prog="python -m llia_core", description="Talking portraits from a picture and a voice."
    )
    sub = main.add_subparsers(dest="command", required=True)
    _animate(sub.add_parser("animate", help="make a video of a portrait that speaks an audio file"))
    _bench(sub.add_parser("bench", help="measure speed and latency on this machine"))
    _quantize(sub.add_parser("quantize", help="make the INT8 form of a checkpoint"))
    _evaluate(sub.add_parser("evaluate", help="measure lip sync, stillness, identity and seams of a checkpoint"))
    _train(sub.add_parser("train", help="run a training stage; the same command resumes it"))
    _convert(sub.add_parser("convert", help="make a checkpoint of trained parts"))
    doctor = sub.add_parser("doctor", help="say what is installed, found and missing")
    doctor.set_defaults(run=commands.doctor)
    return main


def _animate(p: argparse.ArgumentParser) -> None:
    p.add_argument("--portrait", required=True, help="picture with a face")
    p.add_argument("--audio", required=True, help="sound or video file; its speech is spoken")
    p.add_argument("-o", "--output", required=True, help="mp4 file to write")
    p.add_argument("--other", help="sound of the other person: we listen while they speak")
    p.add_argument("--states", help='timeline, such as "0-1.5 listening; 1.5-6 speaking; 6- idle"; default: heard')
    p.add_argument("--expression", help='edit of the portrait, such as "smile=0.4,brow_raise=0.2" or "template=happy"')
    p.add_argument("--face-box", help="x0,y0,x1,y1 in pixels, forehead to chin, ear to ear: where no face is found")
    p.add_argument("--size", type=int, default=256, help="pixels of the square video (default 256)")
    p.add_argument("--steps", type=int, help="denoising steps (default: 1; photoreal: 10, distilled 2)")
    p.add_argument("--seed", type=int, default=0, help="of noise and behaviour (default 0)")
    p.add_argument(
        "--behaviour", type=float, default=1.0, help="blinks, gaze, head motion: 0 none, 1 natural (default)"
    )
    p.add_argument("--guidance", type=float, default=3.5, help="photoreal models: guidance scale, 1 none (default 3.5)")
    p.add_argument("--model", help="checkpoint file, or folder of a photoreal model (default: the bundled llia-tiny)")
    precisions = ("float32", "float16", "bfloat16", "int8")
    p.add_argument("--precision", default="float32", choices=precisions, help="int8: see `quantize` (default float32)")
    p.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ... (default cpu)")
    p.add_argument(
        "--pipeline", nargs="?", const="", metavar="STAGE=DEVICE,...",
        help="run the stages in parallel, where wanted elsewhere: denoiser=cuda:0,decoder=cuda:1",
    )  # fmt: skip
    p.set_defaults(run=commands.animate)


def _bench(p: argparse.ArgumentParser) -> None:
    p.add_argument("--size", type=int, nargs="+", default=[], help="output sizes (default 128 192 256)")
    p.add_argument("--steps", type=int, nargs="+", default=[1, 2], help="denoising steps (default 1 2)")
    p.add_argument("--precision", nargs="+", default=["float32", "int8"], help="float32, int8 (default both)")
    p.add_argument("--engine", nargs="+", default=["serial", "pipeline"], help="serial, pipeline (default), compiled")
    p.add_argument("--seconds", type=float, default=2.5, help="of sound in each pass (default 2.5)")
    p.add_argument("--minutes", type=float, default=0.0, help="instead of the table: run live, in real time, so long")
    p.add_argument("--start-up", action="store_true", help="also the UNet alone, and a new process to its first frames")
    p.add_argument("--json", help="file to write the rows to")
    p.add_argument("--model", help='checkpoint file (default: the bundled llia-tiny); "sd15": random weights')
    p.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ... (default cpu)")
    p.set_defaults(run=commands.bench)


def _quantize(p: argparse.ArgumentParser) -> None:
    p.add_argument("checkpoint", nargs="?", help="checkpoint, or photoreal folder (default: the bundled llia-tiny)")
    p.add_argument("-o", "--output", help="file or folder to write (default: NAME-int8 beside it)")
    p.add_argument("--portrait", help="picture to calibrate on (default: four drawn faces)")
    p.add_argument("--audio", help="sound to calibrate on (default: the bundled speech)")
    p.add_argument("--target-db", type=float, default=24.0, help="signal over rounding noise to keep (default 24)")
    p.add_argument("--device", default="cpu", help="for photoreal folders: cpu, cuda ... (default cpu)")
    p.set_defaults(run=commands.quantize)


def _evaluate(p: argparse.ArgumentParser) -> None:
    p.add_argument("--identities", type=int, default=6, help="unseen identities, one sentence each (default 6)")
    p.add_argument("--steps", type=int, default=1)
    p.add_argument("--minutes", type=float, default=1.0, help="length of the drift test (default 1)")
    p.add_argument("--speech", nargs="*", default=[], help="recordings of real voices")
    p.add_argument("--json", help="file to write the figures to")
    p.add_argument("--sheet", help="PNG of what was made to write")
    p.add_argument("--model", help="checkpoint file (default: the bundled llia-tiny)")
    p.set_defaults(run=commands.evaluate)


def _train(p: argparse.ArgumentParser) -> None:
    p.add_argument("stage", choices=commands.STAGES, help="'all' runs every stage in order")
    p.add_argument("--runs", default="runs", help="folder of clips, states and results (default runs)")
    p.add_argument("--scale", type=float, default=1.0, help="multiplies steps and clips: 0.01 for a try")
    p.add_argument("--minutes", type=float, default=0.0, help="stop after so many minutes; the same command goes on")
    p.add_argument("--videos", help="folder of real videos to cut clips from, instead of rendering")
    p.add_argument("--teacher", help="consistency: photoreal model folder to distil to few steps, from --videos")
    p.add_argument("--size", type=int, default=512, help="with --teacher: pixels of the pictures (default 512)")
    p.add_argument("--device", default="cpu")
    p.set_defaults(run=commands.train)


def _convert(p: argparse.ArgumentParser) -> None:
    p.add_argument("kind", nargs="?", choices=("runs", "hallo"), default="runs", help="own training, or open weights")
    p.add_argument("folder", nargs="?", help="hallo: folder laid out as its public page, see docs/photoreal.md")
    p.add_argument("--runs", default="runs", help="runs: folder of training results (default runs)")
    p.add_argument("--net", help="hallo: net.pth, where it is not in the folder")
    p.add_argument("--vae", help="hallo: Stable Diffusion 1.5's autoencoder, file or folder")
    p.add_argument("--speech", help="hallo: folder of wav2vec2-base-960h")
    p.add_argument("--tiny", help="hallo: TAESD for fast decoding, file or folder; optional")
    p.add_argument("-o", "--output", required=True, help="safetensors file to write; hallo: folder")
    p.set_defaults(run=commands.convert)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Expected errors are printed in one line, without a traceback; exit status 1."""
    arguments = parser().parse_args(argv)
    try:
        return arguments.run(arguments) or 0
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        print(f"llia: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("llia: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    from .cpu_layers import keep_freed_memory

    keep_freed_memory()
    sys.exit(main())
