"""The door to BentoML, which executes the models that must not run in this process."""
