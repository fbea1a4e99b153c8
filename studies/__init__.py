"""Comparisons of distillation methods: `python -m studies` lists them, `python -m studies NAME`.

Each module here declares a study or several, as variables that hold a
`studies.harness.definitions.Study`; the name of the variable is the name of the study. A new module
with such a variable is a new study. How studies are run, judged and reported is in
`studies.harness`.
"""
