"""Cross-stage atrous spatial pyramid"""
import torch
import torch.nn as nn
import torch.nn.functional as F

from pmsgan.blocks import ChannelAttention, conv, init_weights
from pmsgan.pyramid import halve

def resize_steps(
    x, # B×C×H×W
    steps:int # halvings where positive, doublings where negative
):
    "Halves (mean of 2×2) or doubles (bilinear) `steps` times"
    for _ in range(steps): x = halve(x)
    if steps < 0: x = F.interpolate(x, scale_factor=2.**-steps, mode="bilinear", align_corners=False)
    return x

class CSASP(nn.Module):
    "Cross-stage atrous spatial pyramid of one stage (III-A.2, Fig. 4)"
    def __init__(self,
        widths, # channels of E1, E2, E3
        stage:int, # j = 1, 2, 3
        rates=(1, 2, 4) # dilation for E1, E2, E3: low for texture, high for structure
    ):
        super().__init__()
        self.stage, c = stage, widths[stage-1]
        self.branches = nn.ModuleList([conv(w, c, 3, rate=r) for w, r in zip(widths, rates)])
        self.own = conv(c, c, 1)
        self.attend = ChannelAttention(c*(len(widths)+1))
        self.out = conv(c*(len(widths)+1), c, 1)
    def branch(self,
        i:int, # source stage 1, 2, 3
        e # Ei
    ):
        "Branch i at the size of this stage; convolves at the smaller of the two resolutions"
        steps, f = self.stage-i, self.branches[i-1]
        if steps > 0: return F.relu(f(resize_steps(e, steps)))
        return resize_steps(F.relu(f(e)), steps)
    def gather(self, features): # E1, E2, E3
        "The branches of E1, E2, E3 and the 1×1 on the own stage, concatenated: B×4C×Hj×Wj"
        own = F.relu(self.own(features[self.stage-1]))
        return torch.cat([*(self.branch(i, e) for i, e in enumerate(features, 1)), own], 1)
    def forward(self, features): # E1: B×C1×H×W, E2: B×C2×H/2×W/2, E3: B×C3×H/4×W/4
        return self.out(self.attend(self.gather(features))) # B×Cj×Hj×Wj
