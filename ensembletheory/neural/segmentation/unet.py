r"""U-Nets (Ronneberger, Fischer & Brox 2015): from maps over the pixels of an image to maps of features that see both detail and the whole.

Maps (H, W, C) are first cut into patches of p x p pixels, one patch becoming C p^2 numbers at one place of (H / p, W / p). With c_0 ... c_{S-1} channels at S scales,

    down:  d_0 = B_0(patches),  d_s = B_s(mean of d_{s-1} over 2 x 2 places),           at scale s there are (H / (p 2^s), W / (p 2^s)) places,
    up:    u_{S-1} = d_{S-1},   u_s = B'_s(u_{s+1} with each place doubled, d_s),

each block B two 3 x 3 convolutions, each followed by relu; u_0 are the features. A head, a perceptron at every place, makes p^2 numbers of every place for each of its outputs
and lays them out as pixels. An encoder goes down only, and ends with an affine map of the mean over places.

Weights begin as those of `Perceptron` do. They are numbers of the default precision, as the optimiser's are; maps are computed in single precision.

Channels come last, and the derivative of a convolution in its weights is written as a convolution with channels last: inside a loop on a CPU, XLA has no quick program for
others.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import checked_count, refuse
from ensembletheory.neural.perceptron import Perceptron

__all__ = ["Block", "MapEncoder", "PixelHead", "UNet", "convolved", "patches", "pixels", "require_scales"]


class Block(eqx.Module):
    """Two 3 x 3 convolutions, each followed by relu."""

    kernels: tuple[Float[Array, "3 3 _ _"], ...]
    offsets: tuple[Float[Array, " _"], ...]

    def __init__(self, draws: Sequence[Float[Array, " _"]], inputs: int, outputs: int):
        sizes = inputs, outputs
        self.kernels = tuple(np.sqrt(2 / (9 * size)) * draw.reshape(3, 3, size, outputs) for draw, size in zip(draws, sizes, strict=True))
        self.offsets = tuple(jnp.zeros(outputs) for _ in sizes)

    def __call__(self, x: Float[Array, "h w inputs"]) -> Float[Array, "h w outputs"]:
        """The maps of the last layer."""
        for kernel, offset in zip(self.kernels, self.offsets, strict=True):
            x = jax.nn.relu(convolved(x, kernel) + offset[None, None])
        return x


class UNet(eqx.Module):
    """Maps (H, W, inputs) to features (H / patch, W / patch, channels[0]).

    Args:
        key: of the initial weights.
        inputs: number of maps.
        channels: c_0 ... c_{S-1}.
        patch: p.

    Raises:
        ValueError: if a number is below 1, or there is no scale.
    """

    down: tuple[Block, ...]
    up: tuple[Block, ...]
    patch: int = eqx.field(static=True)

    def __init__(self, key: PRNGKeyArray, inputs: int, channels: Sequence[int], patch: int = 2):
        descent, ascent = _descent(inputs, channels, patch), [(coarse + fine, fine) for fine, coarse in pairwise(channels)]
        blocks = _begun(key, [*descent, *ascent])
        self.down, self.up, self.patch = blocks[: len(descent)], blocks[len(descent) :], patch

    def __call__(self, x: Float[Array, "H W inputs"]) -> Float[Array, "h w features"]:
        """The features.

        Raises:
            ValueError: if patches and scales do not divide the pixels.
        """
        net = _single(self)
        maps = _descended(net.down, x, self.patch)
        x = maps[-1]
        for block, fine in zip(net.up[::-1], maps[-2::-1], strict=True):
            x = block(jnp.concatenate([_doubled(x), fine], axis=-1))
        return x


class PixelHead(eqx.Module):
    """Maps (h, w, inputs) of places to maps (h patch, w patch, outputs) of pixels, by a perceptron at every place.

    Args:
        key: of the initial weights.
        inputs: number of maps of places.
        outputs: number of maps of pixels.
        patch: p.
        width: units in a hidden layer.
        depth: number of hidden layers.
    """

    network: Perceptron
    patch: int = eqx.field(static=True)

    def __init__(self, key: PRNGKeyArray, inputs: int, outputs: int, patch: int, width: int = 1, depth: int = 0):
        self.network, self.patch = Perceptron(key, inputs, outputs * patch**2, width, depth, jax.nn.relu), patch

    def __call__(self, x: Float[Array, "h w inputs"]) -> Float[Array, "H W outputs"]:
        """The maps of pixels."""
        h, w, inputs = x.shape
        return pixels(jax.vmap(_single(self.network))(x.reshape(h * w, inputs)).reshape(h, w, -1), self.patch)


class MapEncoder(eqx.Module):
    """Maps (H, W, inputs) to a vector.

    Args:
        key: of the initial weights.
        inputs: number of maps.
        outputs: numbers of the vector.
        channels: c_0 ... c_{S-1}.
        patch: p.

    Raises:
        ValueError: if a number is below 1, or there is no scale.
    """

    down: tuple[Block, ...]
    last: Perceptron
    patch: int = eqx.field(static=True)

    def __init__(self, key: PRNGKeyArray, inputs: int, outputs: int, channels: Sequence[int], patch: int = 2):
        for_down, for_last = jax.random.split(key)
        self.down, self.patch = _begun(for_down, _descent(inputs, channels, patch)), patch
        self.last = Perceptron(for_last, channels[-1], outputs, 1, 0)

    def __call__(self, x: Float[Array, "H W inputs"]) -> Float[Array, " outputs"]:
        """The vector.

        Raises:
            ValueError: if patches and scales do not divide the pixels.
        """
        net = _single(self)
        return net.last(jnp.mean(_descended(net.down, x, self.patch)[-1], axis=(0, 1)))


def require_scales(shape: tuple[int, ...], patch: int, scales: int) -> None:
    """Refuse images whose sides are no multiples of the patch times 2^(scales - 1).

    Raises:
        ValueError: naming what divides the sides.
    """
    unit = patch * 2 ** (scales - 1)
    if any(side < 1 or side % unit for side in shape):
        refuse("shape", f"{tuple(shape)}", f"multiples of {unit}: patches of {patch} at {scales} scales", "Pad the images, or take fewer scales.")


def patches(x: Float[Array, "H W C"], patch: int) -> Float[Array, "h w channels"]:
    """The p x p pixels of each patch as channels."""
    H, W, C = x.shape
    cut = x.reshape(H // patch, patch, W // patch, patch, C)
    return jnp.transpose(cut, (0, 2, 1, 3, 4)).reshape(H // patch, W // patch, patch**2 * C)


def pixels(x: Float[Array, "h w channels"], patch: int) -> Float[Array, "H W C"]:
    """The inverse of `patches`."""
    h, w, channels = x.shape
    cut = x.reshape(h, w, patch, patch, channels // patch**2)
    return jnp.transpose(cut, (0, 2, 1, 3, 4)).reshape(h * patch, w * patch, channels // patch**2)


@jax.custom_vjp
def convolved(x: Float[Array, "h w C"], kernel: Float[Array, "k k C D"]) -> Float[Array, "h w D"]:
    """sum_{ij c} x[a + i - k', b + j - k', c] kernel[i, j, c, d], k' = (k - 1) / 2, with zeros beyond the border; k is odd."""
    return _correlated(x[None], kernel)[0]


