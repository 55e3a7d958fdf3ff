"""Make llia_core/assets/face_landmarker.task out of the models inside the mediapipe 0.10.21 wheel (Apache-2.0).

    python -m scripts.make_face_landmarker [--wheel mediapipe-0.10.21-....whl] [--layout]

Present mediapipe wheels carry no models, and the Tasks API (`vision.FaceLandmarker`) wants one .task file. The last
wheel that carried models has a face detector and an attention mesh model (Grishchenko et al. 2020, "Attention Mesh",
arXiv 2006.10962) with seven outputs: a 468-point mesh and finer lips, eyes and irises. Tasks expects 478 x 3 landmarks
and a face flag, so this script appends a CONCATENATION and a GATHER to the graph, and zips both models uncompressed.
Without --wheel the wheel is fetched by pip, from whatever package index pip is set up for.

--layout also remakes face_layout.npy, the mean face of llia_core/face.py, from the public domain photograph
`skimage.data.astronaut()`: brought upright, made symmetric, mouth closed, in the units of the mouth region.
"""

import argparse
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

WHEEL = "mediapipe==0.10.21"
DETECTOR = "mediapipe/modules/face_detection/face_detection_short_range.tflite"
MESH = "mediapipe/modules/face_landmark/face_landmark_with_attention.tflite"
ASSETS = Path(__file__).resolve().parents[1] / "llia_core" / "assets"

MESH_POINTS = 468
# Mesh point whose (x, y) the k-th pair of a refinement output replaces, in the order below. z stays the mesh's.
LIPS = (
    "61 146 91 181 84 17 314 405 321 375 291 185 40 39 37 0 267 269 270 409 78 95 88 178 87 14 317 402 318 324 308 "
    "191 80 81 82 13 312 311 310 415 76 77 90 180 85 16 315 404 320 307 306 184 74 73 72 11 302 303 304 408 62 96 89 "
    "179 86 15 316 403 319 325 292 183 42 41 38 12 268 271 272 407"
)
LEFT_EYE = (
    "33 7 163 144 145 153 154 155 133 246 161 160 159 158 157 173 130 25 110 24 23 22 26 112 243 247 30 29 27 28 56 "
    "190 226 31 228 229 230 231 232 233 244 113 225 224 223 222 221 189 35 124 46 53 52 65 143 111 117 118 119 120 "
    "121 128 245 156 70 63 105 66 107 55 193"
)
RIGHT_EYE = (
    "263 249 390 373 374 380 381 382 362 466 388 387 386 385 384 398 359 255 339 254 253 252 256 341 463 467 260 259 "
    "257 258 286 414 446 261 448 449 450 451 452 453 464 342 445 444 443 442 441 413 265 353 276 283 282 295 372 340 "
    "346 347 348 349 350 357 465 383 300 293 334 296 336 285 417"
)
REFINEMENTS = (
    ("output_lips", LIPS),
    ("output_left_eye", LEFT_EYE),
    ("output_right_eye", RIGHT_EYE),
    ("output_left_iris", "468 469 470 471 472"),
    ("output_right_iris", "473 474 475 476 477"),
)
IRIS_DEPTH = {"output_left_iris": 133, "output_right_iris": 362}  # the iris takes the z of the inner corner of its eye

REGION_HALF = 0.74  # half a side of the mouth region, in distances between the outer eye corners
MOUTH_Y = -0.19  # of a closed mouth in the region, whose corners are (-1, -1) and (1, 1)
RIGID = [33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 129, 358, 127, 356, 162, 389, 234, 454]
PAIRS = ((33, 263), (133, 362), (98, 327), (129, 358), (127, 356), (162, 389), (234, 454))


def gather_indices() -> np.ndarray:
    """(1434,) int32: place of each of the 478 x 3 coordinates in the concatenation of all outputs."""
    points = np.zeros((478, 3), np.int32)
    points[:MESH_POINTS] = np.arange(MESH_POINTS * 3).reshape(-1, 3)
    offset = MESH_POINTS * 3
    for name, targets in REFINEMENTS:
        for target in map(int, targets.split()):
            points[target, 0], points[target, 1] = offset, offset + 1
            if name in IRIS_DEPTH:
                points[target, 2] = IRIS_DEPTH[name] * 3 + 2
            offset += 2
    return points.reshape(-1)


def _operator_code(schema, model, builtin: int) -> int:
    """Index of `builtin` in the model's operator table, added if missing."""
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == builtin or (code.builtinCode == 0 and code.deprecatedBuiltinCode == builtin):
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, builtin, 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _add_tensor(schema, model, name: str, shape: list[int], kind: int, data: bytes | None = None) -> int:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), shape, kind, 0
    if data is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(data, np.uint8)
        model.buffers.append(buffer)
        tensor.buffer = len(model.buffers) - 1
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


def _add_operator(schema, model, builtin: int, inputs: list[int], output: int, options_type: int, options) -> None:
    operator = schema.OperatorT()
    operator.opcodeIndex = _operator_code(schema, model, builtin)
    operator.inputs, operator.outputs = inputs, [output]
    operator.builtinOptionsType, operator.builtinOptions = options_type, options
    model.subgraphs[0].operators.append(operator)


