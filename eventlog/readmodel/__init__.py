"""Read models as edges and the command line read them: documents, listings, statuses, the feed, runs."""
