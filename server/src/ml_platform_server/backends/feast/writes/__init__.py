"""Writes rows into Feast's online store so that the newest row of an entity wins, whoever writes at the same time.

Pushes and materialization share it: the server and the pipeline's task each import it.
"""
