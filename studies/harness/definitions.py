"""What a study says: data, teachers and students, methods, and how long they train.

These are plain values, and this module does not import TensorFlow.
"""

import dataclasses
import itertools

from studies.harness import tasks

KINDS = ("none", "kd", "l2rkd", "asked_once", "funmatch", "mixup_kd", "noise_kd", "pe_bkd")
BATCH_NORMS = ("joint", "two passes", "frozen in regions", "recalibrated")
MEASURES = ("corruptions", "local_shape")
VARIANTS = (
    "", "augmented views", "augmented views first", "data last", "falling weight",
    "growing radius", "hardest of 4", "temperature 2", "temperature 8", "warm-up",
)  # fmt: skip
#: Steps of the first round of a ranking, as a share of those of a reported run.
SHARE_OF_RANKING = 0.075


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """A way of training the student.

    Attributes:
        kind: `"none"` for labels only, `"kd"`, `"l2rkd"`, `"asked_once"` for L2RKD with points of
            `teacher_cache.cache_regions`, or a function of `l2rkd_tf.methods` that returns
            arguments of `L2RKDDistiller`.
        arguments: Arguments of that function.
        options: Arguments of `L2RKDDistiller`; `region` as a text, as for `l2rkd distill --region`.
        distillation_loss: Name of a published method that is added, as for
            `l2rkd distill --methods`; empty for none.
        distillation_loss_arguments: Arguments of its class.
        choose: Values of `learning_rate`, of options and arguments, among which validation chooses.
        settings_of: Another method of the study. What validation chose for it is used here too.
        against: The method that this one is compared with.
        batch_norm: `"joint"` passes training and region points through the student together, as
            the distiller does; `"two passes"` one after the other; `"frozen in regions"` also, the
            second one with the statistics of inference; `"recalibrated"` estimates the statistics
            from the training points only, when training is over.
        augment: Augmentation of the images that both networks see, as for `l2rkd_tf.data.load`;
            empty for none.
        variant: A way to choose or to weight region points that the library does not have, or
            another schedule of the learning rate, of `studies.harness.variants`; empty for none.

    Raises:
        ValueError: If `kind`, `batch_norm` or `variant` is unknown.
    """

    kind: str
    arguments: dict = dataclasses.field(default_factory=dict)
    options: dict = dataclasses.field(default_factory=dict)
    distillation_loss: str = ""
    distillation_loss_arguments: dict = dataclasses.field(default_factory=dict)
    choose: dict = dataclasses.field(default_factory=dict)
    settings_of: str = ""
    against: str = "KD"
    batch_norm: str = "joint"
    augment: str = ""
    variant: str = ""

    def __post_init__(self):
        """Checks the names."""
        for name, known in (
            ("kind", KINDS),
            ("batch_norm", BATCH_NORMS),
            ("variant", VARIANTS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"`{name}` must be one of {known}. Received: {name}={getattr(self, name)!r}"
                )

    def settings(self):
        """All combinations of the values to choose from."""
        names = list(self.choose)
        return [
            dict(zip(names, values, strict=True))
            for values in itertools.product(*self.choose.values())
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """Tables with a row for each published method and a column for each of its companions.

    Attributes:
        label: Heading of the rows.
        rows: `{row: {column: method}}`, with the names of the study's methods.
        setting: Heading of a column with a chosen setting, of each method of the row, and the name
            of the setting.
        differences: `{heading: (column, other)}` of paired differences within a row; where `other`
            isn't a column, it is the method that every row is compared with.
        counts: For each of the differences, a heading for the number of rows that gain beyond the
            95 % confidence interval; the number of those that lose is shown next to it.
    """

    label: str
    rows: dict
    setting: tuple
    differences: dict
    counts: tuple

    @property
    def columns(self):
        """The columns, in the order of the first row."""
        return list(next(iter(self.rows.values())))

    def compared(self, row, heading):
        """The two methods of a paired difference, or `None` where the row has none."""
        column, other = self.differences[heading]
        methods = self.rows[row]
        pair = methods.get(column), methods.get(other, None if other in self.columns else other)
        return None if None in pair or pair[0] == pair[1] else pair


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A comparison of methods.

    All methods get the same compute: `steps` are those of plain distillation, and a method that
    evaluates a network on more inputs in a step takes fewer of them.

    Attributes:
        title: What it is about.
        dataset: Dataset that needs no download, as for `tasks.get`; empty where the name of each
            pair is that of its dataset.
        pairs: `{name: Pair}`.
        methods: `{name: Method}`.
        fractions: Fractions of the training data.
        lengths: Multiples of `steps`.
        steps: Steps of plain distillation.
        batch_size: Examples of a step of a student.
        seeds: Seeds of the reported runs; a seed decides few-shot subset, initial weights, order
            and draws, so that differences between methods are paired.
        tuning_seeds: Seeds of the runs that choose the settings.
        tuning_fraction: Fraction of the training data with which they are chosen.
        teacher_steps: Steps of the teacher, with random crops of images.
        teacher_batch_size: Examples of a step of the teacher.
        teacher_learning_rate: Initial learning rate of the teacher.
        teacher_augment: Augmentation of its images, of MNIST and Fashion-MNIST; empty for none.
        teacher_of_fraction: Whether the teacher of a seed is trained on the student's fraction of
            the data, one for each fraction, instead of all of it.
        learning_rate: Initial learning rate of methods that do not choose it.
        measures: What is measured of a student in addition to its accuracy: `"corruptions"`,
            accuracy on corrupted images, and `"local_shape"`, how it compares with the teacher in
            the region around each test image.
        ranked: Methods whose regions `l2rkd_tf.rank_regions` ranks by short trainings; the order is
            compared with that of the students' accuracies.
        contrasts: Pairs of `(method, fraction, length)` whose difference is also reported.
        grid: Tables of published methods and their companions, a `Grid`; `None` for the usual ones.

    Raises:
        ValueError: If a method is compared with one that is absent, or takes
            the settings of an absent one, or a number is out of range.
    """

    title: str
    dataset: str
    pairs: dict
    methods: dict
    fractions: tuple
    lengths: tuple = (1.0,)
    steps: int = 1500
    batch_size: int = 50
    seeds: tuple = (0, 1, 2, 3, 4)
    tuning_seeds: tuple = (100, 101)
    tuning_fraction: float = 0.1
    teacher_steps: int = 2000
    teacher_batch_size: int = 50
    teacher_learning_rate: float = 4e-3
    teacher_augment: str = ""
    teacher_of_fraction: bool = False
    learning_rate: float = 3e-2
    measures: tuple = ("corruptions",)
    ranked: tuple = ()
    contrasts: tuple = ()
    grid: Grid | None = None

    def __post_init__(self):
        """Checks what the methods refer to, and the numbers."""
        for name, method in self.methods.items():
            self._check_method(name, method)
        if set(self.seeds) & set(self.tuning_seeds):
            raise ValueError(
                "`tuning_seeds` must differ from `seeds`. Received: "
                f"seeds={self.seeds}, tuning_seeds={self.tuning_seeds}"
            )
        if not all(0 < fraction <= 1 for fraction in (*self.fractions, self.tuning_fraction)):
            raise ValueError(f"`fractions` must be in (0, 1]. Received: {self.fractions}")
        if set(self.measures) - set(MEASURES):
            raise ValueError(f"`measures` must be among {MEASURES}. Received: {self.measures}")

    def _check_method(self, name, method):
        if method.against not in self.methods:
            raise ValueError(
                f"`against` of {name!r} must be a method of the study. Received: {method.against!r}"
            )
        if method.settings_of and method.settings_of not in self.methods:
            raise ValueError(
                f"`settings_of` of {name!r} must be a method of the study. "
                f"Received: {method.settings_of!r}"
            )

    def dataset_of(self, pair):
        """Name of the dataset of a pair."""
        return self.dataset or pair

    @property
    def teacher_keys(self):
        """What tells teachers of one dataset and network apart."""
        return ("seed", "fraction") if self.teacher_of_fraction else ("seed",)

    @property
    def score(self):
        """What students are judged by, in words."""
        return tasks.score_of(self.dataset)

    def tuned_by(self, name):
        """Name of the method whose chosen settings a method is trained with."""
        return self.methods[name].settings_of or name

    def __str__(self):
        """A line for each value, and for each pair and method."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        lines = [f"{name} = {value!r}" for name, value in values.items() if name != "methods"]
        methods = [f"  {name!r}: {method}" for name, method in self.methods.items()]
        return "\n".join([*lines, "methods =", *methods])
