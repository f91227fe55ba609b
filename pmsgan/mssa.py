"""Multiscale supervised attention"""
import torch
import torch.nn as nn
import torch.nn.functional as F

from pmsgan.blocks import conv

MASKS = ("channel", "space", "sigmoid")

class MSSA(nn.Module):
    "Multiscale supervised attention (III-A.4, Fig. 6): three translated images weigh D1"
    def __init__(self,
        channels:int, # channels of D1
        mask:str="channel" # softmax over channels at each pixel; "space": over pixels in each channel; "sigmoid": each alone
    ):
        super().__init__()
        if mask not in MASKS: raise ValueError(f"mask {mask!r}: expected one of {', '.join(MASKS)}")
        self.kind = mask
        self.to_mask, self.out = conv(9, channels), conv(channels, 3)
    def mask(self, rgb1, rgb2, rgb3): # B×3 at H×W, H/2×W/2, H/4×W/4
        "The attention mask M: B×C×H×W"
        up = [F.interpolate(r, size=rgb1.shape[-2:], mode="bilinear", align_corners=False) for r in (rgb2, rgb3)]
        z = self.to_mask(torch.cat([rgb1, *up], 1)) # B×9×H×W -> B×C×H×W
        if self.kind == "channel": return z.softmax(1)
        if self.kind == "space": return z.flatten(2).softmax(2).view_as(z)
        return z.sigmoid()
    def forward(self, d1, rgb1, rgb2, rgb3): # D1: B×C×H×W
        return self.out(d1 + d1*self.mask(rgb1, rgb2, rgb3)) # B×3×H×W
