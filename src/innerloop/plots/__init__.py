"""Pictures of runs, tasks and adaptation."""
