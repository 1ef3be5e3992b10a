"""Batches of images on the device: seeded order, scaling, and augmentation of a whole batch at once."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def order_images(count: int, generator: torch.Generator) -> Tensor:
    """A random permutation of 0..count-1; drawn on the CPU, so that it is the same for every device."""
    return torch.randperm(count, generator=generator)


def split_batches(order: Tensor, batch_size: int) -> Iterator[Tensor]:
    """Cut an order into batches; the last one may be smaller, as in neural-ode-features."""
    return iter(order.split(batch_size))


def scale_images(images: Tensor) -> Tensor:
    """uint8 [0, 255] to float [0, 1]."""
    return images.float() / 255


def normalise_images(images: Tensor, mean: list[float], std: list[float]) -> Tensor:
    """Subtract each channel's mean and divide by its standard deviation; images [B, C, H, W]."""
    shape = (1, -1, 1, 1)
    return (images - images.new_tensor(mean).view(shape)) / images.new_tensor(std).view(shape)


def crop_randomly(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Shift each image by -padding..padding pixels in both directions, and fill with black; [B, C, H, W]."""
    count, channels, height, width = images.shape
    shifts = torch.randint(0, 2 * padding + 1, (2, count), generator=generator, device=images.device)  # [2, B]
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    rows = shifts[0, :, None] + torch.arange(height, device=images.device)  # [B, H]
    columns = shifts[1, :, None] + torch.arange(width, device=images.device)  # [B, W]
    image = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def flip_randomly(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability 1/2; images [B, C, H, W]."""
    flip = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(flip[:, None, None, None], images.flip(-1), images)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend images [B, 3, H, W] in [0, 1] with their grey version; factor [B], 1 changes nothing.

    Grey is the luma of ITU-R 601-2, as in torchvision.
    """
    weights = images.new_tensor([0.2989, 0.587, 0.114]).view(1, 3, 1, 1)
    grey = (images * weights).sum(1, keepdim=True)
    factor = factor.view(-1, 1, 1, 1)
    return (factor * images + (1 - factor) * grey).clamp(0, 1)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Rotate the hue of images [B, 3, H, W] in [0, 1] by `shift` [B], in turns, by way of HSV."""
    value, _ = images.max(1)
    chroma = value - images.min(1).values
    safe = torch.where(chroma == 0, torch.ones_like(chroma), chroma)  # grey pixels: no division by zero
    red, green, blue = images.unbind(1)
    sector = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = sector / 6 + shift.view(-1, 1, 1)
    # Each channel of HSV -> RGB is value - chroma * clamp(min(k, 4 - k), 0, 1) with k = (n + 6 hue) mod 6.
    channels = []
    for offset in (5.0, 3.0, 1.0):
        k = (offset + 6 * hue) % 6
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, 1)  # [B, 3, H, W]


def jitter_colours(images: Tensor, hue: float, saturation: float, generator: torch.Generator) -> Tensor:
    """Jitter hue and saturation, with random amounts per image and one random order per batch.

    Differs: neural-ode-features applies torchvision's ColorJitter to PIL images, which rounds to 8-bit HSV with 256
    hues and draws the order per image. Here all is float32.

    Args:
        images: [B, 3, H, W] in [0, 1].
        hue: largest shift, in turns.
        saturation: largest relative change.
    """

    def draw(low: float, high: float) -> Tensor:
        return torch.empty(len(images), device=images.device).uniform_(low, high, generator=generator)

    steps: list[Callable[[Tensor], Tensor]] = []
    if saturation:
        factor = draw(max(0.0, 1 - saturation), 1 + saturation)
        steps.append(lambda batch: adjust_saturation(batch, factor))
    if hue:
        shift = draw(-hue, hue)
        steps.append(lambda batch: adjust_hue(batch, shift))
    if len(steps) == 2 and torch.rand((), generator=generator, device=images.device).item() < 0.5:
        steps.reverse()
    for step in steps:
        images = step(images)
    return images


def count_batches(count: int, batch_size: int) -> int:
    """Number of batches per epoch, including a smaller last one."""
    return math.ceil(count / batch_size)