def _kept(x: Float[Array, "h w C"], kernel: Float[Array, "k k C D"]) -> tuple[Float[Array, "h w D"], tuple[Array, Array]]:
    return convolved(x, kernel), (x, kernel)


def _slopes(kept: tuple[Array, Array], slope: Float[Array, "h w D"]) -> tuple[Float[Array, "h w C"], Float[Array, "k k C D"]]:
    x, kernel = kept
    in_kernel = _correlated(jnp.moveaxis(x, 2, 0)[..., None], slope[:, :, None, :], (kernel.shape[0] - 1) // 2)
    return convolved(slope, jnp.swapaxes(kernel[::-1, ::-1], 2, 3)), jnp.moveaxis(in_kernel, 0, 2)


convolved.defvjp(_kept, _slopes)


def _correlated(x: Float[Array, "n h w C"], kernel: Float[Array, "i j C D"], border: int | None = None) -> Float[Array, "n _ _ D"]:
    """With `border` zeros on every side, or as many as keep the size."""
    padding = "SAME" if border is None else [(border, border)] * 2
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _single(tree: Any) -> Any:
    """The same with all floating arrays in single precision."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if eqx.is_inexact_array(leaf) else leaf, tree)


def _begun(key: PRNGKeyArray, shapes: Sequence[tuple[int, int]]) -> tuple[Block, ...]:
    """Blocks of inputs and outputs, from one draw: every draw is a program of its own to compile."""
    sizes = [9 * before * after for inputs, after in shapes for before in (inputs, after)]
    ends = np.cumsum(sizes)
    draws = jnp.split(jax.random.normal(key, (int(ends[-1]),)), ends[:-1])
    return tuple(Block(draws[2 * i : 2 * i + 2], *shape) for i, shape in enumerate(shapes))


def _descent(inputs: int, channels: Sequence[int], patch: int) -> list[tuple[int, int]]:
    """Inputs and outputs of the blocks on the way down."""
    if not channels:
        refuse("channels", "none", "the channels of at least one scale", "Three scales, such as (16, 32, 32), are usual here.")
    widths = [checked_count("inputs", inputs, 1) * checked_count("patch", patch, 1) ** 2, *(checked_count("channels", c, 1) for c in channels)]
    return list(pairwise(widths))


def _descended(blocks: Sequence[Block], x: Float[Array, "H W C"], patch: int) -> list[Float[Array, "_ _ _"]]:
    """The maps of all scales."""
    require_scales(x.shape[:2], patch, len(blocks))
    maps = [blocks[0](patches(x.astype(jnp.float32), patch))]
    for block in blocks[1:]:
        maps.append(block(_halved(maps[-1])))
    return maps


def _halved(x: Float[Array, "h w C"]) -> Float[Array, "i j C"]:
    h, w, C = x.shape
    return jnp.mean(x.reshape(h // 2, 2, w // 2, 2, C), axis=(1, 3))


def _doubled(x: Float[Array, "h w C"]) -> Float[Array, "H W C"]:
    h, w, C = x.shape
    return jnp.broadcast_to(x[:, None, :, None, :], (h, 2, w, 2, C)).reshape(2 * h, 2 * w, C)
