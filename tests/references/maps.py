"""NumPy float64 references of the methods that compare feature maps, by loops over the equations.

Features are lists of arrays, one for each layer; the results have shape `(batch,)`.
"""

import math

import numpy as np


def random_features(shapes, seed=0):
    """Float32 numbers, so that the library and the reference start from the same ones."""
    generator = np.random.default_rng(seed)
    return [generator.normal(size=shape).astype("float32") for shape in shapes]


def finite_difference(function, array, step=1e-6):
    """Gradient of a scalar function of one array, by central differences."""
    array = np.array(array, np.float64)
    gradient = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        moved = [array.copy(), array.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        gradient[index] = (function(moved[0]) - function(moved[1])) / (2 * step)
    return gradient


def pool(features, sizes):
    """Mean over each of `sizes` blocks, which overlap where the sizes do not divide."""
    features = np.asarray(features, np.float64)
    pooled = np.zeros((len(features), *sizes, features.shape[-1]))
    for place in np.ndindex(*sizes):
        block = features
        for axis, (i, size) in enumerate(zip(place, sizes, strict=True), start=1):
            n = features.shape[axis]
            rows = range(math.floor(i * n / size), math.ceil((i + 1) * n / size))
            block = block.take(rows, axis)
        pooled[(slice(None), *place)] = block.mean(axis=tuple(range(1, features.ndim - 1)))
    return pooled


def pool_both(first, second):
    sizes = np.minimum(first.shape[1:-1], second.shape[1:-1])
    return pool(first, sizes), pool(second, sizes)


def match(teacher, student):
    """Float64 features of one size."""
    teacher, student = np.asarray(teacher, np.float64), np.asarray(student, np.float64)
    return pool_both(teacher, student) if teacher.ndim > 2 else (teacher, student)


def unit(vector):
    length = math.sqrt((vector**2).sum())
    return vector / length if length > 0 else vector


def attention_transfer(teacher, student, power=2.0):
    values = np.zeros(len(teacher[0]))
    for pair in zip(teacher, student, strict=True):
        for example, maps in enumerate(zip(*match(*pair), strict=True)):
            attention = [unit((np.abs(m) ** power).sum(axis=-1).ravel()) for m in maps]
            values[example] += ((attention[0] - attention[1]) ** 2).mean()
    return values


def neuron_selectivity(teacher, student):
    def mean_kernel(first, second):
        return np.mean([[np.dot(a, b) ** 2 for b in second] for a in first])

    values = np.zeros(len(teacher[0]))
    for pair in zip(teacher, student, strict=True):
        for example, maps in enumerate(zip(*match(*pair), strict=True)):
            t, s = ([unit(m[..., c].ravel()) for c in range(m.shape[-1])] for m in maps)
            values[example] += mean_kernel(t, t) + mean_kernel(s, s) - 2 * mean_kernel(t, s)
    return values


def flow_of_solution(teacher, student):
    def matrix(layers, step, example):
        lower, upper = (
            layer[example].reshape(-1, layer.shape[-1])
            for layer in match(layers[step], layers[step + 1])
        )
        return np.mean([np.outer(*pair) for pair in zip(lower, upper, strict=True)], axis=0)

    values = np.zeros(len(teacher[0]))
    for example in range(len(values)):
        for step in range(len(teacher) - 1):
            difference = matrix(teacher, step, example) - matrix(student, step, example)
            values[example] += (difference**2).mean()
    return values


def fitnet(teacher, student, kernel=None, bias=None):
    """Mean squared error of the hint; the features of one layer."""
    teacher, student = match(teacher, student)
    if kernel is not None:
        student = student @ np.asarray(kernel, np.float64) + bias
    return np.array([((t - s) ** 2).mean() for t, s in zip(teacher, student, strict=True)])


def variational_information(teacher, student, kernels, alphas, epsilon):
    """`-log q(t | s)` without its constant; `kernels` is a list for each pair of layers."""
    values = np.zeros(len(teacher[0]))
    for t, s, layers, alpha in zip(teacher, student, kernels, alphas, strict=True):
        t, mean = match(t, s)
        for number, kernel in enumerate(layers):
            mean = mean @ np.asarray(kernel, np.float64)
            if number < len(layers) - 1:
                mean = np.maximum(mean, 0.0)
        deviation = np.sqrt(np.log1p(np.exp(np.asarray(alpha, np.float64))) + epsilon)
        for example in range(len(values)):
            terms = np.log(deviation) + (t[example] - mean[example]) ** 2 / (2 * deviation**2)
            values[example] += terms.mean()
    return values
