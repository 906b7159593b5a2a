"""Small float32 kernels that encoders and rescorers are made of: products, softmax, layer norm.

Weights are stored (in, out), so inner loops run over consecutive outputs and vectorise.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

import numpy as np

from sparcode.jit import contracted, reordered

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_TWO = np.float32(2.0)
_LOWEST = np.float32(-87.0)
_HIGHEST = np.float32(88.0)
_LOG2_E = np.float32(1.44269504)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_P0, _P1, _P2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_P3, _P4, _P5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
_BIAS = np.int32(127)
_OFFSET = np.float32(127.5)
_MANTISSA = np.int32(23)


@contracted
def exp32(x):
    """Return e^x in float32, x clipped to [-87, 88], relative error about 1e-7 (Cephes expf); it vectorises."""
    x = min(max(x, _LOWEST), _HIGHEST)
    # The offset makes the sum positive, so that truncation rounds to the nearest power of two.
    exponent = np.int32(x * _LOG2_E + _OFFSET)
    whole = np.float32(exponent - _BIAS)
    x = x - whole * _LN2_HIGH
    x = x - whole * _LN2_LOW
    y = ((((_P0 * x + _P1) * x + _P2) * x + _P3) * x + _P4) * x + _P5
    power = np.int32(exponent << _MANTISSA)
    return (y * x * x + x + _ONE) * power.view(np.float32)


@contracted
def sigmoid_in_place(x):
    """Replace every x by 1 / (1 + e^-x)."""
    for i in range(x.shape[0]):
        x[i] = _ONE / (_ONE + exp32(-x[i]))


@contracted
def tanh_in_place(x):
    """Replace every x by 1 - 2 / (1 + e^2x)."""
    for i in range(x.shape[0]):
        x[i] = _ONE - _TWO / (_ONE + exp32(x[i] + x[i]))


@reordered
def dot(a, b):
    """Return the inner product of two vectors."""
    total = _ZERO
    for i in range(a.shape[0]):
        total += a[i] * b[i]
    return total


@reordered
def mean_of(x):
    """Return the mean of a vector."""
    total = _ZERO
    for i in range(x.shape[0]):
        total += x[i]
    return total / np.float32(x.shape[0])


@reordered
def variance_of(x, mean):
    """Return the biased variance of a vector around ``mean``."""
    total = _ZERO
    for i in range(x.shape[0]):
        total += (x[i] - mean) * (x[i] - mean)
    return total / np.float32(x.shape[0])


@contracted
def softmax_in_place(x, count):
    """Replace ``x[:count]`` by its softmax."""
    highest = x[0]
    for i in range(1, count):
        highest = max(highest, x[i])
    for i in range(count):
        x[i] = exp32(x[i] - highest)
    factor = _ONE / (mean_of(x[:count]) * np.float32(count))
    for i in range(count):
        x[i] *= factor


@contracted
def add_product(x, weight, out):
    """Add ``x @ weight`` to ``out``; ``weight`` is (len(x), len(out))."""
    rows, columns = weight.shape
    i = 0
    # Four rows a pass: one load and one store of `out` serve four multiplications.
    while i + 4 <= rows:
        a, b, c, d = x[i], x[i + 1], x[i + 2], x[i + 3]
        for j in range(columns):
            # One product a statement: in `p * q + r * s` either product may be the fused one, and the vector and
            # the scalar version of the loop need not choose alike.
            total = out[j] + a * weight[i, j]
            total += b * weight[i + 1, j]
            total += c * weight[i + 2, j]
            out[j] = total + d * weight[i + 3, j]
        i += 4
    while i < rows:
        for j in range(columns):
            out[j] += x[i] * weight[i, j]
        i += 1


@contracted
def add_products(x, weight, out):
    """Add ``x @ weight`` to ``out`` for rows x (T, in), out (T, out); every row as ``add_product``, bit for bit.

    Four rows share each load of the weights, which do not stay in the first cache.
    """
    rows, columns = weight.shape
    count = x.shape[0]
    t = 0
    while t + 4 <= count:
        p, q, r, s = out[t], out[t + 1], out[t + 2], out[t + 3]
        i = 0
        while i + 4 <= rows:
            p0, p1, p2, p3 = x[t, i], x[t, i + 1], x[t, i + 2], x[t, i + 3]
            q0, q1, q2, q3 = x[t + 1, i], x[t + 1, i + 1], x[t + 1, i + 2], x[t + 1, i + 3]
            r0, r1, r2, r3 = x[t + 2, i], x[t + 2, i + 1], x[t + 2, i + 2], x[t + 2, i + 3]
            s0, s1, s2, s3 = x[t + 3, i], x[t + 3, i + 1], x[t + 3, i + 2], x[t + 3, i + 3]
            for j in range(columns):
                a, b, c, d = weight[i, j], weight[i + 1, j], weight[i + 2, j], weight[i + 3, j]
                total = p[j] + p0 * a
                total += p1 * b
                total += p2 * c
                p[j] = total + p3 * d
                total = q[j] + q0 * a
                total += q1 * b
                total += q2 * c
                q[j] = total + q3 * d
                total = r[j] + r0 * a
                total += r1 * b
                total += r2 * c
                r[j] = total + r3 * d
                total = s[j] + s0 * a
                total += s1 * b
                total += s2 * c
                s[j] = total + s3 * d
            i += 4
        while i < rows:
            for k in range(t, t + 4):
                for j in range(columns):
                    out[k, j] += x[k, i] * weight[i, j]
            i += 1
        t += 4
    while t < count:
        add_product(x[t], weight, out[t])
        t += 1


@contracted
def affine_rows(x, weight, bias, out):
    """Set ``out[t] = x[t] @ weight + bias`` for every row."""
    for t in range(x.shape[0]):
        for j in range(bias.shape[0]):
            out[t, j] = bias[j]
    add_products(x, weight, out)


@contracted
def affine(x, weight, bias, out):
    """Set ``out = x @ weight + bias``."""
    for j in range(bias.shape[0]):
        out[j] = bias[j]
    add_product(x, weight, out)


@contracted
def affine_relu(x, weight, bias, out):
    """Set ``out = max(x @ weight + bias, 0)``."""
    affine(x, weight, bias, out)
    for j in range(out.shape[0]):
        out[j] = max(out[j], _ZERO)


@contracted
def layer_norm(x, gain, offset, epsilon, out):
    """Set ``out = (x - mean) / sqrt(variance + epsilon) * gain + offset``; variance is the biased one."""
    mean = mean_of(x)
    scale = _ONE / np.sqrt(variance_of(x, mean) + epsilon)
    for i in range(x.shape[0]):
        out[i] = (x[i] - mean) * scale * gain[i] + offset[i]
