"""A network whose answer is a map: logits are the mean of `cam` over its cells, plus a bias.

The backbone gives each cell of 32x32 input pixels a score a kind of flaw, its
evidence. The answer must hang on the worst cell, not on the average one: a speck
fills one cell of 72. So the mean is a weighted one, each class's weights the
softmax of its own evidence over the cells (attention pooling; Ilse et al. 2018,
arXiv 1802.04712, with the score as its own key), and `cam` is the weighted
evidence itself: what each cell adds to the logit, exactly. For `good` nothing
speaks but the absence of the others; the maps are centred over the classes, so
that its map shows what speaks against it.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import efficientnet_b0, mobilenet_v3_small

from training import APPROVE, LABELS
from training.preprocess import MEAN, STD

FLAWS = [number for number, label in enumerate(LABELS) if label != APPROVE]
# Pixels of the input to a cell, each way.
CELL = 32
# Before training every cell is good: sigmoid(-4) is 0.018 (Lin et al. 2017, arXiv 1708.02002).
PRIOR_EVIDENCE = -4.0


class Prediction(NamedTuple):
    # [N, 3]
    logits: Tensor
    # [N, 3, H / 32, W / 32]
    cam: Tensor
    # [N, F], F the channels of the backbone's last layer.
    embedding: Tensor


def efficientnet() -> nn.Module:
    return efficientnet_b0(weights=None, stochastic_depth_prob=0.0).features


def mobilenet() -> nn.Module:
    return mobilenet_v3_small(weights=None).features


# Backbone and the width of its last layer.
NETWORKS = {"efficientnet_b0": (efficientnet, 1280), "mobilenet_v3_small": (mobilenet, 576)}


class VialNet(nn.Module):
    """Takes normalised images [N, 3, H, W], H and W multiples of CELL."""

    def __init__(self, network: str) -> None:
        super().__init__()
        backbone, width = NETWORKS[network]
        self.features = backbone()
        self.evidence = nn.Conv2d(width, len(FLAWS), 1)
        self.bias = nn.Parameter(torch.zeros(len(LABELS)))
        nn.init.normal_(self.evidence.weight, std=0.01)
        nn.init.constant_(self.evidence.bias, PRIOR_EVIDENCE)

    def forward(self, image: Tensor) -> Prediction:
        features = self.features(image)
        return self.judge(features, self.evidence(features))

    def judge(self, features: Tensor, evidence: Tensor) -> Prediction:
        """The answer to evidence [N, flaws, h, w]."""
        # A softmax over two dimensions, without a reshape that would fix the batch size in the file.
        powers = torch.exp(evidence - evidence.amax((2, 3), keepdim=True))
        weighted = evidence * powers / powers.mean((2, 3), keepdim=True)
        # The mean over the classes; `good`, label 0, adds nothing to it.
        middle = weighted.sum(1, keepdim=True) / len(LABELS)
        cam = torch.cat([-middle, weighted - middle], 1)
        return Prediction(cam.mean((2, 3)) + self.bias, cam, features.mean((2, 3)))


def normalise(images: Tensor) -> Tensor:
    """u8 or f32 0 to 255, [N, H, W, 3], to what the network takes."""
    scaled = images.permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    return ((scaled - mean.to(scaled.device)) / std.to(scaled.device)).contiguous(memory_format=torch.channels_last)
