"""A network that needs no training: its only keypoint is where the crop is brightest."""

import cv2
import numpy as np

from pose.skeleton import Skeleton

SPOT = Skeleton("spot", ("spot",))


class BrightestSpot:
    """A stand-in for a network: the only keypoint is where the crop is brightest."""

    skeleton = SPOT
    input_size = (48, 64)
    heatmap_size = (48, 64)

    def __init__(self):
        self.batches = []

    def __call__(self, crops):
        self.batches.append(len(crops))
        flat = crops.max(axis=-1).reshape(len(crops), -1)
        peak = flat.argmax(axis=1)
        points = np.stack([peak % 48, peak // 48], axis=-1)[:, None].astype(np.float32)
        return points, flat.max(axis=1)[:, None].astype(np.float32) / 255


def spot(x, y, width=120, height=90, value=255):
    image = np.zeros((height, width, 3), np.uint8)
    cv2.circle(image, (x, y), 3, (value,) * 3, -1)
    return image
