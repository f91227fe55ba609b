"""Decoded feature fusion"""
import torch.nn as nn
import torch.nn.functional as F

from pmsgan.blocks import FeatureAttention, conv

class DFF(nn.Module):
    "Decoded feature fusion (III-A.3, Fig. 5): what stage j+1 decoded, doubled, gated by Pj"
    def __init__(self,
        cnext:int, # channels of D(j+1)
        channels:int # channels of stage j
    ):
        super().__init__()
        self.reduce = conv(cnext, channels, 1)
        self.attend = FeatureAttention(channels)
    def up(self, d): # D(j+1): B×cnext×H/2×W/2
        "D(j+1) with this stage's channels, doubled; the 1×1 comes first, where it is four times cheaper"
        return F.interpolate(self.reduce(d), scale_factor=2., mode="bilinear", align_corners=False)
    def forward(self,
        p, # Pj: B×channels×H×W
        d  # D(j+1): B×cnext×H/2×W/2
    ):
        return self.attend(self.up(d), p) # B×channels×H×W
