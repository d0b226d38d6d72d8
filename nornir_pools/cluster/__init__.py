"""The cluster pool: tasks as jobs, results through a shared folder."""
