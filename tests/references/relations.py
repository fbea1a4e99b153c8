"""NumPy float64 references of the relational and contrastive methods, from the equations."""

import itertools
import math

import numpy as np


def vectors(features):
    features = np.asarray(features, np.float64)
    return [row.ravel() for row in features]


def cosine(a, b):
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return a @ b / lengths if lengths else 0.0


def similarity_preserving(teacher, student):
    tables = []
    for features in (vectors(teacher), vectors(student)):
        table = np.array([[a @ b for b in features] for a in features])
        tables.append([row / np.linalg.norm(row) for row in table])
    count = len(tables[0])
    return np.array([((t - s) ** 2).sum() / count for t, s in zip(*tables, strict=True)])


def correlation_congruence(teacher, student, gamma=0.4, order=2):
    def kernel(a, b):
        a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
        series = sum((2 * gamma * (a @ b)) ** p / math.factorial(p) for p in range(order + 1))
        return math.exp(-2 * gamma) * series

    teacher, student = vectors(teacher), vectors(student)
    values = np.zeros(len(teacher))
    for i, j in itertools.product(range(len(teacher)), repeat=2):
        gap = kernel(teacher[i], teacher[j]) - kernel(student[i], student[j])
        values[i] += gap**2 / len(teacher)
    return values


def huber(gap):
    return 0.5 * gap**2 if abs(gap) <= 1.0 else abs(gap) - 0.5


def relational(teacher, student, distance_weight=25.0, angle_weight=50.0):
    models = [vectors(teacher), vectors(student)]
    count = len(models[0])
    pairs = list(itertools.permutations(range(count), 2))
    triplets = list(itertools.permutations(range(count), 3))
    means = [np.mean([np.linalg.norm(f[i] - f[j]) for i, j in pairs]) for f in models]
    values = np.zeros(count)
    for i, j in pairs:
        t, s = (np.linalg.norm(f[i] - f[j]) / m for f, m in zip(models, means, strict=True))
        values[i] += distance_weight * huber(t - s) * count / len(pairs)
    for i, j, k in triplets:
        t, s = (cosine(f[i] - f[j], f[k] - f[j]) for f in models)
        values[j] += angle_weight * huber(t - s) * count / len(triplets)
    return values


def probabilistic(teacher, student):
    def probabilities(features, i):
        kernels = [
            0.0 if j == i else 0.5 * (1 + cosine(features[i], features[j]))
            for j in range(len(features))
        ]
        return np.array(kernels) / sum(kernels)

    teacher, student = vectors(teacher), vectors(student)
    values = np.zeros(len(teacher))
    for i in range(len(teacher)):
        p, q = probabilities(teacher, i), probabilities(student, i)
        others = [j for j in range(len(teacher)) if j != i]
        values[i] = sum(p[j] * math.log(p[j] / q[j]) for j in others) / len(teacher)
    return values


class Contrast:
    """The contrastive loss over consecutive batches, with a Python list as its memory."""

    def __init__(self, teacher_map, student_map, entries, temperature, num_examples=None):
        self.maps = [
            [np.asarray(weight, np.float64) for weight in linear]
            for linear in (teacher_map, student_map)
        ]
        self.temperature = temperature
        self.num_examples = num_examples or 1
        self.entries = entries
        self.memory = []

    def embed(self, features, which):
        kernel, bias = self.maps[which]
        embedded = [row @ kernel + bias for row in vectors(features)]
        return [row / np.linalg.norm(row) for row in embedded]

    def values(self, teacher, student, labels):
        """The loss of each example of a batch, without adding it to the memory."""
        teacher, student = self.embed(teacher, 0), self.embed(student, 1)
        result = []
        for t, s, label in zip(teacher, student, labels, strict=True):
            negatives = [entry for entry in self.memory if entry[2] != label or label < 0]
            value = 0.0
            for anchor, positive, side in ((s, t, 0), (t, s, 1)):
                ratio = len(negatives) / self.num_examples
                value -= math.log(self._h(anchor @ positive, ratio))
                value -= sum(math.log(1 - self._h(anchor @ n[side], ratio)) for n in negatives)
            result.append(value)
        return np.array(result)

    def remember(self, teacher, student, labels):
        batch = zip(self.embed(teacher, 0), self.embed(student, 1), labels, strict=True)
        self.memory = (list(batch) + self.memory)[: self.entries]

    def _h(self, product, ratio):
        exponential = math.exp(product / self.temperature)
        return exponential / (exponential + ratio)


def numerical_gradient(function, point, step=1e-6):
    """Central differences of a function of one float64 array."""
    point = np.asarray(point, np.float64)
    gradient = np.zeros_like(point)
    for index in np.ndindex(*point.shape):
        moved = point.copy(), point.copy()
        moved[0][index] += step
        moved[1][index] -= step
        gradient[index] = (function(moved[0]) - function(moved[1])) / (2 * step)
    return gradient
