"""A pretend SLURM: its commands, for tests, which run jobs as processes of this machine. See ``nornir_pools.testing``."""
