"""NumPy float64 references of the methods on logits, written from the papers' equations."""

import numpy as np

from tests.references.losses import softmax


def decoupled_parts(teacher, student, target, temperature):
    """`tau^2 TCKD` and `tau^2 NCKD`, by loops over examples and classes."""
    parts = np.zeros((2, len(teacher)))
    for i, y in enumerate(target):
        p = softmax(np.asarray(teacher[i], np.float64) / temperature)
        q = softmax(np.asarray(student[i], np.float64) / temperature)
        others = [c for c in range(len(p)) if c != y]
        # Summed without the target: 1 - p[y] would lose the digits of a confident model.
        p_others, q_others = p[others].sum(), q[others].sum()
        parts[0, i] = p[y] * np.log(p[y] / q[y]) + p_others * np.log(p_others / q_others)
        for c in others:
            shares = p[c] / p_others, q[c] / q_others
            parts[1, i] += shares[0] * np.log(shares[0] / shares[1])
    return temperature**2 * parts


def dkd(teacher, student, target, alpha, beta, temperature):
    of_target, of_others = decoupled_parts(teacher, student, target, temperature)
    return alpha * of_target + beta * of_others


def pearson(first, second):
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    return np.corrcoef(first, second)[0, 1]


def dist(teacher, student, beta, gamma, temperature):
    """The paper's loss of a batch, a scalar."""
    p = softmax(np.asarray(teacher, np.float64) / temperature)
    q = softmax(np.asarray(student, np.float64) / temperature)
    inter = np.mean([1.0 - pearson(p[i], q[i]) for i in range(len(p))])
    intra = np.mean([1.0 - pearson(p[:, c], q[:, c]) for c in range(p.shape[1])])
    return temperature**2 * (beta * inter + gamma * intra)


def normalized_kl(teacher, student, temperature):
    values = []
    for t, s in zip(np.asarray(teacher, np.float64), np.asarray(student, np.float64), strict=True):
        p, q = (softmax((z - z.mean()) / z.std() / temperature) for z in (t, s))
        values.append(temperature**2 * (p * np.log(p / q)).sum())
    return np.array(values)


def finite_difference(function, point, step=1e-5):
    """Gradient of a function of a float64 array, by central differences."""
    point = np.array(point, np.float64)
    gradient = np.zeros_like(point)
    for index in np.ndindex(point.shape):
        difference = []
        for sign in (1.0, -1.0):
            moved = point.copy()
            moved[index] += sign * step
            difference.append(function(moved))
        gradient[index] = (difference[0] - difference[1]) / (2.0 * step)
    return gradient
