"""Glyphs that tests share."""

from l2rkd_tf.data import glyphs, glyphs_draws, glyphs_images

CONFIGS = {config.name: config for config in glyphs.Glyphs.BUILDER_CONFIGS}


def stream(name, split):
    return f"glyphs/{name}/1.0.0/{split}"


def examples(masks, name, split, start, stop):
    style, of = CONFIGS[name].style, stream(name, split)
    labels = glyphs_draws.draw_labels(of, start, stop)
    draws = glyphs_draws.draw(style, of, start, stop)
    return glyphs_images.render(style, masks, labels, draws), labels
