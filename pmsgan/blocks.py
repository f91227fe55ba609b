"""Convolution, modified residual block, dense block, channel attention, feature attention"""
import torch
import torch.nn as nn
import torch.nn.functional as F

NORMS = ("none", "instance")
INITS = ("scaled", "paper")

def conv(
    cin:int, # input channels
    cout:int, # output channels
    k:int=3, # kernel side
    stride:int=1,
    rate:int=1 # dilation; the padding follows, so that stride 1 keeps the size
) -> nn.Conv2d:
    "A convolution that keeps H×W at stride 1, whatever its kernel and rate"
    return nn.Conv2d(cin, cout, k, stride, padding=rate*(k//2), dilation=rate)

def norm_layer(
    kind:str, # "none" or "instance"
    channels:int
) -> nn.Module:
    "The normalisation named by the configuration; ValueError for an unknown name"
    if kind == "none": return nn.Identity()
    if kind == "instance": return nn.InstanceNorm2d(channels)
    raise ValueError(f"norm {kind!r}: expected one of {', '.join(NORMS)}")

class ResBlock(nn.Module):
    "Modified residual block: conv, ReLU, conv, add; nothing after the addition"
    def __init__(self, channels:int, norm:str="none"):
        super().__init__()
        self.conv1, self.norm1 = conv(channels, channels), norm_layer(norm, channels)
        self.conv2, self.norm2 = conv(channels, channels), norm_layer(norm, channels)
    def forward(self, x): # B×C×H×W
        return x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))) # B×C×H×W

class ResStack(nn.Sequential):
    "A 3×3 convolution and five residual blocks: the paper's encoder and decoder alike"
    def __init__(self,
        cin:int, # input channels
        channels:int, # width of the stage
        blocks:int=5,
        norm:str="none"
    ):
        super().__init__(conv(cin, channels), nn.ReLU(), *[ResBlock(channels, norm) for _ in range(blocks)])

class DenseBlock(nn.Module):
    "Every layer sees all earlier ones [53]; a 1×1 convolution brings the sum of channels to `cout`"
    def __init__(self,
        cin:int, # input channels
        cout:int, # output channels
        layers:int=4,
        growth:int=16 # channels that each layer adds
    ):
        super().__init__()
        self.layers = nn.ModuleList([conv(cin+i*growth, growth) for i in range(layers)])
        self.out = conv(cin+layers*growth, cout, 1)
    def forward(self, x): # B×cin×H×W
        for layer in self.layers: x = torch.cat([x, F.relu(layer(x))], 1) # + growth channels
        return self.out(x) # B×cout×H×W

class ChannelAttention(nn.Module):
    "One weight in (0, 1) for each channel, from the channel means; `weights` gives them alone"
    def __init__(self,
        channels:int,
        reduction:int=8 # width of the bottleneck is channels/reduction
    ):
        super().__init__()
        hidden = max(4, channels//reduction)
        self.down, self.up = conv(channels, hidden, 1), conv(hidden, channels, 1)
    def weights(self, x): # B×C×H×W
        pooled = x.mean((2, 3), keepdim=True) # B×C×1×1
        return torch.sigmoid(self.up(F.relu(self.down(pooled)))) # B×C×1×1
    def forward(self, x): return x*self.weights(x) # B×C×H×W

class FeatureAttention(nn.Module):
    "Feature attention of [35]: `base` + conv3×3(`base`·`gate`); III-A.1 and III-A.3"
    def __init__(self, channels:int):
        super().__init__()
        self.conv = conv(channels, channels)
    def forward(self,
        base, # B×C×H×W, what is kept
        gate  # B×C×H×W, what says where it matters
    ): return base + self.conv(base*gate) # B×C×H×W

@torch.no_grad()
def init_weights(
    model:nn.Module,
    init:str="scaled", # "scaled": Kaiming normal, branches that are added start at a tenth; "paper": N(0, 0.02)
    branch_scale:float=0.1
) -> nn.Module:
    "The start of all convolutions (IV-A.1, and DESIGN's better one); biases are zero"
    if init not in INITS: raise ValueError(f"init {init!r}: expected one of {', '.join(INITS)}")
    for m in model.modules():
        if not isinstance(m, (nn.Conv2d, nn.Linear)): continue
        if init == "paper": nn.init.normal_(m.weight, 0, 0.02)
        else: nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
        if m.bias is not None: nn.init.zeros_(m.bias)
    if init == "scaled":
        for m in model.modules():
            if isinstance(m, ResBlock): m.conv2.weight.mul_(branch_scale)
            if isinstance(m, FeatureAttention): m.conv.weight.mul_(branch_scale)
    return model