def merge_outputs(model_bytes: bytes) -> bytes:
    """The attention mesh .tflite with two outputs: (1, 1, 1, 1434) landmarks and the face flag."""
    import flatbuffers
    from mediapipe.tasks.metadata import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(model_bytes), 0))
    graph = model.subgraphs[0]
    by_name = {graph.tensors[index].name.decode(): int(index) for index in graph.outputs}
    parts = [by_name["output_mesh_identity"], *(by_name[name] for name, _ in REFINEMENTS)]
    indices = gather_indices()
    total = MESH_POINTS * 3 + sum(2 * len(targets.split()) for _, targets in REFINEMENTS)

    options = schema.ConcatenationOptionsT()
    options.axis = 3
    joined = _add_tensor(schema, model, "joined", [1, 1, 1, total], schema.TensorType.FLOAT32)
    operators, kinds = schema.BuiltinOperator, schema.BuiltinOptions
    _add_operator(schema, model, operators.CONCATENATION, parts, joined, kinds.ConcatenationOptions, options)

    options = schema.GatherOptionsT()
    options.axis, options.batchDims = 3, 0
    table = _add_tensor(schema, model, "indices", [indices.size], schema.TensorType.INT32, indices.tobytes())
    landmarks = _add_tensor(schema, model, "landmarks", [1, 1, 1, indices.size], schema.TensorType.FLOAT32)
    _add_operator(schema, model, operators.GATHER, [joined, table], landmarks, kinds.GatherOptions, options)

    graph.outputs = [landmarks, by_name["conv_faceflag"]]
    model.signatureDefs = []  # they would still name the seven old outputs
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def fetch_wheel(folder: str) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--python-version", "3.11"]
    subprocess.run([*command, "--platform", "manylinux_2_28_x86_64", "--dest", folder, WHEEL], check=True)
    return next(Path(folder).glob("*.whl"))


def build(wheel: Path, output: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        detector, mesh = archive.read(DETECTOR), archive.read(MESH)
    output.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as archive:  # Tasks maps the file: it must not be compressed
        for name, data in (("face_detector.tflite", detector), ("face_landmarks_detector.tflite", merge_outputs(mesh))):
            entry = zipfile.ZipInfo(name)  # a fixed date: the same bytes every time
            start = archive.fp.tell() + 30 + len(name) + 4
            padding = -start % 64  # LiteRT maps the tensors where they lie, so the model must start on an aligned byte
            entry.extra = struct.pack("<HH", 0xFFFF, padding) + bytes(padding)
            archive.writestr(entry, data)


def detect_one(task: Path, picture: np.ndarray) -> np.ndarray:
    """(478, 3) landmarks in pixels of the first face in a uint8 (H, W, 3) picture."""
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceLandmarkerOptions(base_options=BaseOptions(model_asset_path=str(task)))
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        points = landmarker.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=picture)).face_landmarks[0]
    height, width = picture.shape[:2]
    return np.array([(point.x * width, point.y * height, point.z * width) for point in points])


def align(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """`source` after the similarity (Umeyama 1991) that brings its RIGID points onto those of `target`."""
    a, b = source[RIGID], target[RIGID]
    a0, b0 = a - a.mean(0), b - b.mean(0)
    left, values, right = np.linalg.svd(b0.T @ a0)
    turn = np.diag([1, 1, np.sign(np.linalg.det(left @ right))])
    scale = (values * np.diag(turn)).sum() / (a0**2).sum()
    return scale * (source - a.mean(0)) @ (left @ turn @ right).T + b.mean(0)


def upright(points: np.ndarray) -> np.ndarray:
    """(478, 3) `points` turned so that the lines between paired RIGID points lie along x, and pitch is kept."""
    axis = sum(points[right] - points[left] for left, right in PAIRS)
    x = axis / np.linalg.norm(axis)
    y = np.array([0.0, 1.0, 0.0]) - x[1] * x
    y /= np.linalg.norm(y)
    return points @ np.stack([x, y, np.cross(x, y)], 1)


def neutral_layout(points: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """(478, 3) float32 mean face: symmetric, upright, mouth closed; units of the mouth region (see llia_core/face.py).

    points, mirrored: landmarks of a picture and of its mirror image. In the mirror image point k lies where the
    partner of k, mirrored, lies: so their mean is symmetric, whatever the mesh's pairing is.
    """
    layout = upright((points + align(mirrored, points)) / 2)
    eye = np.linalg.norm(layout[33] - layout[263])
    layout = (layout - layout[[13, 14]].mean(0)) / eye
    layout += (-layout[[33, 263], 0].mean(), 0.03, 0)  # lips close above the middle of a laughing mouth
    lips = np.array([int(index) for index in LIPS.split()])
    corner = layout[[61, 291], 1].mean()
    ring = np.repeat(np.arange(4), 20)  # LIPS lists four rings of 20: outer edge, inner edge, and two between them
    for edge, keep in ((0, 0.75), (2, 0.6), (3, 0.4), (1, 0.0)):
        chosen = lips[ring == edge]
        bend = np.interp(np.abs(layout[chosen, 0]), [0, abs(layout[61, 0])], [0.0, 0.6 * corner])
        layout[chosen, 1] = layout[chosen, 1] * keep + bend * (1 - keep)
    layout[lips, 1] -= 0.6 * corner * np.minimum(np.abs(layout[lips, 0] / layout[61, 0]), 1)  # the astronaut smiles
    layout[lips, 0] *= 0.8
    layout /= REGION_HALF
    layout[:, 1] += MOUTH_Y
    return layout.astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", type=Path, help=f"a {WHEEL} wheel; fetched by pip if not given")
    parser.add_argument("--layout", action="store_true", help="also remake face_layout.npy (needs scikit-image)")
    args = parser.parse_args()
    task = ASSETS / "face_landmarker.task"
    with tempfile.TemporaryDirectory() as folder:
        build(args.wheel or fetch_wheel(folder), task)
    print(f"{task}: {task.stat().st_size / 1e6:.1f} MB")
    if args.layout:
        from skimage import data

        picture = data.astronaut()
        mirror = np.ascontiguousarray(picture[:, ::-1])
        np.save(ASSETS / "face_layout.npy", neutral_layout(detect_one(task, picture), detect_one(task, mirror)))


if __name__ == "__main__":
    main()
