"""Teachers and students, as plain values."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A small network of a task, such as `l2rkd_tf.models.convnet` of images.

    Attributes:
        widths: Width of each layer or block.
        convs_per_block: Convolutions in each block of a network of images.
    """

    widths: tuple
    convs_per_block: int = 1

    @property
    def label(self):
        """What tells it apart in a file's name."""
        return f"{'x'.join(map(str, self.widths))}_{self.convs_per_block}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network of images of the catalogue, `l2rkd_tf.models.get`.

    Attributes:
        name: Its name.
    """

    name: str

    @property
    def label(self):
        """What tells it apart in a file's name."""
        return self.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A teacher and its student."""

    teacher: Network | Architecture
    student: Network | Architecture
