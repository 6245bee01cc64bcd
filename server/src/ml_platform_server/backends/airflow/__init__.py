"""The door to Airflow: pipelines, their runs, and why a run failed."""
