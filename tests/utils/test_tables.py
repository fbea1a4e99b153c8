"""Tables in Markdown."""

from l2rkd_tf.utils.tables import cell, markdown_table


def test_numbers_are_aligned_to_the_right_and_texts_to_the_left():
    lines = markdown_table(["name", "value"], [["a|b", 1.0], ["two\nlines", "**12.5 ± 0.1**"]])
    assert lines.splitlines() == [
        "| name      |          value |",
        "|:----------|---------------:|",
        "| a\\|b      |              1 |",
        "| two lines | **12.5 ± 0.1** |",
    ]


def test_a_cell_is_one_line():
    values = (1 / 3, None, [1, "a"], "x\n | y")
    assert [cell(value) for value in values] == ["0.333333", "null", '[1, "a"]', "x \\| y"]


def test_a_cell_shows_names_in_all_scripts():
    """A folder may have a name that is not in UTF-8, which Python reads as surrogates."""
    assert cell(["café", "猫"]) == '["café", "猫"]'
    assert cell("caf\udce9") == "caf\\udce9"
