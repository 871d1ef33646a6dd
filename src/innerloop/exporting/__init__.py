"""What was learnt, for other runtimes: an adapted network, or the learner itself."""
