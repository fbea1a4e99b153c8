"""The figures of `l2rkd inspect`: fidelity and local shape of a teacher and its students."""

import numpy as np

from l2rkd_tf import geometry, plots

EXAMPLES_OF_A_MAP = 3
GAP_FRACTIONS = tuple(np.linspace(0.1, 0.9, 9).round(1).tolist())


def draw_all(models, profiles, examples, region, *, class_names, resolution, batch_size, seed):
    """Draws all figures.

    Args:
        models: The teacher and the students by name.
        profiles: `l2rkd_tf.geometry.FidelityProfile` of each student by name.
        examples: Images and labels, two arrays.
        region: Region of the images.
        class_names: Names of the classes, or `None`.
        resolution: Points along each side of the decision map.
        batch_size: Examples in a batch.
        seed: Seed of the random partners.

    Returns:
        Figures by name, and why models have no linear radius, a text by the model's name.
    """
    images, labels = examples
    radii, refused = draw_radii(models, images, batch_size)
    figures = {
        "fidelity": plots.fidelity_profiles(profiles),
        "decision_map": len(images) >= EXAMPLES_OF_A_MAP
        and plots.decision_map(
            models, three_examples(images, labels), class_names=class_names, resolution=resolution
        ),
        "linearity_gap": draw_linearity(models, images, region, batch_size, seed),
        "linear_radii": radii,
    }
    return {name: figure for name, figure in figures.items() if figure}, refused


def draw_linearity(models, images, region, batch_size, seed):
    """The gap on the way to random partners, with the radius of a region that takes such."""
    partners = random_partners(images, seed)
    gaps = {
        name: geometry.linearity_gap(model, images, partners, GAP_FRACTIONS, batch_size=batch_size)
        for name, model in models.items()
    }
    has_random_partners = region.get_config().get("partner") == "random"
    return plots.linearity_gap(gaps, region.radius if has_random_partners else None)


def draw_radii(models, images, batch_size):
    """Exact linear radii of the piecewise-linear models; why the others have none, by name."""
    directions, distances = towards_neighbours(images)
    radii, refused = {}, {}
    for name, model in models.items():
        try:
            radii[name] = geometry.linear_radius(model, images, directions, batch_size=batch_size)
        except ValueError as error:
            refused[name] = str(error)
    return (plots.linear_radii(radii, distances) if radii else None), refused


def random_partners(images, seed):
    """A different example for each one, drawn without replacement."""
    order = np.random.default_rng(seed).permutation(len(images))
    partners = np.empty_like(images)
    partners[order] = images[np.roll(order, 1)]
    return partners


def towards_neighbours(images):
    """Directions of length 1 to the nearest different example, and its distance."""
    flat = images.reshape(len(images), -1).astype("float64")
    distances = np.stack([np.linalg.norm(flat - point, axis=1) for point in flat])
    distances[distances == 0.0] = np.inf
    nearest = distances.argmin(axis=1)
    distances = distances.min(axis=1)
    directions = (flat[nearest] - flat) / distances[:, None]
    return directions.reshape(images.shape), distances


def three_examples(images, labels):
    """The first example of each of the first three classes; any three where classes are fewer."""
    firsts = np.sort(np.unique(labels, return_index=True)[1]).tolist()
    others = [row for row in range(len(images)) if row not in firsts]
    return images[(firsts + others)[:EXAMPLES_OF_A_MAP]]
