"""Published methods that are settings of `L2RKDDistiller`: they distil points, not features.

Each function returns keyword arguments: `L2RKDDistiller(teacher, student, **funmatch())`. To change
one of them, `**(funmatch() | {"region_weight": 2.0})`; set `temperature` yourself.
"""

from typing import Any

from l2rkd_tf.regions import Ball, Patch, Segment
from l2rkd_tf.utils.validation import is_positive_float32

__all__ = ["funmatch", "mixup_kd", "noise_kd", "pe_bkd"]


def mixup_kd(alpha: float = 1.0) -> dict[str, Any]:
    """Distillation on mixup points, with the teacher's outputs as targets.

    ```
    x' = x + lambda (x_1 - x),    lambda ~ Beta(alpha, alpha)
    ```

    As in the papers: the points, with the teacher run on them. How this differs from the papers:
    the hard loss is that of the training examples, where a mixup loss would mix labels; every
    example draws its own `lambda`, and never mixes with itself. The weights are those of plain
    distillation, `hard_weight=0.1` and 0.9 for the teacher.

    The student also runs on the training examples, for the hard loss, the metrics and BatchNorm.
    Add `replace_fraction=0.5` for the cost of plain distillation.

    Args:
        alpha: Parameter of the Beta distribution, positive; 1 is uniform.

    Returns:
        Keyword arguments of `L2RKDDistiller`.

    Raises:
        ValueError: If `alpha` is not positive.

    Example:
        >>> sorted(mixup_kd(alpha=0.2))
        ['hard_weight', 'kd_weight', 'region', 'region_weight']

    Reference: Zhang et al., mixup (arXiv:1710.09412), equation 1; used for distillation by Liang et
    al., MixKD (arXiv:2011.00593), and compared with other augmentations by Wang et al., What Makes
    a "Good" Data Augmentation in Knowledge Distillation (arXiv:2012.02909).
    """
    return {
        "region": Segment(alpha=alpha),
        "hard_weight": 0.1,
        "kd_weight": 0.0,
        "region_weight": 0.9,
    }


def funmatch() -> dict[str, Any]:
    """Function matching: distillation only on mixup points, without labels.

    As in the paper: points mixed uniformly along the segment between two examples, the same points
    for both models, and no loss except the divergence from the teacher. How this differs from the
    paper: every example draws its own coefficient (the authors' code draws one for each batch), and
    the student also runs on the training examples, for the metrics and BatchNorm. With
    `replace_fraction=0.9`, for example, only on a few of them.

    The rest of the paper's recipe is up to you: strong random crops, the same for both models
    (augment the dataset), a temperature of 1 (in the authors' settings for ImageNet), and very many
    epochs.

    Returns:
        Keyword arguments of `L2RKDDistiller`.

    Example:
        >>> funmatch()["hard_weight"]
        0.0

    Reference: Beyer et al., Knowledge Distillation: A Good Teacher is Patient and Consistent
    (arXiv:2106.05237), section 3.
    """
    return {
        "region": Segment(),
        "hard_weight": 0.0,
        "kd_weight": 0.0,
        "region_weight": 1.0,
    }


def noise_kd(stddev: float) -> dict[str, Any]:
    """Distillation on training examples with Gaussian noise; matches gradients if it is small.

    ```
    x' = x + stddev * n,    n ~ N(0, 1) in each coordinate
    ```

    As in the paper: the points, with the teacher run on them. How this differs from the paper: the
    divergence is the distiller's, where the paper's analysis has squared errors
    (`divergence="mse"`, at any temperature) or a cross entropy, and the hard loss is that of the
    examples without noise. The student also runs on the training examples, for the hard loss, the
    metrics and BatchNorm. `JacobianMatching` is the explicit form.

    Args:
        stddev: Standard deviation of the noise, positive, in units of the input.

    Returns:
        Keyword arguments of `L2RKDDistiller`.

    Raises:
        ValueError: If `stddev` is not positive.

    Example:
        >>> noise_kd(stddev=0.1)["region"]
        Ball(radius=0.1, norm='gaussian')

    Reference: Srinivas and Fleuret, Knowledge Transfer with Jacobian Matching (arXiv:1803.00443),
    section 3.
    """
    if not is_positive_float32(stddev):
        raise ValueError(f"`stddev` must be a finite number above 0. Received: stddev={stddev!r}")
    return {
        "region": Ball(radius=stddev, norm="gaussian"),
        "hard_weight": 0.1,
        "kd_weight": 0.0,
        "region_weight": 0.9,
    }


def pe_bkd(grid: int | tuple[int, int] = 2, alpha: float = 1.0) -> dict[str, Any]:
    """Distillation on images mixed patch by patch: the points of PE-BKD, without its search.

    As in the paper: patches of two images are mixed by coefficients of a Beta distribution, and the
    teacher is run on the mixture. The authors' code uses a batch of mixtures with probability 0.7,
    with weight 1, else a batch of training examples, with weights 0.1 (labels) and 0.9 (teacher).
    Here 0.7 of every batch are mixtures, and the weights make the objective the expectation of
    theirs.

    How this differs from the paper: every 50 epochs, the paper searches for the patch size and
    alpha at which student and teacher differ most, the "blind" region;
    `callbacks.BlindRegionSearch` does that. Each example draws its own coefficients, and never
    mixes with itself.

    Args:
        grid: Patches in each direction. The authors choose between 1 and 2 for images of 32 x 32.
        alpha: Parameter of the Beta distribution, positive. The authors choose among 0.1,
            0.5 and 1.

    Returns:
        Keyword arguments of `L2RKDDistiller`.

    Raises:
        ValueError: If `grid` is not a positive integer or a pair of them, or `alpha` is not
            positive.

    Example:
        >>> settings = pe_bkd(grid=2, alpha=0.5)
        >>> settings["region"].grid, settings["replace_fraction"]
        (2, 0.7)

    Reference: Deng, Zheng and Zhang, Personalized Education: Blind Knowledge Distillation (ECCV
    2022); settings from the authors' code.
    """
    return {
        "region": Patch(grid=grid, alpha=alpha),
        "replace_fraction": 0.7,
        "hard_weight": 0.03,
        "kd_weight": 0.27,
        "region_weight": 0.7,
    }
