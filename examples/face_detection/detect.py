"""Finds faces with MediaPipe's short-range face detector and draws them.

    python examples/face_detection/detect.py face_detection_short_range.tflite [--image PICTURE] [--crop L,T,R,B]

The picture is scikit-image's astronaut by default. Needs numpy, scikit-image and pillow beside the runtime; the
detector comes from MediaPipe and is given as a file.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optimium.runtime as rt
from PIL import Image, ImageDraw

SIDE = 128
"""The detector sees squares of so many pixels."""


@dataclass
class Face:
    """A detection; positions are fractions of the square that the detector saw."""

    score: float
    box: tuple[float, float, float, float]
    """Left, top, right, bottom."""
    points: list[tuple[float, float]]
    """Right eye, left eye, nose, mouth, right ear, left ear."""


def anchors() -> np.ndarray:
    """The centres that the regressions are relative to: two a cell of 16 x 16, six a cell of 8 x 8."""
    centres = []
    for cells, count in ((16, 2), (8, 6)):
        position = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(position, position, indexing="ij")
        centres.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2), count, 0))
    return np.concatenate(centres)


def decode(regressors: np.ndarray, logits: np.ndarray, threshold: float) -> list[Face]:
    """The detections above the threshold, as the model's card describes its outputs."""
    scores = 1 / (1 + np.exp(-logits.reshape(-1).clip(-80, 80)))
    faces = []
    for index in np.flatnonzero(scores >= threshold):
        values, centre = regressors[0, index] / SIDE, anchors()[index]
        (x, y), (width, height) = values[:2] + centre, values[2:4]
        points = [tuple(point + centre) for point in values[4:].reshape(-1, 2)]
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        faces.append(Face(float(scores[index]), box, points))
    return faces


def overlap(a: Face, b: Face) -> float:
    """Intersection over union of two boxes."""
    left, top = max(a.box[0], b.box[0]), max(a.box[1], b.box[1])
    right, bottom = min(a.box[2], b.box[2]), min(a.box[3], b.box[3])
    common = max(0.0, right - left) * max(0.0, bottom - top)
    area = [(f.box[2] - f.box[0]) * (f.box[3] - f.box[1]) for f in (a, b)]
    return common / (sum(area) - common) if common else 0.0


def suppress(faces: list[Face], limit: float = 0.3) -> list[Face]:
    """The best of each group of detections that overlap."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(overlap(face, other) < limit for other in kept):
            kept.append(face)
    return kept


def detect(model: rt.Model, picture: Image.Image, threshold: float = 0.5) -> list[Face]:
    """The faces of a square picture."""
    pixels = np.asarray(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)
    request = model.create_request()
    outputs = {name: rt.tensor(shape=model.get_tensor(name).shape, dtype=rt.float32) for name in model.output_names}
    request.infer({model.input_names[0]: pixels[None] / 127.5 - 1}, outputs)
    request.wait()
    arrays = [tensor.to_numpy() for tensor in outputs.values()]
    regressors, logits = sorted(arrays, key=lambda array: -array.shape[-1])
    return suppress(decode(regressors, logits, threshold))


def draw(picture: Image.Image, faces: list[Face], crop: tuple[int, int, int, int]) -> None:
    """Draws boxes and points onto the picture that the square was cut from."""
    canvas = ImageDraw.Draw(picture)
    left, top, side = crop[0], crop[1], crop[2] - crop[0]
    for face in faces:
        box = [left + face.box[0] * side, top + face.box[1] * side, left + face.box[2] * side, top + face.box[3] * side]
        canvas.rectangle(box, outline=(0, 230, 120), width=3)
        canvas.text((box[0] + 4, box[1] + 4), f"{face.score:.2f}", fill=(0, 230, 120))
        for x, y in face.points:
            px, py = left + x * side, top + y * side
            canvas.ellipse([px - 3, py - 3, px + 3, py + 3], fill=(255, 80, 80))


def main(arguments: list[str] | None = None) -> list[Face]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="face_detection_short_range.tflite")
    parser.add_argument("--image", type=Path, help="a picture; the astronaut by default")
    parser.add_argument("--crop", default="100,0,412,312", help="left,top,right,bottom of a square of the picture")
    parser.add_argument("--output", type=Path, default=Path("faces.png"), help="where the drawing goes")
    options = parser.parse_args(arguments)

    if options.image:
        picture = Image.open(options.image).convert("RGB")
    else:
        from skimage.data import astronaut

        picture = Image.fromarray(astronaut())
    left, top, right, bottom = (int(n) for n in options.crop.split(","))
    crop = (left, top, right, bottom)

    faces = detect(rt.load_model(options.model), picture.crop(crop))
    for face in faces:
        print(f"face, score {face.score:.3f}, box {tuple(round(float(n), 3) for n in face.box)}")
    if not faces:
        print("no face found")
    draw(picture, faces, crop)
    picture.save(options.output)
    print(f"drawn to {options.output}")
    return faces


if __name__ == "__main__":
    main()
