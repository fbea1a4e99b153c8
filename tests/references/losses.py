"""NumPy float64 references, written from the equations."""

import numpy as np


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def softmax(logits):
    return np.exp(log_softmax(logits))


def kl(teacher_logits, student_logits, temperature=1.0):
    """`tau^2 KL(softmax(t / tau) || softmax(s / tau))`, shape `(batch,)`."""
    teacher = log_softmax(np.asarray(teacher_logits, np.float64) / temperature)
    student = log_softmax(np.asarray(student_logits, np.float64) / temperature)
    return temperature**2 * (np.exp(teacher) * (teacher - student)).sum(axis=-1)


def kl_gradient(teacher_logits, student_logits, temperature=1.0):
    """Gradient of `kl` with respect to the student's logits: `tau (q - p)`."""
    teacher = softmax(np.asarray(teacher_logits, np.float64) / temperature)
    student = softmax(np.asarray(student_logits, np.float64) / temperature)
    return temperature * (student - teacher)


def log_sigmoid(logits):
    return -np.logaddexp(0.0, -np.asarray(logits, np.float64))


def binary_kl(teacher_logits, student_logits, temperature=1.0):
    """Mean over outputs of `tau^2 KL` between Bernoulli distributions, shape `(batch,)`."""
    t = np.asarray(teacher_logits, np.float64) / temperature
    s = np.asarray(student_logits, np.float64) / temperature
    yes = np.exp(log_sigmoid(t)) * (log_sigmoid(t) - log_sigmoid(s))
    no = np.exp(log_sigmoid(-t)) * (log_sigmoid(-t) - log_sigmoid(-s))
    return temperature**2 * (yes + no).mean(axis=-1)


def binary_kl_gradient(teacher_logits, student_logits, temperature=1.0):
    t = np.asarray(teacher_logits, np.float64) / temperature
    s = np.asarray(student_logits, np.float64) / temperature
    return temperature * (np.exp(log_sigmoid(s)) - np.exp(log_sigmoid(t))) / t.shape[-1]


def mse(teacher, student, temperature=1.0):
    del temperature
    return ((np.asarray(teacher, np.float64) - student) ** 2).mean(axis=-1)


def mse_gradient(teacher, student, temperature=1.0):
    del temperature
    student = np.asarray(student, np.float64)
    return 2.0 * (student - teacher) / student.shape[-1]


def move(points, partners, weights):
    """`x + sum_j lambda_j (x_j - x)`, by loops; weights `(batch, m)` or `(batch, m, *cells)`."""
    points, weights = np.asarray(points, np.float64), np.asarray(weights, np.float64)
    moved = points.copy()
    for i, x in enumerate(points):
        for j, partner in enumerate(partners[i]):
            difference = points[partner] - x
            if 2 < weights.ndim == points.ndim:
                cells, sizes = weights.shape[2:], x.shape[:-1]
                for place in np.ndindex(*sizes):
                    cell = tuple(p * c // s for p, c, s in zip(place, cells, sizes, strict=True))
                    moved[(i, *place)] += weights[i, j][cell] * difference[place]
            else:
                moved[i] += weights[i, j].mean() * difference
    return moved


def ks_distance(sample, cumulative):
    """Largest distance between the distribution of a sample and a cumulative distribution."""
    expected = cumulative(np.sort(np.asarray(sample, np.float64).ravel()))
    steps = np.arange(expected.size + 1) / expected.size
    return max(np.abs(expected - steps[1:]).max(), np.abs(expected - steps[:-1]).max())


def nearest(points):
    """Row of the nearest other point of each point, by brute force."""
    points = np.asarray(points, np.float64).reshape(len(points), -1)
    distances = ((points[:, None] - points) ** 2).sum(axis=-1)
    np.fill_diagonal(distances, np.inf)
    return distances.argmin(axis=1)
