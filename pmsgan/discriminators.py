"""Three independent patch discriminators"""
import math

import torch.nn as nn

from pmsgan.blocks import init_weights

MIN_TRAIN_SIZE = 32

def patch_layers(
    size:int # side of the pictures that it judges
) -> int: # stride-2 layers: 3 gives 70×70 patches
    "Three stride-2 layers from 64 pixels on, fewer below, so that a map of judgements remains"
    return max(1, min(3, int(math.log2(max(size, 1)/8))))

class PatchDiscriminator(nn.Sequential):
    "Patch discriminator of pix2pix [2], unconditional: B×3×H×W to a map of judgements B×1×h×w"
    def __init__(self,
        layers:int=3, # stride-2 layers; the patch is 16, 34 or 70 pixels wide for 1, 2, 3
        width:int=64, # channels of the first layer
        cin:int=3
    ):
        net, c = [nn.Conv2d(cin, width, 4, 2, 1), nn.LeakyReLU(0.2)], width
        for n in range(1, layers+1):
            c_in, c = c, width*min(2**n, 8)
            net += [nn.Conv2d(c_in, c, 4, 2 if n < layers else 1, 1), nn.InstanceNorm2d(c), nn.LeakyReLU(0.2)]
        super().__init__(*net, nn.Conv2d(c, 1, 4, 1, 1))

class Discriminators(nn.ModuleList):
    "One discriminator a scale, sharing nothing (III-B.1); called with y, y2, y3 it returns three maps"
    def __init__(self,
        size:int=256, # side of the training pictures
        stages:int=3,
        width:int=64
    ):
        if size < MIN_TRAIN_SIZE: raise ValueError(f"size {size}: the smallest stage would be {size//4} pixels wide; train at {MIN_TRAIN_SIZE} or more")
        super().__init__([PatchDiscriminator(patch_layers(size >> j), width) for j in range(stages)])
        init_weights(self, "paper")
    def forward(self, images): # y: B×3×H×W, y2: B×3×H/2×W/2, y3: B×3×H/4×W/4
        return [d(im) for d, im in zip(self, images)]
