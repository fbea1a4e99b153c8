"""Fractions of the training data, and what tables and plots call them."""

#: Training images of MNIST and Fashion-MNIST.
KNOWN_IMAGES = 55_000
# Rounded in each class, 49 / 55,000 are 50 images.
_OF_KNOWN = {n: n / KNOWN_IMAGES for n in (100, 600, 1000, 2000, 6000)} | {50: 49 / KNOWN_IMAGES}
_NUMBERS = {fraction: number for number, fraction in _OF_KNOWN.items()}


def of_known(*numbers):
    """The fractions of MNIST and Fashion-MNIST that are so many images."""
    return tuple(_OF_KNOWN[number] for number in numbers)


def name_of(fraction):
    """What a fraction is called: `100 images`, or `10%`."""
    number = _NUMBERS.get(fraction)
    if number:
        return f"{number:,} images"
    return f"{fraction:.{0 if fraction >= 0.01 else 2}%}"


def axis_of(values):
    """Label of an axis of fractions, and what its values are called there."""
    numbers = _NUMBERS | {1.0: KNOWN_IMAGES}
    if set(values) & set(_NUMBERS) and set(values) <= set(numbers):
        return "training images", [f"{numbers[value]:,}" for value in values]
    names = [name_of(value).removesuffix("%") for value in values]
    return "fraction of the training data, %", names
