"""Everything long: what is submitted to the pipelines, how it is watched, and what follows from its end."""
