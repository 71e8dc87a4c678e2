"""What worker processes import before anything else; Ray knows it by name alone. See `garbage.collect_seldom`."""

from hssl_ray.study.ray.garbage import collect_seldom

collect_seldom()
