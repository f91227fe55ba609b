"""Encoded feature fusion"""
import torch.nn as nn

from pmsgan.blocks import DenseBlock, FeatureAttention, conv

class EFF(nn.Module):
    "Encoded feature fusion (III-A.1, Fig. 3): the features of stage j-1, halved, meet the dense feature of xj"
    def __init__(self,
        cprev:int, # channels of E(j-1)
        channels:int, # channels of stage j
        layers:int=4, # of the dense block
        growth:int=16
    ):
        super().__init__()
        self.down = conv(cprev, channels, 3, stride=2)
        self.dense = DenseBlock(3, channels, layers, growth)
        self.attend = FeatureAttention(channels)
    def forward(self,
        e, # E(j-1): B×cprev×H×W
        xj # xj: B×3×H/2×W/2
    ):
        return self.attend(self.down(e), self.dense(xj)) # B×channels×H/2×W/2
