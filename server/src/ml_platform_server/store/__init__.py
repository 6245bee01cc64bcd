"""The platform's own small database: keys, deployments, jobs, repeated calls."""
