"""A model that the compiler has never seen: other gates, another order, an extra residual branch. For tests."""

import torch
from torch import nn

from trilobit.model import BitLinear, LinearRecurrence, RMSNorm


class Mixer(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.norm = RMSNorm(size)
        self.gate, self.value, self.forget = (BitLinear(size, size) for _ in range(3))
        self.recurrence = LinearRecurrence()
        self.out = BitLinear(size, size)

    def forward(self, x):
        a = self.norm(x)
        g = torch.sigmoid(self.gate(a))
        forget = 0.9 + 0.1 * torch.sigmoid(self.forget(a))
        memory = self.recurrence(torch.tanh(self.value(a)), forget)
        return self.out(memory * g) + 0.5 * memory


class Own(nn.Module):
    def __init__(self, vocabulary: int = 300, size: int = 48, layers: int = 2):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, size)
        self.mixers = nn.ModuleList(Mixer(size) for _ in range(layers))
        self.norm = RMSNorm(size)
        self.head = BitLinear(size, vocabulary)

    def forward(self, input_ids):
        first = h = self.embed(input_ids)
        for mixer in self.mixers:
            h = h + mixer(h) + torch.relu(first) * 0.25
        return self.head(self.norm(h))


class Attention(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.query = BitLinear(size, size)

    def forward(self, x):
        return torch.softmax(self.query(x), dim=-1)


def build() -> nn.Module:
    torch.manual_seed(3)
    return Own()


def build_unsupported() -> nn.Module:
    model = build()
    model.mixers[1] = Attention(48)
    return model
