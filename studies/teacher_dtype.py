"""Does a teacher that computes in bfloat16 cost the student accuracy?

Primary contrast, written down before it ran: bfloat16 minus float32. Nothing is chosen, as in
`f1_fashion`, whose teachers these are.
"""

from studies.harness.definitions import Method, Study
from studies.networks import FASHION, HALF, SMALL_STUDENT

teacher_dtype = Study(
    title="A teacher that computes in bfloat16, Fashion-MNIST",
    **FASHION,
    pairs={"fashion": SMALL_STUDENT},
    methods={
        "float32": Method(kind="l2rkd", options=HALF, against="float32"),
        "bfloat16": Method(
            kind="l2rkd", options=HALF | {"teacher_dtype": "bfloat16"}, against="float32"
        ),
    },
    fractions=(0.05,),
    measures=(),
)
