"""EfficientNet-B0 whose answer is a map: logits are the mean of `cam` plus a bias."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import efficientnet_b0

from training.vial import LABELS

FEATURES = 1280
# Cells of the 7x7 map at the full input of 224x224.
FULL_CELLS = 49
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Prediction(NamedTuple):
    logits: Tensor
    cam: Tensor
    embedding: Tensor


class VialNet(nn.Module):
    """Takes normalised images [N, 3, H, W], H and W multiples of 32."""

    def __init__(self) -> None:
        super().__init__()
        self.features = efficientnet_b0(weights=None, stochastic_depth_prob=0.0).features
        self.weight = nn.Parameter(torch.empty(len(LABELS), FEATURES, 1, 1))
        self.bias = nn.Parameter(torch.zeros(len(LABELS)))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, image: Tensor) -> Prediction:
        features = self.features(image)
        cam = functional.conv2d(features, self.weight)
        return Prediction(cam.mean((2, 3)) + self.bias, cam, features.mean((2, 3)))


def normalise(images: Tensor) -> Tensor:
    """u8 [N, H, W, 3] to what the network takes."""
    scaled = images.permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    return ((scaled - mean) / std).contiguous(memory_format=torch.channels_last)
