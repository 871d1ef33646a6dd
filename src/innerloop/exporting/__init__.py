"""Export for other runtimes: an adapted network, or the learner itself."""
