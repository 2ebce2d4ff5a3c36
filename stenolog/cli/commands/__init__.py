"""The commands as they are typed: names, options, help; what they do is imported when they run."""
