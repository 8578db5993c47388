"""The paper's VAE in PyTorch, and its like in MONAI and pythae."""

import math

import torch
from torch import nn
from torch.nn import functional

from benchmarks.trainers import Task, timed_steps
from benchmarks.worker import without_tensorflow


def plain(**task):
    """The VAE of plain PyTorch layers, with the same shapes as mrigen's."""
    task = Task(**task)
    return _trained(PlainVAE(task), _nats, task)


def monai(at_full_resolution=True, **task):
    """MONAI's VarAutoEncoder with two convolutions a resolution, residual as MONAI makes them.

    MONAI's `view` of the features fails on channels_last_3d, so that layout is not used.

    Args:
        at_full_resolution: MONAI halves by strided convolutions; a first layer of stride 1 lets it, too, convolve at
            full resolution. Off, the first layer halves, as MONAI's own examples have it.
        task: the fields of `Task`.
    """
    without_tensorflow()
    from monai.networks.nets import VarAutoEncoder

    task = Task(**task)
    channels, strides = list(task.channels), [2] * len(task.channels)
    if at_full_resolution:
        channels, strides = [*channels, channels[-1]], [1, *strides]
    model = VarAutoEncoder(
        spatial_dims=3,
        in_shape=(1, *task.volume_shape),
        out_channels=1,
        latent_size=task.latent_dim,
        channels=channels,
        strides=strides,
        num_res_units=2,
        norm="BATCH",
        act="RELU",
        use_sigmoid=False,
    )
    return _trained(model, lambda outputs, x: _nats(outputs[:3], x), task, channels_last=False)


def monai_kl(latent_channels=3, **task):
    """MONAI's AutoencoderKL, one residual block a resolution, without attention; its latent is a small volume.

    Args:
        latent_channels: channels of that volume.
        task: the fields of `Task`; `latent_dim` is not used.
    """
    without_tensorflow()
    from monai.networks.nets import AutoencoderKL

    task = Task(**task)
    model = AutoencoderKL(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        num_res_blocks=(1,) * len(task.channels),
        channels=tuple(task.channels),
        attention_levels=(False,) * len(task.channels),
        latent_channels=latent_channels,
        norm_num_groups=task.channels[0],
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    )

    def loss_of(outputs, x):
        reconstruction, loc, scale = outputs
        return _nats((reconstruction, loc, 2.0 * scale.float().log()), x)

    return _trained(model, loss_of, task)


def pythae(**task):
    """pythae's VAE around the encoder and decoder of `plain`; the loss is pythae's own."""
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    task = Task(**task)

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.network = PlainEncoder(task)

        def forward(self, x):
            loc, log_variance = self.network(x)
            return ModelOutput(embedding=loc, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.network = PlainDecoder(task)

        def forward(self, z):
            return ModelOutput(reconstruction=self.network(z))

    class Trained(VAE):
        def forward(self, x):
            return super().forward({"data": x})

    model = Trained(VAEConfig(input_dim=(1, *task.volume_shape), latent_dim=task.latent_dim), Encoder(), Decoder())
    return _trained(model, lambda outputs, x: outputs.loss, task)


class PlainEncoder(nn.Module):
    """(Convolution - ReLU - batch normalisation) x 2 and halving in each block, then mean and log variance."""

    def __init__(self, task):
        super().__init__()
        widths = [1, *task.channels]
        blocks = [
            nn.Sequential(_convolved_twice(before, width), nn.MaxPool3d(2))
            for before, width in zip(widths, task.channels, strict=False)
        ]
        size = math.prod(_grid(task)) * task.channels[-1]
        self.features = nn.Sequential(*blocks, nn.Flatten())
        self.loc = nn.Linear(size, task.latent_dim)
        self.log_variance = nn.Linear(size, task.latent_dim)

    def forward(self, x):
        features = self.features(x)
        return self.loc(features), self.log_variance(features)


class PlainDecoder(nn.Module):
    """Dense, then doubling by transposed convolution and (convolution - ReLU - batch normalisation) x 2."""

    def __init__(self, task):
        super().__init__()
        grid = _grid(task)
        size = math.prod(grid) * task.channels[-1]
        layers = [nn.Linear(task.latent_dim, size), nn.ReLU(), nn.Unflatten(1, (task.channels[-1], *grid))]
        before = task.channels[-1]
        for width in reversed(task.channels):
            layers += [nn.ConvTranspose3d(before, width, 2, stride=2), _convolved_twice(width, width)]
            before = width
        self.layers = nn.Sequential(*layers, nn.Conv3d(before, 1, 3, padding=1))

    def forward(self, z):
        return self.layers(z)


class PlainVAE(nn.Module):
    """The paper's network as a PyTorch user would write it."""

    def __init__(self, task):
        super().__init__()
        self.encoder = PlainEncoder(task)
        self.decoder = PlainDecoder(task)

    def forward(self, x):
        loc, log_variance = self.encoder(x)
        z = loc + torch.exp(0.5 * log_variance) * torch.randn_like(loc)
        return self.decoder(z), loc, log_variance


def _grid(task) -> list[int]:
    return [side // 2 ** len(task.channels) for side in task.volume_shape]


def _convolved_twice(before, width):
    layers = []
    for channels in (before, width):
        layers += [nn.Conv3d(channels, width, 3, padding=1), nn.ReLU(), nn.BatchNorm3d(width)]
    return nn.Sequential(*layers)


def _nats(outputs, x):
    """Returns nll + kl, sums in nats, mean over the batch; decoder sigma 1."""
    reconstruction, loc, log_variance = (output.float() for output in outputs)
    nll = 0.5 * functional.mse_loss(reconstruction, x, reduction="sum")
    kl = 0.5 * torch.sum(log_variance.exp() + loc.square() - 1.0 - log_variance)
    return (nll + kl) / len(x)


def _trained(model, loss_of, task, channels_last=True):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    low = task.precision == "mixed_bfloat16"
    layout = torch.channels_last_3d if low and channels_last else torch.contiguous_format
    model = model.to(device, memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    volumes = torch.from_numpy(task.random_batch().transpose(0, 4, 1, 2, 3).copy())

    def step():
        x = volumes.to(device, memory_format=layout)
        with torch.autocast(device, torch.bfloat16, enabled=low):
            outputs = model(x)
        optimizer.zero_grad()
        loss = loss_of(outputs, x)
        loss.backward()
        optimizer.step()
        loss.item()
        if device == "cuda":
            torch.cuda.synchronize()

    parameters = sum(parameter.numel() for parameter in model.parameters())
    run_round = timed_steps(task, step, _gpu_peak_mb)
    return {"parameters": parameters}, run_round


def _gpu_peak_mb() -> float | None:
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
